//! `update_engine_client`: asks for updates and tells what the updater is doing.

mod arguments;
mod live;
mod show;
mod talk;

use std::env::args_os;
use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = args_os().map(arguments::with_two_dashes);
    arguments::Arguments::parse_from(arguments).run().into()
}
