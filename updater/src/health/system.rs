//! Health on a running system, or on files that stand for one.

use std::io;
use std::path::{self, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bootctl::Slot;
use bootctl::active::{ActiveError, active_usr};
use bootctl::control::{Control, ControlError};
use bootctl::disk::{Access, Disk, DiskError};
use bootctl::exit::Exit;
use bootctl::transaction::{TransactionError, TransactionLock};

use super::checkup::{Checkup, Verdict};
use super::trial::Failure;
use crate::journal::Journal;
use crate::settings;

/// Where the journal is, without the leading slash.
const JOURNAL: &str = "var/lib/tandem";
/// Longest wait for the whole-disk lock, which others hold only around a commit.
const COMMIT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for another operation of ours to end.
const OPERATION_WAIT: Duration = Duration::from_secs(20);
const OPERATION_POLL: Duration = Duration::from_millis(100);

/// The system that is looked at.
#[derive(Clone, Debug)]
pub struct System {
    /// Its root; `/` for the running one.
    pub root: PathBuf,
    pub disk: PathBuf,
    pub active: Slot,
}

/// Why nothing can be said about a system.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HealthError {
    #[error(transparent)]
    Active(#[from] ActiveError),
    #[error(
        "find the running slot: partition {partition} of {disk} at /usr is not a USR partition"
    )]
    NotASlot { disk: PathBuf, partition: u32 },
    #[error("find folder {root}: {cause} (--root)")]
    Root { root: PathBuf, cause: io::Error },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("check {disk}: {source}")]
    Control {
        disk: PathBuf,
        source: ControlError<DiskError>,
    },
}

impl HealthError {
    /// The exit code that a program ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Control { source, .. } => source.exit(),
            _ => Exit::Failed,
        }
    }
}

impl System {
    /// A system that isn't running, with its files below `root`.
    ///
    /// # Errors
    /// `root` is relative and the current folder unknown.
    pub fn at(root: &Path, disk: PathBuf, active: Slot) -> Result<Self, HealthError> {
        // Checks run in the folder `/`, from where a relative path would lead elsewhere.
        let root = path::absolute(root).map_err(|cause| HealthError::Root {
            root: root.to_owned(),
            cause,
        })?;
        Ok(Self { root, disk, active })
    }

    /// The running system. Reads the mount table.
    ///
    /// # Errors
    /// What is mounted at `/usr` is not a slot.
    pub fn running() -> Result<Self, HealthError> {
        let usr = active_usr()?;
        let active = usr.slot().ok_or_else(|| HealthError::NotASlot {
            disk: usr.disk_path.clone(),
            partition: usr.partition,
        })?;
        Ok(Self {
            root: PathBuf::from("/"),
            disk: usr.disk_path,
            active,
        })
    }

    /// Brings the disk in order, then runs health. Writes nothing when the running slot is confirmed and all is well.
    ///
    /// # Errors
    /// The disk or its boot state can't be read.
    pub fn check(&self) -> Result<Verdict, HealthError> {
        let failed = |source| HealthError::Control {
            disk: self.disk.clone(),
            source,
        };
        let disk = open(&self.disk)?;
        let operation = operation_lock(&disk);
        let mut control = Control::open(disk).map_err(failed)?;
        match &operation {
            Ok(_) => sync(&mut control),
            Err(error) => log::warn!("{error}"),
        }
        let settings = settings::load(&self.root);
        let mut journal = Journal::load(&self.root.join(JOURNAL));
        let checkup = Checkup {
            control: &mut control,
            active: self.active,
            root: &self.root,
            settings: &settings,
            journal: &mut journal,
        };
        // Others may begin as soon as the slot is confirmed.
        let verdict = checkup.run(move |control, slot| match operation {
            // Another operation writes nothing while the running slot is on trial, and a commit has a lock of its own: what
            // somebody else is busy with is no reason to give a good release up.
            Ok(_) | Err(TransactionError::Busy { .. }) => confirm(control, slot),
            Err(error) => Err(Failure::medium(&error.to_string())),
        });
        verdict.map_err(failed)
    }
}

/// Opens a disk for writing, or for reading where it can't be written: what a confirmed slot needs is less.
fn open(path: &Path) -> Result<Disk, DiskError> {
    Disk::open(path, Access::Write).or_else(|error| {
        let disk = Disk::open(path, Access::Read)?;
        log::warn!("{error}; opened it for reading only");
        Ok(disk)
    })
}

/// Keeps other operations away; whoever fails to get it writes nothing to the disk.
fn operation_lock(disk: &Disk) -> Result<TransactionLock, TransactionError> {
    let start = Instant::now();
    loop {
        match TransactionLock::acquire(disk) {
            Err(TransactionError::Busy { .. }) if start.elapsed() < OPERATION_WAIT => {
                sleep(OPERATION_POLL);
            }
            result => return result,
        }
    }
}

/// Repairs what the last boot left; what can't be repaired shows in the boot state.
fn sync(control: &mut Control<Disk>) {
    let lock = control.io().lock(COMMIT_WAIT);
    let synced = match &lock {
        Ok(_) => control.sync().map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match synced {
        Ok(report) if report.wrote() => log::info!("repaired {report:?}"),
        Ok(_) => {}
        Err(error) => log::error!("bring the disk in order: {error}"),
    }
}

fn confirm(control: &mut Control<Disk>, slot: Slot) -> Result<(), Failure> {
    let lock = control.io().lock(COMMIT_WAIT);
    let confirmed = match &lock {
        Ok(_) => control.mark_successful(slot).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    confirmed.map_err(|error| Failure::medium(&format!("confirm slot {slot}: {error}")))
}
