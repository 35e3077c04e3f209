//! `update_engine_client`: asks for updates and tells what the updater is doing.

mod arguments;
mod live;
mod remembered;
mod show;
mod talk;

use std::env::args_os;
use std::process::ExitCode;

use clap::Parser;
use updater::fetch;
use updater::print::complain;

fn main() -> ExitCode {
    // A download is a process of its own, also where no service runs.
    if args_os().nth(1).is_some_and(|word| word == fetch::VERB) {
        return match fetch::run_child() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(format_args!("run the download process: {error}"));
                ExitCode::FAILURE
            }
        };
    }
    let arguments = args_os().map(arguments::with_two_dashes);
    arguments::Arguments::parse_from(arguments).run().into()
}
