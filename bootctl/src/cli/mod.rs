//! The command line: what can be asked, and who answers.

mod change;
mod error;
mod json;
mod output;
mod reset;
mod show;
mod status;
mod target;
mod verify;

use std::path::PathBuf;

use bootctl::Slot;
use bootctl::exit::Exit;
use bootctl::transition::TryCount;
use clap::{Parser, Subcommand};

use self::change::Change;
use self::error::CliError;

/// Shows and changes which slot a disk boots.
///
/// Exit codes: 0 done, 1 I/O, store or partition table failed, 2 usage, 5 busy, 6 refused, 7 verification failed.
#[derive(Debug, Parser)]
#[command(name = "tandem-bootctl", version, max_term_width = 100)]
pub struct Arguments {
    /// Disk or image of one; the disk under /usr if not given
    #[arg(long, global = true, value_name = "DEV|IMAGE")]
    disk: Option<PathBuf>,
    /// Slot that counts as active on a disk that is not running; the best confirmed one if not given
    #[arg(long, global = true, value_name = "a|b")]
    active: Option<Slot>,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Log more (twice: everything); RUST_LOG says it more exactly
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Both slots with version and attributes, table, environment, last result (the default)
    Status,
    /// The partition table, as `cgpt show` prints it
    Show,
    /// The slot that the loader tries first
    Next,
    /// Compare the content of a slot with its slot record; of both if none is named
    Verify {
        /// `a` or `b`
        slot: Option<Slot>,
    },
    /// Put a slot on trial from the next boot on
    Activate {
        /// `a` or `b`, not the active one
        slot: Slot,
        /// Boots that it gets to prove itself, 1 to 9
        #[arg(long, value_parser = try_count, default_value = "3", value_name = "N")]
        tries: TryCount,
        /// Do not ask for a valid slot record
        #[arg(long)]
        unverified: bool,
    },
    /// Confirm the active slot
    MarkSuccessful,
    /// Take a slot out of the selection
    MarkUnbootable {
        /// `a` or `b`, not the active one
        slot: Slot,
    },
    /// Prefer the passive slot from the next boot on
    Rollback {
        /// Boots that it gets to prove itself if both slots are confirmed, 1 to 9
        #[arg(long, value_parser = try_count, default_value = "3", value_name = "N")]
        tries: TryCount,
    },
    /// Rebuild a damaged partition table, environment or confirmed record
    Repair,
    /// Repair, then make the GPT attributes follow the loader's store; for every boot
    Sync,
}

impl Verb {
    const fn name(&self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Show => "show",
            Self::Next => "next",
            Self::Verify { .. } => "verify",
            Self::Activate { .. } => "activate",
            Self::MarkSuccessful => "mark-successful",
            Self::MarkUnbootable { .. } => "mark-unbootable",
            Self::Rollback { .. } => "rollback",
            Self::Repair => "repair",
            Self::Sync => "sync",
        }
    }
}

impl Arguments {
    fn verb(&self) -> &Verb {
        self.verb.as_ref().unwrap_or(&Verb::Status)
    }

    /// Verb and object, for an error: `activate b`, `status disk.img`.
    pub fn object(&self) -> String {
        let verb = self.verb();
        match (verb, &self.disk) {
            (
                Verb::Activate { slot, .. }
                | Verb::MarkUnbootable { slot }
                | Verb::Verify { slot: Some(slot) },
                _,
            ) => format!("{} {slot}", verb.name()),
            (_, Some(disk)) => format!("{} {}", verb.name(), disk.display()),
            _ => verb.name().to_owned(),
        }
    }
}

/// Answers one call.
pub fn run(arguments: &Arguments) -> Result<Exit, CliError> {
    let change = match *arguments.verb() {
        Verb::Status => return status::run(arguments),
        Verb::Show => return show::run(arguments),
        Verb::Next => return status::next(arguments),
        Verb::Verify { slot } => return verify::run(arguments, slot),
        Verb::Repair => return change::repair(arguments, false),
        Verb::Sync => return change::repair(arguments, true),
        Verb::Activate {
            slot,
            tries,
            unverified,
        } => Change::Activate {
            slot,
            tries,
            unverified,
        },
        Verb::MarkSuccessful => Change::MarkSuccessful,
        Verb::MarkUnbootable { slot } => Change::MarkUnbootable { slot },
        Verb::Rollback { tries } => Change::Rollback { tries },
    };
    change::run(arguments, change)
}

/// Logs to standard error, warnings and worse unless somebody asks for more.
pub fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "trace",
    };
    let environment = env_logger::Env::default().default_filter_or(level);
    env_logger::Builder::from_env(environment)
        .format_timestamp(None)
        .init();
}

fn try_count(text: &str) -> Result<TryCount, String> {
    let number = text.parse().ok().and_then(TryCount::new);
    number.ok_or_else(|| "a number from 1 to 9 is needed".to_owned())
}
