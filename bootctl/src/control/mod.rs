//! One disk under control: its boot state read, changed and repaired in the order that survives a power cut.
//!
//! Every operation that writes reads the table and the stores again first, so that it may follow a long pause; who
//! shares the disk with others holds the whole-disk lock around it. An error stops an operation where it is: whatever
//! it has not done yet is not done.

mod error;
mod identity;
mod layout;
mod repair;
mod transact;

pub use error::ControlError;
pub use layout::LayoutError;
pub use repair::RepairReport;
pub use transact::Proof;

use self::layout::{Authority, OemConfig};
use crate::confirmed::{CONFIRMED_BYTES, ConfirmedError, ConfirmedRecord};
use crate::descriptor::{DESCRIPTOR_BYTES, Descriptor};
use crate::gpt::{Copies, Gpt, LbaRange};
use crate::slot_record::{self, RecordError, SlotRecordHeader};
use crate::store::{self, GptStore, Reading, SlotStore};
use crate::transition::Fallback;
use crate::vars::LostReason;
use crate::{BlockIo, BootState, Slot};

/// What the disk says about its boot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateReport {
    /// The state in the store that the loader reads; `None` when that is lost.
    pub state: Option<BootState>,
    /// Why it is lost.
    pub lost: Option<LostReason>,
    /// The loader can read its store, but a copy of it is damaged or it could not change it.
    pub degraded: bool,
    /// The state in the GPT attributes, where another store is the authority.
    pub mirror: Option<BootState>,
    /// The slot of the confirmed record, if that is readable.
    pub confirmed: Option<Slot>,
    pub confirmed_record: Result<ConfirmedRecord, ConfirmedError>,
    /// What was found where the two copies of the table should be.
    pub copies: Copies,
    /// The backup table is in the last sectors of the disk.
    pub backup_at_end: bool,
}

impl StateReport {
    /// The slot that the loader tries first; the confirmed record's when the environment is lost.
    #[must_use]
    pub fn next(&self) -> Option<Slot> {
        self.state.map_or(self.confirmed, |state| state.next())
    }
}

/// A disk of ours. Holds about 60 KiB.
#[derive(Debug)]
pub struct Control<B: BlockIo> {
    io: B,
    gpt: Gpt,
    slots: [LbaRange; 2],
    oem_config: OemConfig,
    descriptor: Descriptor,
    authority: Authority,
    fallback: Fallback,
}

impl<B: BlockIo> Control<B> {
    /// Reads the table and the disk descriptor. Writes nothing.
    ///
    /// # Errors
    /// I/O; no valid table; a disk without our partitions or descriptor.
    pub fn open(mut io: B) -> Result<Self, ControlError<B::Error>> {
        let gpt = Gpt::read(&mut io)?;
        let oem_config = OemConfig::of(&gpt)?;
        let mut record = [0; DESCRIPTOR_BYTES];
        store::read_span(&mut io, oem_config.descriptor(), &mut record)
            .map_err(ControlError::Io)?;
        let descriptor =
            Descriptor::decode(&record, oem_config.length).map_err(LayoutError::Descriptor)?;
        let authority = oem_config.authority(&descriptor, &gpt)?;
        Ok(Self {
            slots: slots(&gpt)?,
            io,
            gpt,
            oem_config,
            descriptor,
            authority,
            fallback: Fallback::Required,
        })
    }

    /// The disk, for what is not Control's business.
    pub const fn io(&self) -> &B {
        &self.io
    }

    /// The disk, for what is not Control's business.
    pub const fn io_mut(&mut self) -> &mut B {
        &mut self.io
    }

    /// Gives the disk back.
    pub fn into_inner(self) -> B {
        self.io
    }

    /// The disk's descriptor, as read by [`open`](Self::open).
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The partition table as last read.
    pub const fn gpt(&self) -> &Gpt {
        &self.gpt
    }

    /// The sectors of a slot's partition, image and slot record.
    pub const fn slot_range(&self, slot: Slot) -> LbaRange {
        match slot {
            Slot::A => self.slots[0],
            Slot::B => self.slots[1],
        }
    }

    /// Largest image that a slot takes, in bytes.
    pub fn slot_capacity(&self, slot: Slot) -> u64 {
        slot_record::capacity(&self.io, self.slot_range(slot))
    }

    /// Reads the slot store and the confirmed record; the table is as last read.
    ///
    /// # Errors
    /// I/O. A lost environment or a damaged record is part of the report.
    pub fn state(&mut self) -> Result<StateReport, ControlError<B::Error>> {
        let reading = self.read_authority()?;
        let record = self.read_confirmed();
        let mirror = match self.authority {
            Authority::Gpt => None,
            _ => Some(self.gpt.boot_state()?),
        };
        Ok(StateReport {
            state: reading.state.ok(),
            lost: reading.state.err(),
            degraded: reading.degraded,
            mirror,
            confirmed: record.ok().map(|record| record.slot),
            confirmed_record: record,
            copies: self.gpt.copies(),
            backup_at_end: self.gpt.backup_at_end(),
        })
    }

    /// Reads the header of a slot's record. Reads one sector.
    ///
    /// # Errors
    /// I/O; no valid header.
    pub fn read_slot_record(
        &mut self,
        slot: Slot,
    ) -> Result<SlotRecordHeader, RecordError<B::Error>> {
        let range = self.slot_range(slot);
        slot_record::read_header(&mut self.io, range)
    }

    /// Reads the body that belongs to `header` into `body`, whose length must be `header.body_len`.
    ///
    /// # Errors
    /// I/O; another length; a CRC that differs.
    pub fn read_slot_record_body(
        &mut self,
        slot: Slot,
        header: &SlotRecordHeader,
        body: &mut [u8],
    ) -> Result<(), RecordError<B::Error>> {
        let range = self.slot_range(slot);
        slot_record::read_body(&mut self.io, range, header, body)
    }

    /// Wipes a slot's record and flushes. The caller holds the slot and has invalidated it.
    ///
    /// # Errors
    /// I/O.
    pub fn wipe_slot_record(&mut self, slot: Slot) -> Result<(), RecordError<B::Error>> {
        let range = self.slot_range(slot);
        slot_record::wipe(&mut self.io, range)
    }

    /// Writes a slot's record and flushes. The caller has read the slot back and compared it.
    ///
    /// # Errors
    /// I/O; a body that the header does not describe.
    pub fn write_slot_record(
        &mut self,
        slot: Slot,
        header: &SlotRecordHeader,
        body: &[u8],
    ) -> Result<(), RecordError<B::Error>> {
        let range = self.slot_range(slot);
        slot_record::write(&mut self.io, range, header, body)
    }

    /// Reads the table again: somebody else may have changed it.
    fn reload(&mut self) -> Result<(), ControlError<B::Error>> {
        self.gpt = Gpt::read(&mut self.io)?;
        self.slots = slots(&self.gpt)?;
        self.oem_config = OemConfig::of(&self.gpt)?;
        self.authority = self.oem_config.authority(&self.descriptor, &self.gpt)?;
        Ok(())
    }

    fn read_authority(&mut self) -> Result<Reading, ControlError<B::Error>> {
        let Self { io, gpt, .. } = self;
        Ok(match &mut self.authority {
            Authority::Gpt => GptStore { gpt }.read(io)?,
            Authority::GrubBlock(store) => store.read(io)?,
            Authority::UbootEnv(store) => store.read(io)?,
            Authority::Redundant(store) => store.read(io)?,
        })
    }

    fn write_authority(&mut self, state: &BootState) -> Result<bool, ControlError<B::Error>> {
        let Self { io, gpt, .. } = self;
        Ok(match &mut self.authority {
            Authority::Gpt => GptStore { gpt }.write(io, state)?,
            Authority::GrubBlock(store) => store.write(io, state)?,
            Authority::UbootEnv(store) => store.write(io, state)?,
            Authority::Redundant(store) => store.write(io, state)?,
        })
    }

    /// It is U-Boot's own environment, and no copy of it is known to be there: what else belongs in it is not known here.
    const fn only_the_loader_mends(&self, reason: LostReason) -> bool {
        matches!(
            (&self.authority, reason),
            (
                Authority::Redundant(_),
                LostReason::BadCrc | LostReason::NotProven
            )
        )
    }

    /// The error for a boot state that [`state`](Self::state) reports as lost: it says who can mend that.
    pub const fn lost(&self, reason: LostReason) -> ControlError<B::Error> {
        match self.only_the_loader_mends(reason) {
            true => ControlError::LostForLoader(reason),
            false => ControlError::Lost(reason),
        }
    }

    /// Writes the GPT attributes, both copies. `false` where they hold the state already.
    fn write_gpt(&mut self, state: &BootState) -> Result<bool, ControlError<B::Error>> {
        let Self { io, gpt, .. } = self;
        Ok(GptStore { gpt }.write(io, state)?)
    }

    fn read_confirmed(&mut self) -> Result<ConfirmedRecord, ConfirmedError> {
        let mut block = [0; CONFIRMED_BYTES];
        let span = self.oem_config.confirmed();
        match store::read_span_or_zeros(&mut self.io, span, &mut block) {
            (_, true) => ConfirmedRecord::decode(&block),
            (_, false) => Err(ConfirmedError::Unreadable),
        }
    }

    /// Writes the confirmed record and flushes. `false` where it says the same already.
    fn write_confirmed(
        &mut self,
        record: &ConfirmedRecord,
    ) -> Result<bool, ControlError<B::Error>> {
        let mut block = [0; CONFIRMED_BYTES];
        let span = self.oem_config.confirmed();
        let (_, readable) = store::read_span_or_zeros(&mut self.io, span, &mut block);
        if readable && ConfirmedRecord::decode(&block) == Ok(*record) {
            return Ok(false);
        }
        record.encode(&mut block).map_err(store::StoreError::Env)?;
        store::write_span(&mut self.io, span, &block).map_err(ControlError::Io)?;
        Ok(true)
    }
}

fn slots<E: core::fmt::Debug + core::fmt::Display>(
    gpt: &Gpt,
) -> Result<[LbaRange; 2], ControlError<E>> {
    Ok([gpt.usr(Slot::A)?.range(), gpt.usr(Slot::B)?.range()])
}

#[cfg(test)]
mod tests;
