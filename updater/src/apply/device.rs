//! What a disk says about itself: its slots, its product and board, the keys it trusts.

use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use bootctl::Slot;
use bootctl::active::{active_slot, mounted_partitions};
use bootctl::control::{Control, StateReport};
use bootctl::disk::{Access, Disk, PartitionIo};
use bootctl::slot_record::SlotRecordHeader;
use bootctl::transition::TryCount;

use super::{ApplyError, JOURNAL_DIR, Options};
use crate::gates::{Device, Refusal};
use crate::health::os_release::OsRelease;
use crate::journal::Journal;
use crate::settings::{self, Settings};
use crate::signature::KeySet;
use crate::{Digest, keys};

/// The artifacts of a board that this program does not know (`--board`).
const DEFAULT_ARTIFACTS: &[&str] = &["usr"];

pub(super) struct OpenDevice {
    pub control: Control<Disk>,
    pub active: Slot,
    pub keys: KeySet,
    pub signatures: NonZeroU8,
    pub tries: TryCount,
    /// Where journal and mark are: only where the disk runs, or where the folder was named.
    pub state_dir: Option<PathBuf>,
    pub journal: Option<Journal>,
    settings: Settings,
    state: StateReport,
    product: String,
    board: String,
    /// What the active slot holds, or why that can't be told.
    running: Result<Running, String>,
    staged: Option<Digest>,
    failure: Option<String>,
}

/// The release in a slot, by its record, or else by its own words.
struct Running {
    version: String,
    rollback_index: u64,
}

impl From<SlotRecordHeader> for Running {
    fn from(record: SlotRecordHeader) -> Self {
        Self {
            version: record.version.to_string(),
            rollback_index: record.rollback_index,
        }
    }
}

impl Running {
    /// One bad sector, where the record was, must not be the end of all updates.
    fn by_its_words(words: &OsRelease) -> Option<Self> {
        Some(Self {
            version: words
                .version
                .clone()
                .filter(|version| !version.is_empty())?,
            rollback_index: words.rollback_index.as_ref()?.parse().ok()?,
        })
    }
}

impl OpenDevice {
    /// Reads what there is to know. Writes nothing.
    pub fn read(disk: Disk, options: &Options) -> Result<Self, ApplyError> {
        let path = disk.path().display().to_string();
        let running_slot = active_slot(&disk).map_err(ApplyError::failed)?;
        let mounted = mounted_partitions(&disk).map_err(ApplyError::failed)?;
        if options.active.is_some() && !mounted.is_empty() {
            return Err(ApplyError::NotAllowed(format!(
                "choose active slot of {path}: --active is for disks of which no partition is mounted"
            )));
        }
        let mut control = Control::open(disk)
            .map_err(|error| ApplyError::control(&format!("open {path}"), &error))?;
        let state = control
            .state()
            .map_err(|error| ApplyError::control(&format!("read boot state of {path}"), &error))?;
        let confirmed = || state.state.and_then(|state| state.best_confirmed());
        let active = running_slot
            .or(options.active)
            .or_else(confirmed)
            .ok_or_else(|| {
                ApplyError::NotAllowed(format!(
                    "choose active slot of {path}: none is confirmed (--active)"
                ))
            })?;
        if mounted.contains(&active.other().partition_number()) {
            let slot = active.other();
            return Err(ApplyError::failed(format!(
                "write slot {slot} of {path}: it is mounted"
            )));
        }
        let runs = running_slot.is_some();
        let (settings, keys, words) = if runs {
            let root = Path::new("/");
            let words = OsRelease::read(root).unwrap_or_default();
            (settings::load(root), running_keys(options)?, words)
        } else {
            offline::read(&mut control, active, options)?
        };
        let settings = match &options.root {
            Some(root) if !runs => settings::load(root),
            _ => settings,
        };
        if keys.is_empty() {
            let suffix = keys::SUFFIX;
            return Err(ApplyError::NoKeys(format!(
                "find keys: slot {active} and OEM of {path} hold no *{suffix} (--keys)"
            )));
        }
        let record = |control: &mut Control<Disk>, slot| {
            let read = control.read_slot_record(slot);
            read.map_err(|error| format!("{error} in slot {slot}"))
        };
        let running = record(&mut control, active)
            .map(Running::from)
            .or_else(|error| {
                let running = Running::by_its_words(&words).ok_or_else(|| error.clone())?;
                log::warn!("{error}; by its own words it holds {}", running.version);
                Ok(running)
            });
        // What the loader would start next.
        let waits = state.state.is_some_and(|state| {
            let passive = state.get(active.other());
            let is_first = passive.priority > state.get(active).priority;
            passive.is_candidate() && !passive.successful && is_first
        });
        let staged = match waits {
            true => record(&mut control, active.other())
                .inspect_err(|error| log::info!("read what is staged: {error}"))
                .map(|header| Digest(header.payload_id))
                .ok(),
            false => None,
        };
        let own = || runs.then(|| PathBuf::from(JOURNAL_DIR));
        let state_dir = options.state.clone().or_else(own);
        let descriptor = control.descriptor();
        let given = |given: &Option<String>, found: &str| given.clone().unwrap_or(found.to_owned());
        Ok(Self {
            product: given(&options.product, descriptor.product.as_str()),
            board: given(&options.board, descriptor.board.as_str()),
            signatures: settings.required_signatures(keys.len()),
            keys,
            tries: TryCount::new(settings.tries).unwrap_or_default(),
            journal: state_dir.as_deref().map(Journal::load),
            state_dir,
            failure: None,
            control,
            active,
            settings,
            state,
            running,
            staged,
        })
    }

    pub const fn passive(&self) -> Slot {
        self.active.other()
    }

    pub fn board(&self) -> &str {
        &self.board
    }

    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the rules ask, for the payload with this id.
    pub fn facts(&mut self, id: Digest) -> Device<'_> {
        self.failure = self
            .journal
            .as_ref()
            .and_then(|journal| journal.refusal(&id.0))
            .map(|failed| failed.reason.cause.as_str().to_owned());
        let confirmed = self
            .state
            .state
            .is_some_and(|state| state.get(self.active).is_confirmed());
        // Only a confirmed slot raises the floor.
        let slot_floor = self.running.as_ref().ok().filter(|_| confirmed);
        let slot_floor = slot_floor.map_or(0, |record| record.rollback_index);
        let journal_floor = self.journal.as_ref().map_or(0, Journal::floor);
        Device {
            product: &self.product,
            board: &self.board,
            group: &self.settings.group,
            artifacts: boards::find(&self.board).map_or(DEFAULT_ARTIFACTS, |board| board.artifacts),
            features: &[],
            version: self.running_version(),
            floor: slot_floor.max(journal_floor),
            capacity: self.control.slot_capacity(self.passive()),
            active_confirmed: confirmed,
            failure: self.failure.as_deref(),
            staged: self.staged,
        }
    }

    pub fn running_version(&self) -> Option<&str> {
        let record = self.running.as_ref().ok()?;
        Some(&record.version)
    }

    /// What this device has in place of what a refusal complains about.
    pub fn explain(&self, refusal: Refusal) -> ApplyError {
        let detail = match &refusal {
            Refusal::Product(_) => format!(": this is `{}`", self.product),
            Refusal::Board(_) => format!(": this is `{}`", self.board),
            Refusal::Group(_) if self.settings.group.is_empty() => ": this is in none".into(),
            Refusal::Group(_) => format!(": this is in `{}`", self.settings.group),
            Refusal::Older(_) | Refusal::MinVersion(_) => {
                let found = |version| format!(": slot {} has {version}", self.active);
                self.running_version().map_or_else(String::new, found)
            }
            Refusal::UnknownVersion(_) => {
                let error = self.running.as_ref().err();
                error.map_or_else(String::new, |error| format!(": {error}"))
            }
            Refusal::RolledBack => {
                let cause = self.failure.as_ref();
                cause.map_or_else(String::new, |cause| format!(": {cause}"))
            }
            _ => String::new(),
        };
        ApplyError::Refused {
            refusal: Box::new(refusal),
            detail,
        }
    }

    /// Opens the passive slot's partition, exclusively where that is possible.
    pub fn open_slot(&self) -> Result<PartitionIo, ApplyError> {
        let slot = self.passive();
        let range = self.control.slot_range(slot);
        let disk = self.control.io();
        disk.partition(slot.partition_number(), range, Access::Write)
            .map_err(ApplyError::failed)
    }
}

fn running_keys(options: &Options) -> Result<KeySet, ApplyError> {
    Ok(match &options.keys {
        Some(folder) => named_keys(folder)?,
        None => keys::load_system(Path::new("/"))?,
    })
}

/// The folder of `--keys` must hold one.
fn named_keys(folder: &Path) -> Result<KeySet, ApplyError> {
    let keys = keys::load(folder)?;
    if keys.is_empty() {
        let (folder, suffix) = (folder.display(), keys::SUFFIX);
        return Err(ApplyError::NoKeys(format!(
            "read keys in {folder}: there is no *{suffix} (--keys)"
        )));
    }
    Ok(keys)
}

/// What a disk that is not running has in its own slot and OEM partitions, never what the host has.
mod offline {
    use bootctl::gpt;

    use super::*;
    use crate::health::os_release;
    use crate::offline::OfflineFiles;

    const SLOT_KEYS: &str = "/lib/tandem/keys.d";
    const OEM_KEYS: &str = "/tandem/keys.d";
    const SLOT_SETTINGS: &str = "/lib/tandem/update.conf";
    const SLOT_OS_RELEASE: &str = "/lib/os-release";

    pub(super) fn read(
        control: &mut Control<Disk>,
        active: Slot,
        options: &Options,
    ) -> Result<(Settings, KeySet, OsRelease), ApplyError> {
        let name = format!("slot {active} of {}", control.io().path().display());
        let slot = open(control, active.partition_number(), &name);
        // With --keys nothing else is needed from a slot, which then need not be one that this program can read.
        let mut slot = match (&options.keys, slot) {
            (Some(_), Err(error)) => {
                log::debug!("{error}");
                None
            }
            (_, slot) => Some(slot?),
        };
        let settings = match &mut slot {
            Some(slot) => {
                let text = settings_text(slot)?;
                Settings::parse(&text, &[], &mut |problem| log::warn!("{problem}"))
            }
            None => Settings::unreadable(),
        };
        let words = slot.as_mut().map(os_release).unwrap_or_default();
        let keys = match (&options.keys, &mut slot) {
            (Some(folder), _) => named_keys(folder)?,
            (None, Some(slot)) => {
                let keys = keys::load_offline(slot, SLOT_KEYS)?;
                if keys.is_empty() {
                    oem_keys(control)?
                } else {
                    keys
                }
            }
            (None, None) => KeySet::new(),
        };
        Ok((settings, keys, words))
    }

    /// Nothing where that can't be read: the slot record comes first.
    fn os_release(slot: &mut OfflineFiles<PartitionIo>) -> OsRelease {
        let text = slot.file(SLOT_OS_RELEASE, os_release::FILE_MAX);
        let text = text.ok().flatten().unwrap_or_default();
        OsRelease::parse(&String::from_utf8_lossy(&text))
    }

    fn settings_text(slot: &mut OfflineFiles<PartitionIo>) -> Result<Vec<u8>, ApplyError> {
        let limit = settings::FILE_MAX as u64;
        let text = slot
            .file(SLOT_SETTINGS, limit)
            .map_err(keys::KeysError::from)?;
        Ok(text.unwrap_or_default())
    }

    fn oem_keys(control: &mut Control<Disk>) -> Result<KeySet, ApplyError> {
        let name = format!("OEM of {}", control.io().path().display());
        let mut oem = open(control, gpt::OEM, &name)?;
        Ok(keys::load_offline(&mut oem, OEM_KEYS)?)
    }

    fn open(
        control: &Control<Disk>,
        number: u32,
        name: &str,
    ) -> Result<OfflineFiles<PartitionIo>, ApplyError> {
        let range = control
            .gpt()
            .partition(number)
            .ok_or_else(|| ApplyError::NoKeys(format!("read keys: {name} is missing (--keys)")))?
            .range();
        let io = control
            .io()
            .partition(number, range, Access::Read)
            .map_err(ApplyError::failed)?;
        Ok(OfflineFiles::open(io, name).map_err(keys::KeysError::from)?)
    }
}
