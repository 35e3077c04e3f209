//! The device that is updated: the one that runs, or a disk or image that somebody has named.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bootctl::active::{active_slot, active_usr, mounted_partitions};
use bootctl::control::{Control, StateReport};
use bootctl::disk::{Access, Disk, DiskError, LOCK_PATIENCE};
use bootctl::exit::Exit;
use bootctl::slot_record::SlotRecordHeader;
use bootctl::transaction::{TransactionError, TransactionLock};
use bootctl::transition::TryCount;
use bootctl::{BlockIo, Slot};

use super::Failure;
use super::status::NewRelease;
use crate::apply::{self, JOURNAL_DIR};
use crate::gates::Reason;
use crate::journal::{Journal, Release, now};
use crate::settings;

/// Where programs that run find each other.
const RUN_DIR: &str = "/run/tandem";

/// Which device, and what replaces what it says of itself.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Disk or image; `None` for the one that runs.
    pub disk: Option<PathBuf>,
    /// Slot that counts as the active one of a disk that does not run.
    pub active: Option<Slot>,
    /// Folder of trusted keys, instead of the active slot's.
    pub keys: Option<PathBuf>,
    pub product: Option<String>,
    pub board: Option<String>,
    /// Folder with journal, history and status; `None` where nothing is remembered.
    pub state: Option<PathBuf>,
    /// Folder with the lock of who keeps the status.
    pub run: Option<PathBuf>,
    /// Root folder whose settings count for a disk that does not run.
    pub root: Option<PathBuf>,
    /// The program with our hidden verbs; our own executable if none.
    pub program: Option<PathBuf>,
}

/// What the disk says about the next boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The active slot is confirmed.
    pub confirmed: bool,
    /// What would be started instead of it.
    pub staged: Option<NewRelease>,
    /// The payload that the active slot was written from, where its record says it.
    pub running: Option<[u8; 32]>,
}

/// What the next boot would start instead of the running slot.
struct Staged {
    slot: Slot,
    release: Release,
    size: u64,
}

impl From<Staged> for NewRelease {
    fn from(staged: Staged) -> Self {
        Self {
            version: staged.release.version,
            size: staged.size,
        }
    }
}

impl Place {
    /// The folders that were not named: those of the device that runs, or for another disk none, except that its
    /// service can be found where it remembers things.
    #[must_use]
    pub fn complete(mut self) -> Self {
        if self.disk.is_none() {
            self.state.get_or_insert_with(|| JOURNAL_DIR.into());
            self.run.get_or_insert_with(|| RUN_DIR.into());
        }
        self.run = self.run.or_else(|| self.state.clone());
        self
    }

    /// What an installation needs to know of it.
    #[must_use]
    pub fn options(&self, check: bool, force: &[Reason]) -> apply::Options {
        apply::Options {
            disk: self.disk.clone(),
            active: self.active,
            keys: self.keys.clone(),
            product: self.product.clone(),
            board: self.board.clone(),
            check,
            force: force.to_vec(),
            root: self.root.clone(),
            state: self.state.clone(),
            resume: true,
        }
    }

    /// The journal, where the device has one.
    #[must_use]
    pub fn journal(&self) -> Option<Journal> {
        self.state.as_deref().map(Journal::load)
    }

    /// Whether the active slot is confirmed, and what is staged. Reads only, and takes no lock.
    ///
    /// # Errors
    /// As [`staged`](Self::staged).
    pub fn boot(&self) -> Result<Boot, Failure> {
        let mut opened = self.open(Access::Read)?;
        let active = opened.active;
        let confirmed = opened.report.state.map(|state| state.get(active));
        Ok(Boot {
            confirmed: confirmed.is_some_and(|active| active.is_confirmed()),
            staged: opened.staged().map(NewRelease::from),
            running: opened
                .control
                .read_slot_record(active)
                .ok()
                .map(|record| record.payload_id),
        })
    }

    /// What is activated and waits for the reboot. Reads only, and takes no lock.
    ///
    /// # Errors
    /// The disk can't be read, or nothing says which slot is active.
    pub fn staged(&self) -> Result<Option<NewRelease>, Failure> {
        Ok(self.boot()?.staged)
    }

    /// Why this device does not install a payload unless somebody asks for it, although it may be installed: it was
    /// left or taken back by hand, or did not prove itself. That is in the journal; where that could not be written, or
    /// a program that has none changed the boot state, the slots show it. Reads only, but for a small file by which it
    /// shows whether another attempt could be noted; takes no lock of the disk.
    ///
    /// # Errors
    /// As [`staged`](Self::staged).
    pub fn reluctance(&self, id: &[u8; 32]) -> Result<Option<&'static str>, Failure> {
        let journal = self.journal();
        if journal.as_ref().is_some_and(|journal| journal.is_left(id)) {
            return Ok(Some("it was taken back by hand"));
        }
        let mut opened = self.open(Access::Read)?;
        let other = opened.active.other();
        let record = opened.control.read_slot_record(other);
        let (Ok(record), Some(state)) = (record, opened.report.state) else {
            return Ok(None);
        };
        if record.payload_id != *id {
            return Ok(None);
        }
        let (active, passive) = (state.get(opened.active), state.get(other));
        if passive.is_confirmed() && passive.priority < active.priority {
            return Ok(Some("this device went back from it"));
        }
        if passive.priority.get() == 0 || passive.is_candidate() {
            return Ok(None);
        }
        let counted = journal.filter(|journal| has_ended(journal, id));
        Ok(match counted.map(|journal| journal.probe()) {
            None => Some("it did not prove itself here"),
            Some(Ok(())) => None,
            Some(Err(error)) => {
                log::warn!("{error}");
                // There would be no end to them.
                Some("it did not prove itself here, and another attempt can't be noted")
            }
        })
    }

    /// How long the device waits after failed attempts before it tries this payload again unasked.
    #[must_use]
    pub fn wait(&self, id: &[u8; 32]) -> Duration {
        let journal = self.journal();
        let attempts = journal.as_ref().and_then(|journal| journal.attempts(id));
        attempts.map_or(Duration::ZERO, |attempts| attempts.wait(now()))
    }

    /// Makes the staged slot unbootable, so that the next boot starts the running one again.
    ///
    /// # Errors
    /// Nothing is staged (3); another operation is under way (5); the running slot is not confirmed (6); I/O.
    pub fn unstage(&self) -> Result<String, Failure> {
        let mut device = self.open(Access::Write)?;
        let _transaction = device.transaction()?;
        let Some(staged) = device.staged() else {
            let text = "cancel update: nothing is staged";
            return Err(Failure::new(Exit::NoUpdate, text));
        };
        let Staged { slot, release, .. } = staged;
        let active = device.active;
        device.commit("cancel update", |control| control.invalidate(active, slot))?;
        self.note(|journal| journal.cancelled(&release, slot));
        Ok(format!(
            "{} in slot {slot} will not be booted; slot {active} stays",
            release.version
        ))
    }

    /// Prefers the other slot from the next boot on.
    ///
    /// # Errors
    /// Another operation is under way (5); the other slot can't be booted (6); I/O.
    pub fn roll_back(&self) -> Result<String, Failure> {
        let mut device = self.open(Access::Write)?;
        let _transaction = device.transaction()?;
        let tries = match &self.disk {
            None => settings::load(Path::new("/")).tries,
            Some(_) => TryCount::DEFAULT.get(),
        };
        let tries = TryCount::new(tries).unwrap_or_default();
        let active = device.active;
        device.commit("roll back", |control| control.rollback(active, tries))?;
        let slot = active.other();
        let version = device
            .control
            .read_slot_record(slot)
            .map_or_else(|_| UNKNOWN.to_owned(), |header| header.version.to_string());
        let left = device.control.read_slot_record(active).ok();
        let left = left.as_ref().map(release);
        self.note(|journal| journal.rolled_back(&version, slot, left));
        Ok(format!(
            "the next boot starts {version} in slot {slot}; reboot to go back to it"
        ))
    }

    /// Changes the journal; one that can't be written stops nothing.
    pub(super) fn note<E: std::fmt::Display>(
        &self,
        change: impl FnOnce(&mut Journal) -> Result<(), E>,
    ) {
        if let Some(mut journal) = self.journal()
            && let Err(error) = change(&mut journal)
        {
            log::warn!("{error}");
        }
    }

    fn open(&self, access: Access) -> Result<Opened, Failure> {
        let path = match &self.disk {
            Some(path) => path.clone(),
            None => active_usr().map_err(no_disk)?.disk_path,
        };
        let disk = Disk::open(&path, access).map_err(Failure::failed)?;
        let running = active_slot(&disk).map_err(Failure::failed)?;
        let mounted = mounted_partitions(&disk).map_err(Failure::failed)?;
        let name = path.display().to_string();
        if self.active.is_some() && !mounted.is_empty() {
            let cause = "--active is for disks of which no partition is mounted";
            let text = format!("choose active slot of {name}: {cause}");
            return Err(Failure::new(Exit::Refused, text));
        }
        let mut control = Control::open(disk).map_err(|error| {
            let exit = error.exit();
            Failure::new(exit, format!("open {name}: {error}"))
        })?;
        let report = control.state().map_err(|error| {
            let exit = error.exit();
            Failure::new(exit, format!("read boot state of {name}: {error}"))
        })?;
        let confirmed = || match report.state {
            Some(state) => state.best_confirmed(),
            None => report.confirmed,
        };
        let active = running.or(self.active).or_else(confirmed).ok_or_else(|| {
            let text = format!("choose active slot of {name}: none is confirmed (--active)");
            Failure::new(Exit::Refused, text)
        })?;
        Ok(Opened {
            control,
            active,
            report,
        })
    }
}

/// Version of a slot without a record.
const UNKNOWN: &str = "unknown";

struct Opened {
    control: Control<Disk>,
    active: Slot,
    report: StateReport,
}

impl Opened {
    fn transaction(&self) -> Result<TransactionLock, Failure> {
        TransactionLock::acquire(self.control.io()).map_err(|error| match error {
            TransactionError::Busy { .. } => Failure::new(Exit::Busy, error),
            error => Failure::failed(error),
        })
    }

    /// A slot that is preferred to the running one, and not merely because its loader could not load it this time.
    fn staged(&mut self) -> Option<Staged> {
        let slot = self.active.other();
        let state = self.report.state?;
        let (active, passive) = (state.get(self.active), state.get(slot));
        let preferred = passive.is_candidate() && passive.priority > active.priority;
        if !preferred || (passive.successful && active.successful) {
            return None;
        }
        Some(match self.control.read_slot_record(slot) {
            Ok(header) => Staged {
                slot,
                size: header.image_size,
                release: release(&header),
            },
            Err(error) => {
                log::info!("read record of slot {slot}: {error}");
                Staged {
                    slot,
                    size: 0,
                    release: Release {
                        id: [0; 32],
                        version: UNKNOWN.to_owned(),
                        rollback_index: 0,
                    },
                }
            }
        })
    }

    /// Changes the boot state under the lock of the whole disk.
    fn commit(
        &mut self,
        verb: &str,
        change: impl FnOnce(
            &mut Control<Disk>,
        )
            -> Result<(), bootctl::control::ControlError<<Disk as BlockIo>::Error>>,
    ) -> Result<(), Failure> {
        let _lock = self.control.io().lock(LOCK_PATIENCE).map_err(|error| {
            let exit = match &error {
                DiskError::Lock { cause, .. } if cause.kind() == ErrorKind::WouldBlock => {
                    Exit::Busy
                }
                _ => Exit::Failed,
            };
            Failure::new(exit, format!("{verb}: {error}"))
        })?;
        change(&mut self.control)
            .map_err(|error| Failure::new(error.exit(), format!("{verb}: {error}")))
    }
}

/// The journal knows that this release was tried here, and how that ended: as long as it knows no end, the release counts
/// as staged there.
fn has_ended(journal: &Journal, id: &[u8; 32]) -> bool {
    let staged = journal.staged_release();
    journal.attempts(id).is_some() && staged.is_none_or(|staged| staged.release.id != *id)
}

fn release(record: &SlotRecordHeader) -> Release {
    Release {
        id: record.payload_id,
        version: record.version.to_string(),
        rollback_index: record.rollback_index,
    }
}

fn no_disk(error: bootctl::active::ActiveError) -> Failure {
    use bootctl::active::ActiveError;
    let exit = match error {
        ActiveError::NoUsrMount | ActiveError::NotAPartition { .. } => Exit::Usage,
        _ => Exit::Failed,
    };
    Failure::new(exit, format!("{error}; name one with --disk"))
}
