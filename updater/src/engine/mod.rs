//! Carries an installation out: on a real disk, or on anything else that is a [`BlockIo`].
//!
//! One thread reads and unpacks, the calling thread writes, and at most [`QUEUE`] chunks of about 1 MiB lie between
//! them. What can fail beforehand fails before the slot is touched; what fails later leaves the slot unbootable and
//! without a record, because both were done, and flushed, before its first byte.

mod error;
mod medium;
mod unpack;

use std::sync::mpsc;
use std::thread;

use bootctl::control::{Control, Proof};
use bootctl::disk::{Disk, DiskError, FlockGuard, LOCK_PATIENCE};
use bootctl::gpt::LbaRange;
use bootctl::slot_record::{self, SlotRecordHeader};
use bootctl::transition::TryCount;
use bootctl::{BlockIo, Slot};

pub use error::EngineError;

use crate::gates::Admitted;
use crate::incoming::Tables;
use crate::install::{
    Activate, Install, Precheck, ReadBack, Unpacked, WipeRecord, Write, WriteRecord,
};
use crate::source::Source;
use medium::Medium;
use unpack::{Chunk, Unpacker};

/// Chunks between the two threads.
const QUEUE: usize = 4;
/// Blocks are written and read back in pieces of this many bytes.
const CHUNK: usize = 1024 * 1024;

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

/// What an installation is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Comparing the payload's bytes with the table; nothing is written.
    Checking,
    /// Writing blocks.
    Writing,
    /// Reading them back.
    Comparing,
}

/// Hears of an installation.
pub trait Observer {
    /// `done` of `total` blocks of this phase.
    fn progress(&mut self, phase: Phase, done: u64, total: u64);

    /// The slot is complete and about to be activated: the last moment to note that down durably.
    fn staging(&mut self, _release: &Admitted, _slot: Slot) {}
}

/// Hears nothing.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Phase, _: u64, _: u64) {}
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

/// What an installation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub slot: Slot,
    pub blocks: u64,
    /// Blocks that the medium held already.
    pub unchanged: u64,
    /// Size of the image in bytes.
    pub bytes: u64,
}

/// Reads the whole payload and compares everything that can be, without a disk.
///
/// # Errors
/// The source or a hash.
pub fn check(
    mut source: Source,
    tables: &Tables,
    release: &Admitted,
    observer: &mut dyn Observer,
) -> Result<(), EngineError> {
    let table = tables.table(release)?;
    let mut unpacker = Unpacker::new(&mut source, table)?;
    let mut content = blake3::Hasher::new();
    unpacker.check_len(tables.data_offset())?;
    while let Some(chunk) = unpacker.next(Chunk::new(&table))? {
        for (block, bytes) in chunk.blocks() {
            content.update(Unpacked::new(*block, bytes)?.bytes());
            observer.progress(Phase::Checking, block.index + 1, table.blocks());
        }
    }
    unpacker.finish()?;
    let (found, expected) = (content.finalize().into(), release.artifact().content);
    if found != expected {
        return Err(crate::install::InstallError::Content { found, expected }.into());
    }
    Ok(())
}

/// Installs an admitted release into the passive slot and activates it.
///
/// # Errors
/// Before the slot was touched: nothing has changed. Later: the slot is unbootable and has no record.
pub fn install<D: WholeDisk, P: BlockIo>(
    mut source: Source,
    tables: &Tables,
    release: &Admitted,
    mut target: Target<'_, D, P>,
    observer: &mut dyn Observer,
) -> Result<Report, EngineError> {
    let table = tables.table(release)?;
    let install = Install::new(release, table)?;
    source.check_len(tables.data_offset().saturating_add(table.stored_total()))?;
    let install = match source.known_len() {
        None => install.streamed(),
        Some(_) => {
            let checked = precheck(&mut source, install, observer)?;
            source.seek(tables.data_offset())?;
            checked
        }
    };
    target.invalidate()?;
    let install = install.invalidated();
    let result = write_slot(&mut source, install, tables, &mut target, observer).and_then(
        |(install, unchanged)| {
            observer.staging(release, target.slot());
            target.activate(&install)?;
            Ok(Report {
                slot: target.slot(),
                blocks: table.blocks(),
                unchanged,
                bytes: table.size(),
            })
        },
    );
    if result.is_err() {
        target.give_up();
    }
    result
}

/// Compares all stored bytes with the table.
fn precheck<'a>(
    source: &mut Source,
    mut install: Install<'a, Precheck>,
    observer: &mut dyn Observer,
) -> Result<Install<'a, crate::install::Invalidate>, EngineError> {
    let total = install.table().blocks();
    let mut buf = Vec::new();
    while let Some(block) = install.block() {
        buf.resize(block.entry.stored_len() as usize, 0);
        source.read_exact(&mut buf)?;
        install.stored(&buf)?;
        observer.progress(Phase::Checking, block.index + 1, total);
    }
    Ok(install.checked()?)
}

/// From the wiped record to the new one.
fn write_slot<'a, D: WholeDisk, P: BlockIo>(
    source: &mut Source,
    install: Install<'a, WipeRecord>,
    tables: &Tables,
    target: &mut Target<'_, D, P>,
    observer: &mut dyn Observer,
) -> Result<(Install<'a, Activate>, u64), EngineError> {
    let range = target.range();
    slot_record::wipe(target.slot_io, range)
        .map_err(|cause| EngineError::slot("wipe slot record", &cause))?;
    let install = install.wiped();
    let mut medium = Medium::new(target.slot_io, install.table().block_size());
    let (install, unchanged) = write_blocks(source, install, &mut medium, observer)?;
    let install = install.complete()?;
    medium.flush()?;
    let install = read_back(install.flushed(), &mut medium, observer)?;
    write_record(&install, tables, target)?;
    Ok((install.recorded(), unchanged))
}

fn write_blocks<'a, P: BlockIo>(
    source: &mut Source,
    mut install: Install<'a, Write>,
    medium: &mut Medium<'_, P>,
    observer: &mut dyn Observer,
) -> Result<(Install<'a, Write>, u64), EngineError> {
    let table = *install.table();
    let total = table.blocks();
    let (full_tx, full_rx) = mpsc::sync_channel::<Result<Chunk, EngineError>>(QUEUE);
    let (empty_tx, empty_rx) = mpsc::sync_channel(QUEUE);
    for _ in 0..QUEUE {
        // There is room for all of them.
        let _ = empty_tx.send(Chunk::new(&table));
    }
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut unpacked = || -> Result<(), EngineError> {
                let mut unpacker = Unpacker::new(source, table)?;
                // A closed channel means that the writer has failed and says so.
                while let Ok(chunk) = empty_rx.recv() {
                    let Some(chunk) = unpacker.next(chunk)? else {
                        return unpacker.finish();
                    };
                    if full_tx.send(Ok(chunk)).is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = unpacked() {
                let _ = full_tx.send(Err(error));
            }
        });
        let mut unchanged = 0;
        let mut done = 0;
        // Taken by this closure, so that a failure closes the channel and ends the other thread.
        let (full_rx, empty_tx) = (full_rx, empty_tx);
        for chunk in &full_rx {
            let chunk = chunk?;
            let mut blocks = Vec::with_capacity(chunk.len());
            for (block, bytes) in chunk.blocks() {
                blocks.push(Unpacked::new(*block, bytes)?);
            }
            unchanged += medium.write(chunk.bytes(), &blocks)?;
            for block in &blocks {
                install.written(block)?;
            }
            done += blocks.len() as u64;
            drop(blocks);
            observer.progress(Phase::Writing, done, total);
            let _ = empty_tx.send(chunk.emptied());
        }
        Ok((install, unchanged))
    })
}

/// Reads on this thread and compares on another.
fn read_back<'a, P: BlockIo>(
    mut install: Install<'a, ReadBack>,
    medium: &mut Medium<'_, P>,
    observer: &mut dyn Observer,
) -> Result<Install<'a, WriteRecord>, EngineError> {
    let table = *install.table();
    let (full_tx, full_rx) = mpsc::sync_channel::<Chunk>(QUEUE);
    let (empty_tx, empty_rx) = mpsc::sync_channel(QUEUE);
    for _ in 0..QUEUE {
        let _ = empty_tx.send(Chunk::new(&table));
    }
    thread::scope(|scope| {
        let comparing = scope.spawn(move || -> Result<_, EngineError> {
            for chunk in &full_rx {
                for (_, bytes) in chunk.blocks() {
                    install.read(bytes)?;
                }
                let _ = empty_tx.send(chunk.emptied());
            }
            Ok(install.compared()?)
        });
        let mut next = 0;
        // A closed channel means that a comparison has failed, which is reported below.
        while let Ok(mut chunk) = empty_rx.recv() {
            next = chunk.plan(&table, next);
            if chunk.len() == 0 {
                break;
            }
            medium.read(&mut chunk)?;
            if full_tx.send(chunk).is_err() {
                break;
            }
            observer.progress(Phase::Comparing, next, table.blocks());
        }
        drop(full_tx);
        match comparing.join() {
            Ok(result) => result,
            Err(_) => Err(EngineError::Thread),
        }
    })
}

fn write_record<D: WholeDisk, P: BlockIo>(
    install: &Install<'_, WriteRecord>,
    tables: &Tables,
    target: &mut Target<'_, D, P>,
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
    let range = target.range();
    slot_record::write(target.slot_io, range, &header, tables.body())
        .map_err(|cause| EngineError::slot("write slot record", &cause))
}

impl<D: WholeDisk, P: BlockIo> Target<'_, D, P> {
    fn slot(&self) -> Slot {
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

    fn invalidate(&mut self) -> Result<(), EngineError> {
        let _guard = self.lock()?;
        let (active, slot) = (self.active, self.slot());
        self.control
            .invalidate(active, slot)
            .map_err(|cause| EngineError::control("invalidate", slot, &cause))
    }

    fn activate(&mut self, _: &Install<'_, Activate>) -> Result<(), EngineError> {
        let _guard = self.lock()?;
        let (active, slot, tries) = (self.active, self.slot(), self.tries);
        self.control
            .activate(active, slot, tries, Proof::Record)
            .map_err(|cause| EngineError::control("activate", slot, &cause))
    }

    /// After a failure nothing of the slot may look usable; what has been done already is not written again.
    fn give_up(&mut self) {
        if let Err(error) = self.invalidate() {
            log::warn!("{error}");
        }
        let range = self.range();
        // It was wiped once; a record that was written since is true, and its slot unbootable.
        if let Err(error) = slot_record::wipe(self.slot_io, range) {
            log::info!("wipe slot record: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
