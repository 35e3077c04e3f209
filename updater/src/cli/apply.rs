//! `update_engine apply`.

use std::io::stdin;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use bootctl::Slot;
use bootctl::exit::Exit;
use updater::apply::{Options, apply};
use updater::attendance::Attendance;
use updater::gates::Reason;
use updater::source::Source;

use super::Failure;
use super::print::say;
use super::progress::Progress;

/// Applies one payload to one disk: what is not given comes from the disk's descriptor and its active slot.
///
/// Exit codes: 0 done, 1 I/O or download cut off, 2 usage, 3 no update, 4 already staged, 5 busy, 6 refused,
/// 7 verification failed (a payload that ends too early too, from a file or from standard input).
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Payload to apply, - for standard input.
    #[arg(long, value_name = "FILE|-")]
    payload: PathBuf,
    /// Disk or disk image; the disk that runs if not given.
    #[arg(long, value_name = "DEV|IMAGE")]
    disk: Option<PathBuf>,
    /// Slot that counts as active on a disk that does not run.
    #[arg(long, value_name = "a|b")]
    active: Option<Slot>,
    /// Folder of trusted keys (*.pub.pem), instead of those of the active slot.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Product that the payload must be for, instead of the disk's.
    #[arg(long)]
    product: Option<String>,
    /// Board that the payload must be for, instead of the disk's.
    #[arg(long)]
    board: Option<String>,
    /// Do everything but write.
    #[arg(long)]
    check: bool,
    /// Rules to override: downgrade (older version, lower index, min_version), rolled-back (it failed here before),
    /// on-trial (the active slot is not confirmed), board (health will not confirm it where the disk is for another one),
    /// same (it runs or is staged already).
    #[arg(long, value_name = "REASON,…", value_delimiter = ',')]
    force: Vec<Reason>,
    /// Keep the hardware watchdog armed meanwhile: a machine that hangs while it writes is reset, and so is one whose
    /// update_engine is killed.
    #[arg(long, conflicts_with_all = ["disk", "check"])]
    watchdog: bool,
    /// Print what was done as one line of JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Applies the payload and prints what was done.
    pub fn run(self, verbose: bool) -> Result<Exit, Failure> {
        let source = open(&self.payload).map_err(|error| Failure {
            exit: Exit::Failed,
            error: anyhow!("open payload {}: {error}", self.payload.display()),
        })?;
        let options = Options {
            disk: self.disk,
            active: self.active,
            keys: self.keys,
            product: self.product,
            board: self.board,
            check: self.check,
            force: self.force,
            root: None,
            state: None,
            resume: true,
        };
        let attendance = match options.disk.is_none() && !options.check {
            false => Attendance::nobody(),
            true => Attendance::begin(self.watchdog).map_err(|error| Failure {
                exit: Exit::Failed,
                error: error.into(),
            })?,
        };
        let result = apply(source, &options, &mut Progress::new(verbose));
        attendance.end(result.is_err());
        let outcome = result.map_err(|error| Failure {
            exit: error.exit(),
            error: error.into(),
        })?;
        match self.json {
            true => say(outcome.to_json()),
            false => say(outcome),
        }
        Ok(Exit::Done)
    }
}

fn open(path: &Path) -> std::io::Result<Source> {
    match path == Path::new("-") {
        true => Ok(Source::stream(stdin())),
        false => Source::open(path),
    }
}
