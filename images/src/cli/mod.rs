//! Command lines of `tandem-image`: one file for each group of commands.

mod size;
mod usr;

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
}

impl Cli {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Keygen(args) => args.run(),
            Command::Usr(args) => args.run(),
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

fn warn_all(warnings: &[String]) {
    for warning in warnings {
        log::warn!("{warning}");
    }
}
