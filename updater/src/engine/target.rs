//! Where a release goes: the passive slot's partition, and the boot state around it.

use bootctl::control::{Control, Proof};
use bootctl::disk::{Disk, DiskError, FlockGuard, LOCK_PATIENCE, PartitionIo};
use bootctl::gpt::LbaRange;
use bootctl::slot_record::{self, SlotRecordHeader};
use bootctl::transition::TryCount;
use bootctl::{BlockIo, Slot};

use super::EngineError;
use crate::incoming::Tables;
use crate::install::{Activate, Install, WipeRecord, WriteRecord};

/// A whole disk that other programs may want to change too.
pub trait WholeDisk: BlockIo {
    /// Keeps them away while it lives.
    type Guard;

    /// Waits for the disk for as long as a commit may.
    ///
    /// # Errors
    /// Somebody else holds it.
    fn lock_for_commit(&self) -> Result<Self::Guard, Self::Error>;
}

impl WholeDisk for Disk {
    type Guard = FlockGuard;

    fn lock_for_commit(&self) -> Result<FlockGuard, DiskError> {
        self.lock(LOCK_PATIENCE)
    }
}

/// Blocks are unpacked, written and read back in pieces of this many bytes.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// A slot's partition that can be read on other threads while it is written.
pub trait SlotIo: BlockIo {
    /// Reads the same partition.
    type Reader: BlockIo + Send;

    /// Bytes that are written before they are flushed, so that reading them back can start. A small segment costs
    /// flushes, a large one time at the end, when only its comparison is left to do.
    const SEGMENT: u64 = 32 * 1024 * 1024;

    /// Bytes of a single request, or one block if that is larger.
    const CHUNK_BYTES: usize = CHUNK_BYTES;

    /// Another view of the partition. What was written and flushed here is what the reader finds.
    ///
    /// # Errors
    /// The operating system has no more open files.
    fn reader(&self) -> Result<Self::Reader, Self::Error>;
}

impl SlotIo for PartitionIo {
    type Reader = Self;

    fn reader(&self) -> Result<Self, DiskError> {
        self.reader()
    }
}

/// Where a release goes.
#[derive(Debug)]
pub struct Target<'a, D: BlockIo, P> {
    pub control: &'a mut Control<D>,
    /// The passive slot's partition, sector 0 being its first, held exclusively.
    pub slot_io: &'a mut P,
    /// The slot that runs, which is never written.
    pub active: Slot,
    pub tries: TryCount,
}

impl<D: WholeDisk, P: BlockIo> Target<'_, D, P> {
    pub(super) fn slot(&self) -> Slot {
        self.active.other()
    }

    fn range(&self) -> LbaRange {
        LbaRange {
            first: 0,
            last: self.slot_io.sector_count().saturating_sub(1),
        }
    }

    fn lock(&self) -> Result<D::Guard, EngineError> {
        let disk = self.control.io();
        disk.lock_for_commit()
            .map_err(|cause| EngineError::Busy(cause.to_string()))
    }

    pub(super) fn invalidate(&mut self) -> Result<(), EngineError> {
        let _guard = self.lock()?;
        let (active, slot) = (self.active, self.slot());
        self.control
            .invalidate(active, slot)
            .map_err(|cause| EngineError::control("invalidate", slot, &cause))
    }

    pub(super) fn activate(&mut self, _: &Install<'_, Activate>) -> Result<(), EngineError> {
        let _guard = self.lock()?;
        let (active, slot, tries) = (self.active, self.slot(), self.tries);
        self.control
            .activate(active, slot, tries, Proof::Record)
            .map_err(|cause| EngineError::control("activate", slot, &cause))
    }

    /// After a failure nothing of the slot may look usable; what has been done already is not written again.
    pub(super) fn give_up(&mut self) {
        if let Err(error) = self.invalidate() {
            log::warn!("{error}");
        }
        let range = self.range();
        // It was wiped once; a record that was written since is true, and its slot unbootable.
        if let Err(error) = slot_record::wipe(self.slot_io, range) {
            log::info!("wipe slot record: {error}");
        }
    }

    /// Durably makes the slot one without a record.
    pub(super) fn wipe_record(&mut self, _: &Install<'_, WipeRecord>) -> Result<(), EngineError> {
        let range = self.range();
        slot_record::wipe(self.slot_io, range)
            .map_err(|cause| EngineError::slot("wipe slot record", &cause))
    }

    pub(super) fn write_record(
        &mut self,
        install: &Install<'_, WriteRecord>,
        tables: &Tables,
    ) -> Result<(), EngineError> {
        let manifest = install.release().manifest();
        let name = |text: &str| text.parse().map_err(|_| EngineError::RecordName);
        let header = SlotRecordHeader {
            image_size: install.table().size(),
            content: install.release().artifact().content.0,
            payload_id: manifest.id().0,
            body_len: 0,
            body_crc: 0,
            flashed: false,
            rollback_index: manifest.rollback_index,
            product: name(&manifest.product)?,
            version: name(&manifest.version)?,
        };
        let header = header
            .for_body(tables.body())
            .ok_or(EngineError::RecordName)?;
        let range = self.range();
        slot_record::write(self.slot_io, range, &header, tables.body())
            .map_err(|cause| EngineError::slot("write slot record", &cause))
    }
}
