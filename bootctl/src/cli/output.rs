//! Standard output: a closed pipe is an error, not a panic.

use std::io::{self, Write};

use serde::Serialize;

use super::error::CliError;

/// Prints text as it is.
pub fn text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints one JSON object and a newline.
pub fn json(value: &impl Serialize) -> Result<(), CliError> {
    let mut line = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    line.push('\n');
    text(&line)
}
