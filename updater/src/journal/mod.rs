//! What this device remembers about its releases: `journal.json` and `history.jsonl` in `/var/lib/tandem`.
//!
//! The journal is replaced atomically, the history is appended to. Every change is made under a lock on the
//! directory, from what is on disk then, so that health and an installation may run at once. Neither file is needed
//! to boot, to install or to confirm a release: a journal that can't be read is moved aside and started anew.

mod attempts;
mod data;
pub mod history;
mod reason;
mod seen;
mod store;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bootctl::Slot;

pub use attempts::{Attempts, Ended, Ending};
pub use data::{Failed, Release, Staged};
pub use reason::{Cause, DETAIL_MAX, Reason};
pub use seen::Seen;
pub use store::JournalError;
pub(crate) use store::replace;

use data::Data;
use history::Event;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The journal of one device, as it was read last.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    data: Data,
}

impl Journal {
    /// Reads `journal.json` in `dir`, or starts an empty one. Touches the disk, but writes only when the file can't
    /// be understood: then it is renamed to `journal.json.corrupt`.
    ///
    /// Never fails: what could not be read is logged, and the journal is empty then.
    #[must_use]
    pub fn load(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            data: store::load(dir),
        }
    }

    /// Whether the journal could be changed now: writes a small file beside it, and removes that.
    ///
    /// # Errors
    /// It could not.
    pub fn probe(&self) -> Result<(), JournalError> {
        store::probe(&self.dir)
    }

    /// Lowest rollback index that may be installed, as far as the journal knows (0 when it knows nothing).
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.data.floor
    }

    /// The release that was staged last and has neither been confirmed nor fallen back.
    #[must_use]
    pub const fn staged_release(&self) -> Option<&Staged> {
        self.data.staged.as_ref()
    }

    /// What is known about a release that fell back, whether or not it is refused for that.
    #[must_use]
    pub fn failed(&self, id: &[u8; 32]) -> Option<&Failed> {
        self.data.failed(id)
    }

    /// Why the release with this payload id is not installed again unless forced (`--force=rolled-back`).
    #[must_use]
    pub fn refusal(&self, id: &[u8; 32]) -> Option<&Failed> {
        self.failed(id).filter(|f| f.is_refused())
    }

    /// Somebody took this payload back or went back from it, so that the device does not install it again unasked.
    #[must_use]
    pub fn is_left(&self, id: &[u8; 32]) -> bool {
        self.data.left.as_ref().is_some_and(|left| left.id == *id)
    }

    /// The attempts to install the payload with this id; `None` if there were none, or it has been confirmed since.
    #[must_use]
    pub fn attempts(&self, id: &[u8; 32]) -> Option<&Attempts> {
        self.data.attempts.iter().find(|a| a.release.id == *id)
    }

    /// Those of the payload that was tried last.
    #[must_use]
    pub fn last_attempts(&self) -> Option<&Attempts> {
        self.data.attempts.last()
    }

    /// Counts an attempt to install a release into `slot`. Durable on return.
    ///
    /// Call it before the slot is touched: an attempt of which nothing more is heard was interrupted.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn attempt(&mut self, release: &Release, slot: Slot) -> Result<(), JournalError> {
        let event = Event::new("attempt", now()).release(release).slot(slot);
        self.update(event, |data, time| {
            attempts::begin(&mut data.attempts, release.clone(), time);
            data.take_up(&release.id);
        })
    }

    /// Records how the attempt ended that was counted last, unless the release was staged, which
    /// [`staged`](Self::staged) does. Durable on return.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn ended(
        &mut self,
        release: &Release,
        ended: Ended,
        detail: &str,
    ) -> Result<(), JournalError> {
        let detail_with_kind = format!("{}: {detail}", ended.as_str());
        let event = Event::new("attempt-failed", now())
            .release(release)
            .detail(&detail_with_kind);
        self.update(event, |data, time| {
            attempts::end(&mut data.attempts, &release.id, ended, time, detail);
            data.set_result(&format!("{} was not installed: {detail}", release.version));
        })
    }

    /// How the last operation ended, in one line of text; empty when there was none.
    #[must_use]
    pub fn last_result(&self) -> &str {
        &self.data.last_result
    }

    /// The release that fell back last and has not proven itself since, with the reason.
    #[must_use]
    pub fn last_fallback(&self) -> Option<&Failed> {
        self.data.failed.last()
    }

    /// The newest release that this device has seen signed by keys that it trusts. Whoever withholds newer ones can't be
    /// stopped, but this shows it: see [`Seen::age`].
    #[must_use]
    pub const fn newest_signed(&self) -> Option<&Seen> {
        self.data.newest_signed.as_ref()
    }

    /// Records that trusted keys vouch for a release, whether or not it is taken. Durable on return; writes nothing
    /// unless it is the newest one.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn seen(&mut self, release: &Release, created: Option<&str>) -> Result<(), JournalError> {
        let seen = Seen::new(release.clone(), created, now());
        self.update(None, |data, _| data.see(seen))
    }

    /// Records that a release is about to be activated in `slot`. Durable on return.
    ///
    /// Call it before `activate`: an entry whose slot never became bootable means nothing, whereas a release that
    /// fell back without an entry is blamed one attempt late.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn staged(&mut self, release: &Release, slot: Slot) -> Result<(), JournalError> {
        let event = Event::new("staged", now()).release(release).slot(slot);
        self.update(event, |data, time| {
            data.stage(release.clone(), slot, time);
            if let Some(staged) = &mut data.staged {
                staged.staged_in = boot_id();
            }
        })
    }

    /// Counts a boot of a release on trial, once per `boot_id` (every time when that is empty). Durable on return.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn booted(
        &mut self,
        release: &Release,
        slot: Slot,
        boot_id: &str,
    ) -> Result<(), JournalError> {
        let event = Event::new("trial-boot", now()).release(release).slot(slot);
        self.update(event, |data, time| {
            data.boot(release.clone(), slot, boot_id, time);
        })
    }

    /// Records why the release on trial did not prove itself in this boot. Durable on return.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn failed_check(&mut self, reason: &Reason) -> Result<(), JournalError> {
        let mut event = Event::new("check-failed", now()).reason(reason);
        if let Some(staged) = &self.data.staged {
            event = event.release(&staged.release).slot(staged.slot);
        }
        self.update(event, |data, _| data.fail_check(reason.clone()))
    }

    /// Records that a release has proven itself, raises the floor to its rollback index and forgives what it did
    /// before. Durable on return; writes nothing when it is known already.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn confirmed(&mut self, release: &Release, slot: Slot) -> Result<(), JournalError> {
        let event = Event::new("confirmed", now()).release(release).slot(slot);
        self.update(event, |data, _| data.confirm(release))
    }

    /// Records that the loader gave up `slot` and went back to the other one. Durable on return.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn fell_back(
        &mut self,
        release: &Release,
        slot: Slot,
        reason: &Reason,
    ) -> Result<(), JournalError> {
        let event = Event::new("fell-back", now())
            .release(release)
            .slot(slot)
            .reason(reason);
        self.update(event, |data, time| {
            data.fall_back(release.clone(), reason.clone(), time);
        })
    }

    /// Records that a staged release was taken back before it was booted. Durable on return.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn cancelled(&mut self, release: &Release, slot: Slot) -> Result<(), JournalError> {
        let event = Event::new("cancelled", now()).release(release).slot(slot);
        self.update(event, |data, _| {
            data.unstage(&release.id);
            data.left = Some(release.clone());
            data.set_result(&format!("cancelled {} in slot {slot}", release.version));
        })
    }

    /// Records that somebody wants `slot` back, with the version that it holds, in place of `left`. Durable on return.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn rolled_back(
        &mut self,
        version: &str,
        slot: Slot,
        left: Option<Release>,
    ) -> Result<(), JournalError> {
        let text = format!("rolled back to {version} in slot {slot}");
        let event = Event::new("rolled-back", now()).slot(slot).detail(&text);
        self.update(event, |data, _| {
            data.left = left;
            data.set_result(&text);
        })
    }

    /// Records how an operation ended that changed nothing else here, such as a refused payload.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn result(&mut self, text: &str) -> Result<(), JournalError> {
        let event = Event::new("result", now()).detail(text);
        self.update(event, |data, _| data.set_result(text))
    }

    fn update(
        &mut self,
        event: impl Into<Option<Event>>,
        change: impl FnOnce(&mut Data, u64),
    ) -> Result<(), JournalError> {
        let _lock = store::lock(&self.dir)?;
        let before = store::load(&self.dir);
        let mut after = before.clone();
        change(&mut after, now());
        if after != before {
            store::save(&self.dir, &after)?;
            // A lost line of history costs nobody a decision.
            if let Some(event) = event.into()
                && let Err(error) = history::append(&self.dir, &event)
            {
                log::warn!("{error}");
            }
        }
        self.data = after;
        Ok(())
    }
}

/// The kernel's id of this boot; empty where there is none.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string(BOOT_ID);
    let id = id.inspect_err(|error| log::info!("read {BOOT_ID}: {error}"));
    id.unwrap_or_default().trim().to_owned()
}

/// Seconds since 1970, 0 while the clock is before that.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests;
