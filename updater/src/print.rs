//! What our programs print. A pipe that was closed, or a full disk under a log, must neither end an installation nor
//! change its exit code, so nothing here fails.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use bootctl::exit::one_line;
use log::LevelFilter;

/// One line on standard output.
pub fn say(line: impl Display) {
    if let Err(error) = writeln!(stdout().lock(), "{line}") {
        log::warn!("write to standard output: {error}");
    }
}

/// One line on standard error.
pub fn complain(line: impl Display) {
    // There is nobody left to tell.
    let line = one_line(&line.to_string());
    let _ = writeln!(stderr().lock(), "{line}");
}

/// Starts the log on standard error: warnings, with `verbose` 1 more, from 2 on everything; `RUST_LOG` overrides.
pub fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .parse_default_env()
        .init();
}
