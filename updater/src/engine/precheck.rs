//! Comparing the stored bytes of a seekable source with the table before anything is written.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{EngineError, Observer, Phase, stop_if_cancelled};
use crate::install::{Install, Invalidate, Precheck};
use crate::source::{Source, SourceError};
use crate::table::Table;

/// Stored blocks between reading and comparing.
const BUFFERS: usize = 4;

/// Compares all stored bytes with the table; another thread reads them.
pub(super) fn run<'a>(
    source: &mut Source,
    mut install: Install<'a, Precheck>,
    observer: &mut dyn Observer,
) -> Result<Install<'a, Invalidate>, EngineError> {
    let table = *install.table();
    let (empty_tx, empty_rx) = sync_channel(BUFFERS);
    let (full_tx, full_rx) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for all of them.
        let _ = empty_tx.send(Vec::new());
    }
    thread::scope(|scope| {
        scope.spawn(move || read(source, &table, &empty_rx, &full_tx));
        // Taken by this closure, so that a failure closes the channels and ends the other thread.
        let (full_rx, empty_tx) = (full_rx, empty_tx);
        for stored in (1..).zip(&full_rx) {
            let (done, stored): (u64, Result<Vec<u8>, SourceError>) = stored;
            let stored = stored?;
            install.stored(&stored)?;
            observer.progress(Phase::Checking, done, table.blocks());
            stop_if_cancelled(observer)?;
            // Nobody waits for the last ones.
            let _ = empty_tx.send(stored);
        }
        Ok(install.checked()?)
    })
}

fn read(
    source: &mut Source,
    table: &Table<'_>,
    empty: &Receiver<Vec<u8>>,
    full: &SyncSender<Result<Vec<u8>, SourceError>>,
) {
    for block in table.iter() {
        // Closed channels mean that a comparison has failed.
        let Ok(mut buf) = empty.recv() else { return };
        buf.resize(block.entry.stored_len() as usize, 0);
        let result = source.read_exact(&mut buf);
        let failed = result.is_err();
        if full.send(result.map(|()| buf)).is_err() || failed {
            return;
        }
    }
}
