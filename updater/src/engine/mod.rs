//! Carries an installation out: on a real disk, or on anything else that is a [`BlockIo`](bootctl::BlockIo).
//!
//! What can fail beforehand fails before the slot is touched; what fails later leaves the slot unbootable and without a
//! record, because both were done, and flushed, before its first byte. Between the two, threads unpack, probe, write and
//! read back at the same time; see [`pipeline`].

mod chunk;
mod error;
mod held;
mod medium;
mod pipeline;
mod precheck;
mod target;
mod unpack;

use bootctl::Slot;

pub use error::EngineError;
pub use target::{CHUNK_BYTES, SlotIo, Target, WholeDisk};

use crate::gates::Admitted;
use crate::incoming::Tables;
use crate::install::{Activate, Install, InstallError, Run, Unpacked, WipeRecord};
use crate::source::Source;
use chunk::Chunk;
use unpack::Unpacker;

/// What an installation is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Comparing the payload's bytes with the table; nothing is written.
    Checking,
    /// Reading from the medium what an earlier attempt has written, before the rest is fetched.
    Resuming,
    /// Writing blocks.
    Writing,
    /// Reading them back.
    Comparing,
}

/// Hears of an installation, and may end it.
pub trait Observer {
    /// `done` of `total` blocks of this phase.
    fn progress(&mut self, phase: Phase, done: u64, total: u64);

    /// Whether to stop; asked at every block boundary, and last before the slot is activated. The slot is left
    /// unbootable then, and what it holds can be resumed. A source that may wait for long has to end its reads by itself.
    fn cancelled(&self) -> bool {
        false
    }

    /// The first `blocks` blocks are in the slot and flushed. Called at the boundaries of flushes only.
    fn durable(&mut self, _release: &Admitted, _blocks: u64) {}

    /// The slot is complete and about to be activated: the last moment to note that down durably.
    fn staging(&mut self, _release: &Admitted, _slot: Slot) {}
}

/// Hears nothing.
#[derive(Debug)]
pub struct Silent;

impl Observer for Silent {
    fn progress(&mut self, _: Phase, _: u64, _: u64) {}
}

/// What an installation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub slot: Slot,
    pub blocks: u64,
    /// Blocks that the medium held already.
    pub unchanged: u64,
    /// Of those, the leading ones that an earlier attempt had left, which were not asked for again.
    pub resumed: u64,
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
    let mut chunk = Chunk::new(&table, CHUNK_BYTES);
    while unpacker.fill(&mut chunk, || false)? {
        let unpacked = Unpacked::new(chunk)?;
        content.update(unpacked.run().bytes());
        chunk = unpacked.into_run();
        observer.progress(Phase::Checking, chunk.end(), table.blocks());
        stop_if_cancelled(observer)?;
    }
    unpacker.finish()?;
    let (found, expected) = (content.finalize().into(), release.artifact().content);
    if found != expected {
        return Err(InstallError::Content { found, expected }.into());
    }
    Ok(())
}

/// Installs an admitted release into the passive slot and activates it.
///
/// # Errors
/// Before the slot was touched: nothing has changed. Later: the slot is unbootable and has no record.
pub fn install<D: WholeDisk, S: SlotIo>(
    source: Source,
    tables: &Tables,
    release: &Admitted,
    target: Target<'_, D, S>,
    observer: &mut dyn Observer,
) -> Result<Report, EngineError> {
    run(source, tables, release, target, None, observer)
}

/// Like [`install`], but goes on where an earlier attempt to install this very payload into this slot has ended: the
/// blocks that it left are read from the medium and taken where they have their hash, up to the first that does not.
///
/// `mark` is the number of blocks of which [`Observer::durable`] said last that they are flushed. Nothing depends on its
/// being true.
///
/// # Errors
/// As [`install`].
pub fn resume<D: WholeDisk, S: SlotIo>(
    source: Source,
    tables: &Tables,
    release: &Admitted,
    target: Target<'_, D, S>,
    mark: u64,
    observer: &mut dyn Observer,
) -> Result<Report, EngineError> {
    run(source, tables, release, target, Some(mark), observer)
}

fn run<D: WholeDisk, S: SlotIo>(
    mut source: Source,
    tables: &Tables,
    release: &Admitted,
    mut target: Target<'_, D, S>,
    mark: Option<u64>,
    observer: &mut dyn Observer,
) -> Result<Report, EngineError> {
    let table = tables.table(release)?;
    let install = Install::new(release, table)?;
    source.check_len(tables.data_offset().saturating_add(table.stored_total()))?;
    let install = match source.known_len() {
        None => install.streamed(),
        Some(_) => {
            let checked = precheck::run(&mut source, install, observer)?;
            source.seek(tables.data_offset())?;
            checked
        }
    };
    target.invalidate()?;
    let install = install.invalidated();
    let result = write_slot(&mut source, install, tables, &mut target, mark, observer).and_then(
        |(install, filled)| {
            stop_if_cancelled(observer)?;
            observer.staging(release, target.slot());
            target.activate(&install)?;
            Ok(Report {
                slot: target.slot(),
                blocks: table.blocks(),
                unchanged: filled.unchanged,
                resumed: filled.resumed,
                bytes: table.size(),
            })
        },
    );
    if result.is_err() {
        target.give_up();
    }
    result
}

fn stop_if_cancelled(observer: &dyn Observer) -> Result<(), EngineError> {
    match observer.cancelled() {
        true => Err(EngineError::Cancelled),
        false => Ok(()),
    }
}

/// From the wiped record to the new one.
fn write_slot<'a, D: WholeDisk, S: SlotIo>(
    source: &mut Source,
    install: Install<'a, WipeRecord>,
    tables: &Tables,
    target: &mut Target<'_, D, S>,
    mark: Option<u64>,
    observer: &mut dyn Observer,
) -> Result<(Install<'a, Activate>, Filled), EngineError> {
    target.wipe_record(&install)?;
    let (mut write, mut read_back) = install.wiped();
    let mut resumed = 0;
    if let Some(mark) = mark {
        resumed = held::run(&mut write, &mut read_back, target.slot_io, mark, observer)?;
        observer.durable(write.release(), resumed);
    }
    let offset = tables.data_offset();
    let (install, unchanged) =
        pipeline::run(source, offset, (write, read_back), target.slot_io, observer)?;
    target.write_record(&install, tables)?;
    let unchanged = unchanged.saturating_add(resumed);
    Ok((install.recorded(), Filled { unchanged, resumed }))
}

/// How many blocks were there already; see [`Report`].
struct Filled {
    unchanged: u64,
    resumed: u64,
}

#[cfg(test)]
mod tests;
