//! What an installation leaves in the state directory: the mark while it runs, the journal's entry before it ends.

use std::path::Path;
use std::time::{Duration, Instant};

use bootctl::Slot;

use super::ApplyError;
use crate::engine::{Observer, Phase};
use crate::gates::Admitted;
use crate::journal::{Ended, Journal, Release};
use crate::manifest::Manifest;
use crate::resume::{self, Keeper, Mark};
use crate::signature::Verified;

/// Pause between two moves of the mark, each of which costs the file system some flushes. What lies behind it is found
/// again all the same.
const MARK_EVERY: Duration = Duration::from_secs(2);

/// The mark of an earlier attempt to put this release into this slot. Any other is removed, because the slot is about to
/// be written.
pub(super) fn mark(dir: &Path, release: &Admitted, slot: Slot) -> Option<Mark> {
    let mark = resume::load_mark(dir);
    let same = |mark: &Mark| mark.id == release.manifest().id() && mark.slot == slot;
    let mark = mark.filter(same);
    if mark.is_none() {
        forget(dir);
    }
    mark
}

/// Keeps the mark from now on. Installing does not need it.
pub(super) fn keeper(dir: &Path, mark: Mark, prefix: &[u8]) -> Option<Keeper> {
    if let Some(keeper) = Keeper::continued(dir, &mark) {
        return Some(keeper);
    }
    let keeper = Keeper::begin(dir, mark, prefix);
    keeper
        .inspect_err(|error| {
            log::warn!(
                "write mark in {}: {error} (this update can't be resumed)",
                dir.display()
            );
        })
        .ok()
}

/// The mark is of no use any more.
pub(super) fn forget(dir: &Path) {
    if let Err(error) = resume::remove(dir) {
        log::warn!("remove mark in {}: {error}", dir.display());
    }
}

/// Counts an attempt. Nothing of what follows needs the journal.
pub(super) fn attempt(journal: Option<&mut Journal>, release: &Release, slot: Slot) {
    let noted = journal.map(|journal| journal.attempt(release, slot));
    if let Some(Err(error)) = noted {
        log::warn!("{error}");
    }
}

/// Notes why an attempt failed.
pub(super) fn ended(journal: Option<&mut Journal>, release: &Release, error: &ApplyError) {
    let ended = match error {
        ApplyError::Engine(error) => error.blames(),
        _ => Ended::Medium,
    };
    let noted = journal.map(|journal| journal.ended(release, ended, &error.to_string()));
    if let Some(Err(error)) = noted {
        log::warn!("{error}");
    }
}

/// Notes how far the slot is, and what is about to be activated.
pub(super) struct Noting<'a> {
    pub inner: &'a mut dyn Observer,
    pub journal: Option<&'a mut Journal>,
    pub keeper: Option<Keeper>,
    /// When the mark was moved last.
    pub moved: Option<Instant>,
}

impl Observer for Noting<'_> {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        self.inner.progress(phase, done, total);
    }

    fn cancelled(&self) -> bool {
        self.inner.cancelled()
    }

    fn durable(&mut self, release: &Admitted, blocks: u64) {
        let is_due = self.moved.is_none_or(|at| at.elapsed() >= MARK_EVERY);
        if let Some(keeper) = self.keeper.as_mut().filter(|_| is_due) {
            self.moved = Some(Instant::now());
            if let Err(error) = keeper.moved(blocks) {
                log::warn!("move mark: {error}");
            }
        }
        self.inner.durable(release, blocks);
    }

    fn staging(&mut self, release: &Admitted, slot: Slot) {
        self.inner.staging(release, slot);
        let Some(journal) = &mut self.journal else {
            return;
        };
        // Neither booting nor confirming needs the journal.
        if let Err(error) = journal.staged(&of(release), slot) {
            log::warn!("{error}");
        }
    }
}

/// The release as the journal names it.
pub(super) fn of(release: &Admitted) -> Release {
    named(release.manifest())
}

/// The same for a release that the device need not want.
pub(super) fn named(manifest: &Verified<Manifest>) -> Release {
    Release {
        id: manifest.id().0,
        version: manifest.version.to_string(),
        rollback_index: manifest.rollback_index,
    }
}
