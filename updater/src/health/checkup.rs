//! One run of health on a disk: what the boot state says about the running slot decides what there is to do.

use std::path::Path;

use bootctl::control::{Control, ControlError};
use bootctl::slot_record::{HeaderError, RecordError, SlotRecordHeader};
use bootctl::{Attributes, BlockIo, BootState, Slot};

use super::evidence::{self, Evidence};
use super::trial::{Failure, Scripts, check_announcement};
use crate::journal::{Journal, Reason, Release};
use crate::settings::Settings;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The running slot was confirmed before, and nothing has happened since.
    Confirmed,
    /// The running slot was confirmed before; the loader came back to it from this release.
    FellBack { version: String, reason: Reason },
    /// The running slot was on trial and is confirmed now.
    Proven,
    /// The running slot is on trial and did not pass.
    Failed {
        failure: Failure,
        /// The loader has another slot to go to, so that a reboot leads somewhere.
        has_alternative: bool,
    },
}

/// Everything that a run needs. The disk is written only through `control`, and never when the running slot is
/// confirmed and all is well.
#[derive(Debug)]
pub struct Checkup<'a, B: BlockIo> {
    pub control: &'a mut Control<B>,
    /// The slot that runs.
    pub active: Slot,
    /// Root of the running system.
    pub root: &'a Path,
    pub settings: &'a Settings,
    pub journal: &'a mut Journal,
}

impl<B: BlockIo> Checkup<'_, B> {
    /// Runs. `confirm` marks the active slot successful, with whatever lock that needs.
    ///
    /// # Errors
    /// The boot state can't be read.
    pub fn run(
        mut self,
        confirm: impl FnOnce(&mut Control<B>, Slot) -> Result<(), Failure>,
    ) -> Result<Verdict, ControlError<B::Error>> {
        let report = self.control.state()?;
        let state = match (report.state, report.lost) {
            (Some(state), _) => state,
            (None, Some(reason)) => return Err(self.control.lost(reason)),
            (None, None) => BootState::default(),
        };
        let since = self.journal.staged_release().map_or(0, |s| s.time);
        let evidence = Evidence::gather(self.root, since);
        if let Some(word) = &evidence.environment {
            log::warn!("the loader says that its environment is {word}");
        }
        if state.get(self.active).successful {
            return Ok(self.confirmed(state, &evidence));
        }
        Ok(match self.trial(&evidence, confirm) {
            Ok(()) => Verdict::Proven,
            Err(failure) => {
                self.record_failure(&failure);
                Verdict::Failed {
                    failure,
                    has_alternative: state.get(self.active.other()).is_candidate(),
                }
            }
        })
    }

    fn confirmed(&mut self, state: BootState, evidence: &Evidence) -> Verdict {
        self.finish_confirmation();
        let passive = self.active.other();
        let verdict = match self.fallback(passive, state.get(passive), evidence) {
            Some((release, reason)) => {
                let version = release.version.clone();
                self.note(|j| j.fell_back(&release, passive, &reason));
                Verdict::FellBack { version, reason }
            }
            None => Verdict::Confirmed,
        };
        if let Some(note) = &evidence.note {
            if verdict == Verdict::Confirmed {
                let text = format!("init could not go on in an earlier boot: {}", note.text);
                log::warn!("{text}");
                self.note(|j| j.result(&text));
            }
            self.remove_note();
        }
        verdict
    }

    /// A cut of power may have come between the boot state, which says that the slot is confirmed, and the journal.
    fn finish_confirmation(&mut self) {
        let Some(staged) = self.journal.staged_release() else {
            return;
        };
        if staged.slot != self.active {
            return;
        }
        let release = staged.release.clone();
        let running = self.control.read_slot_record(self.active);
        if running.is_ok_and(|r| r.payload_id == release.id) {
            let slot = self.active;
            self.note(|j| j.confirmed(&release, slot));
        }
    }

    /// The release that the loader gave up since the last run, and why.
    fn fallback(
        &mut self,
        passive: Slot,
        attributes: Attributes,
        evidence: &Evidence,
    ) -> Option<(Release, Reason)> {
        let skipped = evidence.skipped == Some(passive);
        if attributes.successful {
            if skipped {
                log::warn!("the loader could not load slot {passive}, which is confirmed");
            }
            return None;
        }
        let spent = attributes.priority.get() > 0 && !attributes.is_candidate();
        if !spent && !skipped {
            return None;
        }
        let release = match self.control.read_slot_record(passive) {
            Ok(header) => release(&header),
            Err(error) => {
                log::warn!(
                    "slot {passive} did not prove itself, and what it holds is unknown: {error}"
                );
                return None;
            }
        };
        let staged = self
            .journal
            .staged_release()
            .filter(|s| s.slot == passive && s.release.id == release.id);
        let Some(staged) = staged else {
            // Told before, unless the journal knows nothing about it at all.
            let told = self.journal.failed(&release.id).is_some();
            return (!told).then(|| (release, evidence.explain(passive)));
        };
        let reason = staged.failure.clone();
        let reason = reason.unwrap_or_else(|| evidence.explain(passive));
        Some((release, reason))
    }

    fn trial(
        &mut self,
        evidence: &Evidence,
        confirm: impl FnOnce(&mut Control<B>, Slot) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let slot = self.active;
        let header = self.record()?;
        if let Some(header) = &header {
            let release = release(header);
            self.note(|j| j.booted(&release, slot, &evidence.boot_id));
            check_announcement(self.control, slot, header, self.root, self.settings)?;
        }
        let version = header.as_ref().map_or("", |h| h.version.as_str());
        let environment = vec![("TANDEM_SLOT", slot.as_str()), ("TANDEM_VERSION", version)];
        let scripts = Scripts::new(self.root, self.settings, environment);
        scripts.required()?;
        confirm(self.control, slot)?;
        if let Some(header) = &header {
            let release = release(header);
            self.note(|j| j.confirmed(&release, slot));
        }
        if evidence.note.is_some() {
            self.remove_note();
        }
        // Mere warnings must not be what the deadline, or a power cut, comes in between.
        scripts.wanted();
        Ok(())
    }

    /// The slot record of the running slot. There is none where the slot was activated unverified, by name.
    fn record(&mut self) -> Result<Option<SlotRecordHeader>, Failure> {
        let slot = self.active;
        match self.control.read_slot_record(slot) {
            Ok(header) => Ok(Some(header)),
            Err(RecordError::Header(HeaderError::Absent)) => {
                log::warn!("slot {slot} has no slot record: nobody announced what runs");
                Ok(None)
            }
            Err(error) => Err(Failure::medium(&format!("slot {slot}: {error}"))),
        }
    }

    fn record_failure(&mut self, failure: &Failure) {
        self.note(|j| j.failed_check(&failure.reason));
    }

    /// Changes the journal; a journal that can't be written stops nothing.
    fn note<E: std::fmt::Display>(&mut self, change: impl FnOnce(&mut Journal) -> Result<(), E>) {
        if let Err(error) = change(self.journal) {
            log::error!("{error}; going on without it");
        }
    }

    fn remove_note(&self) {
        if let Err(error) = evidence::remove_note(self.root) {
            log::warn!("remove /{}: {error}", evidence::NOTE);
        }
    }
}

fn release(header: &SlotRecordHeader) -> Release {
    Release {
        id: header.payload_id,
        version: header.version.as_str().to_owned(),
        rollback_index: header.rollback_index,
    }
}
