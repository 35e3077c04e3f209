//! Probing, writing, flushing and reading back at the same time.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::install::{InstallError, ReadBack, Run, Write};
use crate::signature::Verified;
use crate::source::{Remote, SourceError};
use crate::table::Block;

#[test]
fn a_part_that_is_there_already_is_found_behind_one_that_is_not() {
    let image = image();
    let built = build(&image, None);
    let (view, starts) = flashed();
    // Sixteen blocks differ, as many as are probed one by one; the rest is there.
    let (from, at) = (16 * BLOCK, starts[1] + 16 * BLOCK);
    view.disk.lock().unwrap().bytes[at..starts[1] + image.len()].copy_from_slice(&image[from..]);
    let run = run_on(view, starts, &built.bytes, true);
    assert_eq!(run.result.as_ref().unwrap().unchanged, 5);
    assert!(run.slot_b()[..image.len()] == image);
}

#[test]
fn what_is_read_back_was_flushed_before_and_the_last_flush_comes_last() {
    let run = run(&build(&image(), None).bytes, true, None);
    run.result.as_ref().unwrap();
    let image_sectors = image().len() as u64 / 512;
    let events = run.view.disk.lock().unwrap().events.clone();
    let (mut written, mut flushed, mut reads) = (0, 0, 0);
    for event in events {
        match event {
            Event::SlotWrite { lba, len } if lba < image_sectors => {
                written = lba + len as u64 / 512
            }
            Event::SlotFlush => flushed = written,
            // A probe reads one block at most; it may be told apart by that.
            Event::SlotRead { lba, len } if lba < image_sectors && len > BLOCK => {
                reads += 1;
                assert!(
                    lba + len as u64 / 512 <= flushed,
                    "sector {lba} was read early"
                );
            }
            _ => {}
        }
    }
    assert_eq!((written, flushed, reads), (image_sectors, image_sectors, 2));
}

/// One block with its bytes.
struct One<'a>(Vec<Verified<Block>>, &'a [u8]);

impl Run for One<'_> {
    fn blocks(&self) -> &[Verified<Block>] {
        &self.0
    }

    fn bytes(&self) -> &[u8] {
        self.1
    }

    fn truncate(&mut self, count: usize) {
        self.0.truncate(count);
        self.1 = &self.1[..self.1.len().min(count * BLOCK)];
    }
}

/// Runs `steps` on an installation that may write.
fn ready(payload: &[u8], steps: impl FnOnce(Install<'_, Write>, Install<'_, ReadBack>)) {
    let source = Source::stream(std::io::Cursor::new(payload.to_vec()));
    let (_, tables, release) = accept(source).unwrap();
    let install = Install::new(&release, tables.table(&release).unwrap()).unwrap();
    let (write, read_back) = install.streamed().invalidated().wiped();
    steps(write, read_back);
}

#[test]
fn no_block_counts_as_read_back_before_it_was_flushed() {
    let image = image();
    ready(&build(&image, None).bytes, |mut write, mut read_back| {
        let table = *write.table();
        let unpacked = |index: usize| {
            let block = table.verified_block(index as u64).unwrap();
            let at = index * BLOCK;
            Unpacked::new(One(vec![block], &image[at..at + block.len as usize]))
        };
        let early = write.flushed();
        write.written(&unpacked(0).unwrap()).unwrap();
        read_back.flushed(&early).unwrap();
        assert_eq!(
            read_back.read(&image[..BLOCK]),
            Err(InstallError::Unflushed { block: 0 })
        );
        let flushed = write.flushed();
        let skipped = InstallError::Order {
            expected: 1,
            found: 2,
        };
        assert_eq!(write.written(&unpacked(2).unwrap()), Err(skipped));
        read_back.flushed(&flushed).unwrap();
        // A token that comes late takes nothing back.
        read_back.flushed(&early).unwrap();
        assert_eq!(read_back.readable(), 0..1);
        assert!(read_back.read(&image[BLOCK..2 * BLOCK]).is_err());
        read_back.read(&image[..BLOCK]).unwrap();
        assert_eq!(
            read_back.read(&image[BLOCK..2 * BLOCK]),
            Err(InstallError::Unflushed { block: 1 })
        );
        assert!(matches!(
            write.complete(),
            Err(InstallError::Unfinished { left: 20 })
        ));
    });
}

#[test]
fn a_slot_of_which_not_all_was_read_back_gets_no_record() {
    let image = image();
    ready(&build(&image, None).bytes, |mut write, mut read_back| {
        let table = *write.table();
        let blocks = (0..table.blocks()).map(|index| table.verified_block(index).unwrap());
        for (block, bytes) in blocks.zip(image.chunks(BLOCK)) {
            write
                .written(&Unpacked::new(One(vec![block], bytes)).unwrap())
                .unwrap();
        }
        read_back.flushed(&write.flushed()).unwrap();
        for bytes in image.chunks(BLOCK).take(20) {
            read_back.read(bytes).unwrap();
        }
        let written = write.complete().unwrap();
        assert!(matches!(
            read_back.compared(written),
            Err(InstallError::Unfinished { left: 1 })
        ));
    });
}

#[test]
fn rot_in_an_early_segment_is_found_while_others_are_good() {
    let failed = run(
        &build(&image(), None).bytes,
        true,
        Some(Fault::FirstSectorRot),
    );
    let error = failed.result.as_ref().unwrap_err().to_string();
    assert!(error.contains("block 0"), "{error}");
    failed.assert_slot_given_up();
}

/// A payload that stops coming in the middle of a stored block, until it is told to go on.
struct Falters {
    bytes: Vec<u8>,
    at: usize,
    stops_at: usize,
    goes_on: Arc<AtomicBool>,
}

impl Read for Falters {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let stops = self.at == self.stops_at && !self.goes_on.load(Ordering::SeqCst);
        assert!(!stops, "somebody waits with complete blocks in hand");
        let end = match self.at < self.stops_at {
            true => self.stops_at,
            false => self.bytes.len(),
        };
        let count = buf.len().min(end - self.at);
        buf[..count].copy_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Remote for Falters {
    fn jump(&mut self, offset: u64) -> Result<(), SourceError> {
        self.at = usize::try_from(offset).unwrap();
        Ok(())
    }

    fn is_ready(&mut self, _: Duration) -> bool {
        self.at != self.stops_at || self.goes_on.load(Ordering::SeqCst)
    }
}

#[test]
fn complete_blocks_do_not_wait_in_memory_for_one_that_is_still_coming() {
    let image = image();
    let built = build(&image, None);
    // The last block that takes bytes, and has another one behind it.
    let mut stored = built.offsets.windows(2).enumerate();
    let (block, starts) = stored.rfind(|(_, at)| at[1] > at[0] + 1).unwrap();
    let goes_on = Arc::new(AtomicBool::new(false));
    ready(&built.bytes, |write, _| {
        let table = *write.table();
        let mut source = Source::remote(Falters {
            bytes: built.bytes.clone(),
            at: 0,
            stops_at: starts[0] + 1,
            goes_on: Arc::clone(&goes_on),
        });
        let mut unpacker = Unpacker::new(&mut source, table).unwrap();
        let first = block as u64 - 2;
        unpacker.skip_to(first, built.offsets[0] as u64).unwrap();
        // The medium lags behind while the two blocks come, and has caught up only when the next one falters.
        let mut asked = 0;
        let enough = || {
            asked += 1;
            asked > 4
        };
        let mut chunk = Chunk::new(&table, image.len());
        assert!(unpacker.fill(&mut chunk, enough).unwrap());
        assert_eq!(chunk.end(), block as u64);
        assert!(chunk.bytes() == &image[(block - 2) * BLOCK..block * BLOCK]);
        goes_on.store(true, Ordering::SeqCst);
        assert!(unpacker.fill(&mut chunk, || false).unwrap());
        assert!(chunk.bytes() == &image[block * BLOCK..]);
        assert!(!unpacker.fill(&mut chunk, || false).unwrap());
        unpacker.finish().unwrap();
    });
}

#[test]
fn a_writer_that_gave_up_is_noticed_by_one_who_waits_for_the_source() {
    let image = image();
    let built = build(&image, None);
    ready(&built.bytes, |write, _| {
        let table = *write.table();
        let mut source = Source::remote(Falters {
            bytes: built.bytes.clone(),
            at: 0,
            stops_at: built.offsets[2] + 1,
            goes_on: Arc::default(),
        });
        let mut unpacker = Unpacker::new(&mut source, table).unwrap();
        unpacker.skip_to(0, built.offsets[0] as u64).unwrap();
        let (empty_tx, empty_rx) = std::sync::mpsc::sync_channel(1);
        let (full_tx, full_rx) = std::sync::mpsc::sync_channel(1);
        empty_tx.send(Chunk::new(&table, image.len())).unwrap();
        drop(empty_tx);
        pipeline::unpack(unpacker, &empty_rx, &full_tx).unwrap();
        assert_eq!(full_rx.recv().unwrap().end(), 1);
    });
}
