//! From stored bytes to a slot that has been read back, in stages that run at the same time.
//!
//! ```text
//! unpack ──► compare with hashes, probe ──► write, flush every segment ──► read back, compare
//!    ▲                                          │
//!    └──────────────── empty chunks ────────────┘
//! ```
//! The calling thread writes. A stage that fails closes its channels, which ends the others; at most [`CHUNKS`] chunks
//! of about 1 MiB are under way.

use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use bootctl::BlockIo;

use super::chunk::Chunk;
use super::medium::{self, Probed, Prober};
use super::unpack::Unpacker;
use super::{EngineError, Observer, Phase, SlotIo, stop_if_cancelled};
use crate::install::{Flushed, Install, ReadBack, Run, Unpacked, Write, WriteRecord, Written};
use crate::source::Source;

/// Chunks between unpacking and writing.
const CHUNKS: usize = 6;

/// How often somebody who waits for the source is asked whether to go on.
const POLL: Duration = Duration::from_millis(100);

/// Fills the slot from the block on that has to be written next; also returns how many of these blocks it held already.
/// The payload's blocks start at byte `data_offset` of the source.
pub(super) fn run<'a, S: SlotIo>(
    source: &mut Source,
    data_offset: u64,
    (write, read_back): (Install<'a, Write>, Install<'a, ReadBack>),
    slot_io: &mut S,
    observer: &mut dyn Observer,
) -> Result<(Install<'a, WriteRecord>, u64), EngineError> {
    let (table, next) = (*write.table(), write.next());
    let prober = Prober::new(reader(slot_io)?, table.block_size());
    let comparing_io = reader(slot_io)?;
    let (empty_tx, empty_rx) = sync_channel(CHUNKS);
    let (full_tx, full_rx) = sync_channel(CHUNKS);
    let (probed_tx, probed_rx) = sync_channel(CHUNKS);
    let (flushed_tx, flushed_rx) = channel();
    let (compared_tx, compared_rx) = channel();
    for _ in 0..CHUNKS {
        // There is room for all of them.
        let _ = empty_tx.send(Chunk::new(&table, S::CHUNK_BYTES));
    }
    let chunk = Chunk::new(&table, S::CHUNK_BYTES);
    thread::scope(|scope| {
        let unpacking = scope.spawn(move || {
            let mut unpacker = Unpacker::new(source, table)?;
            if next > 0 {
                unpacker.skip_to(next, data_offset)?;
            }
            unpack(unpacker, &empty_rx, &full_tx)
        });
        let probing = scope.spawn(move || probe(prober, &full_rx, &probed_tx));
        let comparing =
            scope.spawn(move || compare(read_back, comparing_io, chunk, &flushed_rx, &compared_tx));
        let writer = Writer {
            install: write,
            slot_io,
            unchanged: 0,
            unflushed: 0,
        };
        let written = writer.run(probed_rx, empty_tx, flushed_tx, observer);
        let heard = hear(compared_rx, table.blocks(), observer);
        let cancelled = matches!(written, Err(EngineError::Cancelled));
        // Who was cancelled need not hear what else that has ended.
        if cancelled || heard.is_err() {
            let _ = (joined(unpacking), joined(probing), joined(comparing));
            return Err(EngineError::Cancelled);
        }
        // A writer that was not given everything, or not heard out, only says that blocks are missing.
        joined(unpacking)?;
        joined(probing)?;
        let read_back = joined(comparing)?;
        let (written, unchanged) = written?;
        Ok((read_back.compared(written)?, unchanged))
    })
}

/// Passes on how far the comparison is; whoever is cancelled leaves the channel, which ends it.
fn hear(
    compared: Receiver<u64>,
    total: u64,
    observer: &mut dyn Observer,
) -> Result<(), EngineError> {
    for done in compared {
        observer.progress(Phase::Comparing, done, total);
        stop_if_cancelled(observer)?;
    }
    Ok(())
}

pub(super) fn reader<S: SlotIo>(slot_io: &S) -> Result<S::Reader, EngineError> {
    slot_io
        .reader()
        .map_err(|cause| EngineError::slot("open slot for reading", &cause))
}

fn joined<T>(stage: ScopedJoinHandle<'_, Result<T, EngineError>>) -> Result<T, EngineError> {
    stage.join().unwrap_or(Err(EngineError::Thread))
}

pub(super) fn unpack(
    mut unpacker: Unpacker<'_>,
    empty: &Receiver<Chunk>,
    full: &SyncSender<Chunk>,
) -> Result<(), EngineError> {
    let remote = unpacker.is_remote();
    let mut spare = Vec::new();
    while let Some(mut chunk) = spare.pop().or_else(|| empty.recv().ok()) {
        // What comes from afar is worth more on the medium than in memory: unless the medium lags behind, each block
        // goes on alone.
        let hurry = || {
            let gone = loop {
                match empty.try_recv() {
                    Ok(chunk) => spare.push(chunk),
                    Err(TryRecvError::Empty) => break false,
                    // Nobody writes any more, so that nothing is worth waiting for.
                    Err(TryRecvError::Disconnected) => break true,
                }
            };
            remote && (gone || !spare.is_empty())
        };
        if !unpacker.fill(&mut chunk, hurry)? {
            return unpacker.finish();
        }
        if full.send(chunk).is_err() {
            break;
        }
    }
    Ok(())
}

fn probe<R: BlockIo>(
    mut prober: Prober<R>,
    full: &Receiver<Chunk>,
    probed: &SyncSender<Probed>,
) -> Result<(), EngineError> {
    for chunk in full {
        let unpacked = Unpacked::new(chunk)?;
        if probed.send(prober.probe(unpacked)).is_err() {
            break;
        }
    }
    Ok(())
}

struct Writer<'a, 's, S> {
    install: Install<'a, Write>,
    slot_io: &'s mut S,
    unchanged: u64,
    /// Bytes since the last flush.
    unflushed: u64,
}

impl<'a, S: SlotIo> Writer<'a, '_, S> {
    /// Takes its ends of the channels, so that they are closed when it is done.
    fn run(
        mut self,
        probed: Receiver<Probed>,
        empty: SyncSender<Chunk>,
        flushed: Sender<Flushed>,
        observer: &mut dyn Observer,
    ) -> Result<(Install<'a, Written>, u64), EngineError> {
        let total = self.install.table().blocks();
        let mut cancelled = Ok(());
        while let Some(probed) = next(&probed, observer, &mut cancelled) {
            probed.write(self.slot_io)?;
            self.install.written(&probed.unpacked)?;
            self.unchanged += probed.unchanged();
            let chunk = probed.unpacked.into_run();
            let done = chunk.end();
            self.unflushed += chunk.bytes().len() as u64;
            // Nobody waits for the last ones.
            let _ = empty.send(chunk);
            observer.progress(Phase::Writing, done, total);
            if self.unflushed >= S::SEGMENT && flushed.send(self.flush(observer)?).is_err() {
                break;
            }
        }
        let _ = flushed.send(self.flush(observer)?);
        cancelled?;
        Ok((self.install.complete()?, self.unchanged))
    }

    fn flush(&mut self, observer: &mut dyn Observer) -> Result<Flushed, EngineError> {
        self.slot_io
            .flush()
            .map_err(|cause| EngineError::slot("flush slot", &cause))?;
        self.unflushed = 0;
        let flushed = self.install.flushed();
        observer.durable(self.install.release(), flushed.blocks());
        Ok(flushed)
    }
}

/// The next chunk to write; none after the last and for one who is cancelled, however long the source takes.
fn next(
    probed: &Receiver<Probed>,
    observer: &dyn Observer,
    cancelled: &mut Result<(), EngineError>,
) -> Option<Probed> {
    loop {
        *cancelled = stop_if_cancelled(observer);
        if cancelled.is_err() {
            return None;
        }
        match probed.recv_timeout(POLL) {
            Ok(probed) => return Some(probed),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn compare<'a>(
    mut install: Install<'a, ReadBack>,
    mut io: impl BlockIo,
    mut chunk: Chunk,
    flushed: &Receiver<Flushed>,
    compared: &Sender<u64>,
) -> Result<Install<'a, ReadBack>, EngineError> {
    let table = *install.table();
    for flushed in flushed {
        install.flushed(&flushed)?;
        loop {
            chunk.plan(&table, install.readable());
            if chunk.is_empty() {
                break;
            }
            medium::read(&mut io, &mut chunk)?;
            for (_, bytes) in chunk.iter() {
                install.read(bytes)?;
            }
            if compared.send(chunk.end()).is_err() {
                return Ok(install);
            }
        }
    }
    Ok(install)
}
