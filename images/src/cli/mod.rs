//! Command lines of `tandem-image`: one file for each group of commands.

/// Prints like `format!` to standard output; a closed pipe is an error, not a panic.
macro_rules! say {
    ($($arg:tt)*) => { $crate::cli::print(&format!($($arg)*))? };
}

mod build;
mod payload;
mod size;
mod usr;
mod write;

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

pub use size::Size;

/// Makes keys, images, disks and payloads for devices that Tandem updates.
///
/// Exit codes: 0 done, 1 I/O or a failing tool, 2 usage, 6 refused, 7 verification failed.
#[derive(Debug, Parser)]
#[command(name = "tandem-image", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Keygen(usr::Keygen),
    Usr(usr::Usr),
    Build(Box<build::Build>),
    Payload(Box<payload::Payload>),
    Attach(payload::Attach),
    Inspect(payload::Inspect),
    Write(write::Write),
}

impl Cli {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Keygen(args) => args.run(),
            Command::Usr(args) => args.run(),
            Command::Build(args) => args.run(),
            Command::Payload(args) => args.run(),
            Command::Attach(args) => args.run(),
            Command::Inspect(args) => args.run(),
            Command::Write(args) => args.run(),
        }
    }
}

/// The exit code of a failure: what the outermost typed cause says, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<images::Failure>())
        .map_or(1, images::Failure::exit_code)
}

/// `SOURCE_DATE_EPOCH` in seconds, if it is set.
fn source_date() -> Result<Option<u64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(None),
        Ok(text) => text.parse().map(Some).with_context(|| {
            format!("read SOURCE_DATE_EPOCH: {text:?} is not a number of seconds")
        }),
    }
}

/// The time that files of an image get.
fn image_time() -> Result<u32> {
    match source_date()? {
        None => Ok(images::DEFAULT_TIME),
        Some(seconds) => match u32::try_from(seconds) {
            Ok(seconds @ 1..=0x7FFF_FFFF) => Ok(seconds),
            _ => bail!("use SOURCE_DATE_EPOCH: {seconds} is not from 1 to 2147483647"),
        },
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("write to standard output")
}

fn warn_all(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}

/// The day of a time in seconds since 1970, as `2026-11-21`.
fn date(seconds: u64) -> String {
    // Civil date from a count of days, with years that begin in March so that leap days come last.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn dates_agree_with_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_577_836_800, "2020-01-01"),
            (1_795_219_200, "2026-11-21"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
