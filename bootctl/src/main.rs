//! `tandem-bootctl`: shows and changes the boot state of a disk.
#![deny(unsafe_code)]

mod cli;

use std::io::{Write, stderr};
use std::process::ExitCode;

use bootctl::exit::one_line;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    cli::start_log(arguments.verbose);
    match cli::run(&arguments) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // Without standard error the exit code still tells.
            let line = one_line(&format!("{}: {error}", arguments.object()));
            let _ = writeln!(stderr().lock(), "{line}");
            error.exit().into()
        }
    }
}
