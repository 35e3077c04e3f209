//! `tandem-image`: keys, images, disks and payloads, on a developer's machine.
#![deny(unsafe_code)]

mod cli;

use std::io::{Write, stderr};
use std::process::ExitCode;

use bootctl::exit::one_line;
use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp(None)
        .format_target(false)
        .init();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error the exit code still tells.
            let line = one_line(&format!("tandem-image: {error:#}"));
            let _ = writeln!(stderr().lock(), "{line}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
