//! What an interrupted installation has left in the slot.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bootctl::BlockIo;

use super::chunk::Chunk;
use super::{EngineError, Observer, Phase, SlotIo, medium, pipeline, stop_if_cancelled};
use crate::install::{Install, ReadBack, Unpacked, Write};
use crate::signature::Verified;
use crate::table::Table;

/// Chunks between reading and hashing.
const CHUNKS: usize = 3;

/// Takes the leading blocks that the medium holds already, each by its hash, and says how many there are. They are
/// flushed before they are read, so that they need not be read back once more.
///
/// `mark` is what an earlier attempt says it has flushed. It only decides what a missing block means: below it the medium
/// has lost something. The blocks behind it are looked at too, until the first that is not there, because most of what
/// was written since the last flush has usually arrived all the same.
pub(super) fn run<'a, S: SlotIo>(
    write: &mut Install<'a, Write>,
    read_back: &mut Install<'a, ReadBack>,
    slot_io: &mut S,
    mark: u64,
    observer: &mut dyn Observer,
) -> Result<u64, EngineError> {
    let table = *write.table();
    slot_io
        .flush()
        .map_err(|cause| EngineError::slot("flush slot", &cause))?;
    let io = pipeline::reader(slot_io)?;
    let (empty_tx, empty_rx) = sync_channel(CHUNKS);
    let (full_tx, full_rx) = sync_channel(CHUNKS);
    for _ in 0..CHUNKS {
        // There is room for all of them.
        let _ = empty_tx.send(Chunk::new(&table, S::CHUNK_BYTES));
    }
    let held = thread::scope(|scope| {
        scope.spawn(move || read(io, &table, &empty_rx, &full_tx));
        // Taken by this closure, so that leaving it ends the other thread.
        let (full_rx, empty_tx) = (full_rx, empty_tx);
        let mut held = 0;
        for chunk in full_rx {
            let planned = chunk.end();
            let unpacked = Unpacked::leading(chunk);
            write.held(&unpacked, read_back)?;
            let chunk = unpacked.into_run();
            if !chunk.is_empty() {
                held = chunk.end();
                observer.progress(Phase::Resuming, held, table.blocks());
            }
            stop_if_cancelled(observer)?;
            if held < planned {
                break;
            }
            // Nobody waits for the last ones.
            let _ = empty_tx.send(chunk);
        }
        Ok::<_, EngineError>(held)
    })?;
    match held < mark {
        true => log::warn!(
            "resume installation: block {held} is not in the slot any more, though the first {mark} were flushed"
        ),
        false => log::info!("resume installation: {held} blocks are in the slot"),
    }
    Ok(held)
}

fn read(
    mut io: impl BlockIo,
    table: &Verified<Table<'_>>,
    empty: &Receiver<Chunk>,
    full: &SyncSender<Chunk>,
) {
    let mut next = 0;
    // Closed channels mean that a block was not there.
    while let Ok(mut chunk) = empty.recv() {
        chunk.plan(table, next..table.blocks());
        if chunk.is_empty() {
            return;
        }
        next = chunk.end();
        // What can't be read is fetched, and writing it may well cure it.
        if let Err(error) = medium::read(&mut io, &mut chunk) {
            log::info!("resume installation: {error}");
            return;
        }
        if full.send(chunk).is_err() {
            return;
        }
    }
}
