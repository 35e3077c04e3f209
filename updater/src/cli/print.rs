//! What is printed. A pipe that was closed, or a full disk under a log, must neither end an installation nor change its
//! exit code, so nothing here fails.

use std::fmt::Display;
use std::io::{Write, stderr, stdout};

use bootctl::exit::one_line;

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
