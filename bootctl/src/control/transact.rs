//! The transitions on a disk: read, decide, write step by step.

use super::{Authority, Control, ControlError};
use crate::confirmed::ConfirmedRecord;
use crate::gpt::{self, EditError};
use crate::slot_record::{self, RecordError};
use crate::transition::{self, Fallback, Plan, Step, TryCount, mirror_follows};
use crate::{BlockIo, BootState, Slot};

/// What speaks for the content of a slot that is activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The slot must have a valid slot record (header and body).
    Record,
    /// Nothing; the user said so by name.
    Unverified,
}

impl<B: BlockIo> Control<B> {
    /// From now on [`invalidate`](Self::invalidate) and [`activate`](Self::activate) take an active slot that is on
    /// trial. The disk may then hold no confirmed slot at all: only for users who force that by name.
    pub const fn waive_fallback(&mut self) {
        self.fallback = Fallback::Waived;
    }

    /// Makes `slot` unbootable in confirmed record, authority and mirror, each flushed before the next. Only when it
    /// has returned without error may a byte of the slot be written.
    ///
    /// # Errors
    /// Refused when `slot` is active or the active slot is not confirmed; lost environment; I/O.
    pub fn invalidate(&mut self, active: Slot, slot: Slot) -> Result<(), ControlError<B::Error>> {
        let before = self.reload_state()?;
        let plan = transition::mark_unbootable(before, active, slot, self.fallback)?;
        self.execute(before, &plan)
    }

    /// Puts `slot` on trial with `tries` tries: mirror first, the authority last.
    ///
    /// # Errors
    /// Refused when `slot` is active, the active slot is not confirmed, or its proof is missing; lost environment; I/O.
    pub fn activate(
        &mut self,
        active: Slot,
        slot: Slot,
        tries: TryCount,
        proof: Proof,
    ) -> Result<(), ControlError<B::Error>> {
        let before = self.reload_state()?;
        let proven = match proof {
            Proof::Unverified => true,
            Proof::Record => self.has_valid_record(slot)?,
        };
        let plan = transition::activate(before, active, slot, tries, proven, self.fallback)?;
        self.execute(before, &plan)
    }

    /// Confirms the active slot: mirror, authority, confirmed record. Writes nothing when it is confirmed already.
    ///
    /// # Errors
    /// Refused when its priority is 0; lost environment; I/O.
    pub fn mark_successful(&mut self, active: Slot) -> Result<(), ControlError<B::Error>> {
        let before = self.reload_state()?;
        let plan = transition::mark_successful(before, active)?;
        self.execute(before, &plan)
    }

    /// Prefers the passive slot from the next boot on; on trial with `tries` tries when both are confirmed.
    ///
    /// # Errors
    /// Refused when the passive slot is not a candidate; lost environment; I/O.
    pub fn rollback(
        &mut self,
        active: Slot,
        tries: TryCount,
    ) -> Result<(), ControlError<B::Error>> {
        let before = self.reload_state()?;
        let plan = transition::rollback(before, active, tries)?;
        self.execute(before, &plan)
    }

    fn reload_state(&mut self) -> Result<BootState, ControlError<B::Error>> {
        self.reload()?;
        let state = self.read_authority()?.state;
        state.map_err(|reason| self.lost(reason))
    }

    /// Whether header and body of a slot's record are valid. Reads the body.
    fn has_valid_record(&mut self, slot: Slot) -> Result<bool, ControlError<B::Error>> {
        let range = self.slot_range(slot);
        let checked = slot_record::read_header(&mut self.io, range)
            .and_then(|header| slot_record::body_is_intact(&mut self.io, range, &header));
        match checked {
            Ok(()) => Ok(true),
            Err(RecordError::Io(error)) => Err(ControlError::Io(error)),
            Err(error) => {
                log::info!("slot {slot}: {error}");
                Ok(false)
            }
        }
    }

    fn execute(&mut self, before: BootState, plan: &Plan) -> Result<(), ControlError<B::Error>> {
        for step in &plan.steps {
            match step {
                Step::ConfirmedRecord(slot) => self.name_confirmed(*slot)?,
                Step::Mirror(state) => self.write_mirror(before, state)?,
                Step::Authority(state) => {
                    self.write_authority(state)?;
                }
            }
        }
        Ok(())
    }

    /// Where a transition changes nothing, a mirror that lacks only tries spent by the loader stays as it is: to
    /// confirm a confirmed slot costs no write.
    fn write_mirror(
        &mut self,
        before: BootState,
        state: &BootState,
    ) -> Result<(), ControlError<B::Error>> {
        if matches!(self.authority, Authority::Gpt) {
            return Ok(());
        }
        let idle = before == *state
            && !self.gpt.needs_repair()
            && mirror_follows(self.gpt.boot_state()?, *state);
        if !idle {
            self.write_gpt(state)?;
        }
        Ok(())
    }

    fn name_confirmed(&mut self, slot: Slot) -> Result<(), ControlError<B::Error>> {
        let old = self.read_confirmed();
        if old.is_ok_and(|record| record.slot == slot) {
            return Ok(());
        }
        let fresh = old.is_ok_and(|record| record.fresh);
        let record = self.record_for(slot, fresh)?;
        self.write_confirmed(&record)?;
        Ok(())
    }

    /// A confirmed record with the PARTUUIDs that the table holds.
    pub(super) fn record_for(
        &self,
        slot: Slot,
        fresh: bool,
    ) -> Result<ConfirmedRecord, ControlError<B::Error>> {
        let number = gpt::ROOT;
        let root = self
            .gpt
            .partition(number)
            .ok_or(EditError::NoPartition { number })?;
        Ok(ConfirmedRecord {
            slot,
            usr_a: self.gpt.usr(Slot::A)?.unique_guid,
            usr_b: self.gpt.usr(Slot::B)?.unique_guid,
            root: root.unique_guid,
            fresh,
        })
    }
}
