//! `tandem-bootctl`: shows and changes the boot state of a disk.
#![deny(unsafe_code)]

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    cli::start_log(arguments.verbose);
    match cli::run(&arguments) {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("{}: {error}", arguments.object());
            error.exit().into()
        }
    }
}
