//! `update_engine`: installs releases and judges the running one.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::Arguments::parse().run().into()
}
