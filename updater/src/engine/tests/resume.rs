//! An installation that was cut off and goes on: what it takes from the medium, and what it asks for again.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::disk::{Durable, SLOT_BYTES};
use super::*;
use crate::source::{Remote, SourceError};

/// The payload somewhere else; notes which of its bytes were asked for.
struct Elsewhere {
    bytes: Arc<Vec<u8>>,
    at: usize,
    /// Ends here as if the connection broke.
    cut: usize,
    asked: Asked,
}

type Asked = Arc<Mutex<Vec<std::ops::Range<usize>>>>;

impl Read for Elsewhere {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let end = self.cut.min(self.bytes.len());
        let rest = self.bytes.get(self.at..end).unwrap_or_default();
        if rest.is_empty() && self.cut < self.bytes.len() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        // As much as a network gives at a time.
        let count = rest.len().min(buf.len()).min(29_000);
        buf[..count].copy_from_slice(&rest[..count]);
        self.asked.lock().unwrap().push(self.at..self.at + count);
        self.at += count;
        Ok(count)
    }
}

impl Remote for Elsewhere {
    fn jump(&mut self, offset: u64) -> Result<(), SourceError> {
        self.at = usize::try_from(offset).unwrap();
        Ok(())
    }
}

fn elsewhere(payload: &[u8], cut: usize) -> (Source, Asked) {
    let asked = Asked::default();
    let source = Source::remote(Elsewhere {
        bytes: Arc::new(payload.to_vec()),
        at: 0,
        cut,
        asked: Arc::clone(&asked),
    });
    (source, asked)
}

fn resume_from(
    view: View,
    starts: [usize; 2],
    source: Source,
    mark: u64,
    observer: &mut dyn Observer,
) -> Run {
    // A record of the boot state that was torn is mended at the start of a machine.
    Control::open(view.clone()).unwrap().sync().unwrap();
    run_from(view, starts, source, Some(mark), observer)
}

/// Remembers what was durable, in the disk's own order of events.
struct Marks(View);

impl Observer for Marks {
    fn progress(&mut self, _: Phase, _: u64, _: u64) {}

    fn durable(&mut self, _: &Admitted, blocks: u64) {
        self.0
            .disk
            .lock()
            .unwrap()
            .history
            .push(Durable::Mark(blocks));
    }
}

fn mark_of(view: &View) -> u64 {
    let disk = view.disk.lock().unwrap();
    let marks = disk.history.iter().rev();
    let mut marks = marks.filter_map(|event| match event {
        Durable::Mark(blocks) => Some(*blocks),
        _ => None,
    });
    marks.next().unwrap_or_default()
}

/// Goes on from `mark`, and holds the result to what has to come out in any case: the image, and nothing fetched before
/// the first block that was missing.
fn resumes(
    view: &View,
    starts: [usize; 2],
    built: &payload::Built,
    mark: u64,
    image: &[u8],
) -> u64 {
    let there = held(&view.disk.lock().unwrap().bytes[starts[1]..], image);
    let (source, asked) = elsewhere(&built.bytes, usize::MAX);
    let run = resume_from(view.clone(), starts, source, mark, &mut Marks(view.clone()));
    let report = run.result.as_ref().unwrap();
    assert_eq!(report.resumed, there as u64);
    assert!(report.unchanged >= report.resumed);
    assert!(run.slot_b()[..image.len()] == *image);
    run.assert_slot_a_untouched();
    let mut control = run.control();
    let record = control.read_slot_record(Slot::B).unwrap();
    assert_eq!(record.content, Digest::of(image).0);
    let b = control.state().unwrap().state.unwrap().b;
    assert!(b.is_candidate() && !b.successful);

    let first = built
        .offsets
        .get(there)
        .copied()
        .unwrap_or(built.bytes.len());
    let mut next = first;
    for range in asked.lock().unwrap().iter() {
        if range.start < built.offsets[0] {
            continue;
        }
        // Each byte once and in order, none of those before the first missing block.
        assert_eq!(range.start, next, "{there} blocks were there");
        next = range.end;
    }
    assert_eq!(next, built.bytes.len());
    there as u64
}

/// How many of the image's leading blocks these bytes begin with.
fn held(slot: &[u8], image: &[u8]) -> usize {
    let blocks = image.chunks(BLOCK).zip(slot.chunks(BLOCK));
    blocks
        .take_while(|(block, there)| there.starts_with(block))
        .count()
}

/// The medium as it is before the event of this number, with `survives` of the writes since the last flush.
fn medium(before: &[u8], history: &[Durable], survives: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let flushed = history.iter().rposition(|e| matches!(e, Durable::Flush));
    let mut unflushed = 0;
    for (index, event) in history.iter().enumerate() {
        let Durable::Write { at, data } = event else {
            continue;
        };
        if flushed.is_none_or(|flushed| index > flushed) {
            unflushed += 1;
            if !survives(unflushed - 1) {
                continue;
            }
        }
        bytes[*at..*at + data.len()].copy_from_slice(data);
    }
    bytes
}

fn marked(history: &[Durable]) -> u64 {
    let mut marks = history.iter().rev().filter_map(|event| match event {
        Durable::Mark(blocks) => Some(*blocks),
        _ => None,
    });
    marks.next().unwrap_or_default()
}

/// Cuts the power before every event of `history`, and in three places inside every write, with every choice of up to
/// four writes that were not flushed and all but one of more.
fn cuts(history: &[Durable]) -> Vec<(usize, Vec<Durable>, u64)> {
    let mut cuts = Vec::new();
    for end in 0..=history.len() {
        let mut pasts = vec![history[..end].to_vec()];
        if let Some(Durable::Write { at, data }) = history.get(end) {
            for quarter in 1..4 {
                let mut torn = history[..end].to_vec();
                let data = data[..data.len() / 2048 * 512 * quarter].to_vec();
                torn.push(Durable::Write { at: *at, data });
                pasts.push(torn);
            }
        }
        for history in pasts {
            let open = history
                .iter()
                .rev()
                .take_while(|e| !matches!(e, Durable::Flush))
                .filter(|e| matches!(e, Durable::Write { .. }))
                .count();
            match open {
                0..=4 => {
                    for set in 0..1 << open {
                        cuts.push((end, history.clone(), set));
                    }
                }
                _ => {
                    let all = (1 << open) - 1;
                    cuts.extend((0..open).map(|lost| (end, history.clone(), all & !(1 << lost))));
                    cuts.push((end, history.clone(), all));
                    cuts.push((end, history.clone(), 0));
                }
            }
        }
    }
    cuts
}

#[test]
fn a_mark_never_claims_a_block_that_is_not_on_the_medium_wherever_the_power_goes() {
    let image = image();
    let built = build(&image, None);
    let (view, starts) = flashed();
    let before = view.disk.lock().unwrap().bytes.clone();
    let (source, _) = elsewhere(&built.bytes, usize::MAX);
    run_with(view.clone(), starts, source, &mut Marks(view.clone()))
        .result
        .unwrap();
    let history = std::mem::take(&mut view.disk.lock().unwrap().history);
    let (mut media, mut resumed, mut behind) = (0, 0, 0);
    let mut seen = std::collections::HashSet::new();
    for (_, history, set) in cuts(&history) {
        let bytes = medium(&before, &history, |n| set >> n & 1 == 1);
        let mark = marked(&history);
        let slot = &bytes[starts[1]..starts[1] + usize::try_from(SLOT_BYTES).unwrap()];
        let there = held(slot, &image) as u64;
        assert!(mark <= there, "{mark} blocks are marked, {there} are there");
        if !seen.insert((Digest::of(&bytes), mark)) {
            continue;
        }
        media += 1;
        // Once it is staged there is nothing to resume; only what the mark says counts then.
        let (view, _) = flashed();
        view.disk.lock().unwrap().bytes = bytes;
        resumed += u64::from(resumes(&view, starts, &built, mark, &image) > 0);
        behind += u64::from(there > mark);
    }
    println!(
        "{media} media, {resumed} of them with blocks to keep, {behind} with more than the mark says"
    );
    assert!(media > 20 && resumed > 15 && behind > 5);
}

#[test]
fn a_connection_that_breaks_anywhere_costs_no_complete_block() {
    let image = image();
    let built = build(&image, None);
    let mut cuts: Vec<usize> = (built.offsets[0]..built.bytes.len())
        .step_by(7_001)
        .collect();
    cuts.extend(&built.offsets);
    for cut in cuts {
        let (view, starts) = flashed();
        let (source, asked) = elsewhere(&built.bytes, cut);
        let failed = run_with(view.clone(), starts, source, &mut Marks(view.clone()));
        failed.assert_slot_given_up();
        assert_eq!(failed.exit(), Exit::Failed);
        let received = asked.lock().unwrap().last().unwrap().end;
        let complete = built
            .offsets
            .iter()
            .skip(1)
            .copied()
            .chain([built.bytes.len()]);
        let complete = complete.filter(|end| *end <= received).count() as u64;
        // A block of zeros takes no bytes; whether it was reached before the end is all one.
        let mark = mark_of(&view);
        assert!(
            mark == complete || mark + 1 == complete,
            "cut at {cut}: {mark} of {complete} are marked"
        );
        assert_eq!(resumes(&view, starts, &built, mark, &image).max(mark), mark);
    }
}

#[test]
fn what_has_changed_below_the_mark_is_fetched_again() {
    let image = image();
    let built = build(&image, None);
    for changed in [0, 1, 7, 15, 16, 20] {
        let (view, starts) = flashed();
        {
            let mut disk = view.disk.lock().unwrap();
            disk.bytes[starts[1]..starts[1] + image.len()].copy_from_slice(&image);
            disk.bytes[starts[1] + changed * BLOCK + 77] ^= 1;
        }
        assert_eq!(resumes(&view, starts, &built, 21, &image), changed as u64);
        // The mark goes back to what is true before anything else is written.
        let disk = view.disk.lock().unwrap();
        let first = disk.history.iter().find_map(|event| match event {
            Durable::Mark(blocks) => Some(*blocks),
            _ => None,
        });
        assert_eq!(first, Some(changed as u64));
    }
}

#[test]
fn a_slot_that_is_complete_needs_nothing_but_the_tables() {
    let image = image();
    let built = build(&image, None);
    let (view, starts) = flashed();
    view.disk.lock().unwrap().bytes[starts[1]..starts[1] + image.len()].copy_from_slice(&image);
    let (source, asked) = elsewhere(&built.bytes, usize::MAX);
    let run = resume_from(view, starts, source, 21, &mut Silent);
    assert_eq!(run.result.as_ref().unwrap().resumed, 21);
    let last = asked.lock().unwrap().last().unwrap().end;
    assert_eq!(last, built.offsets[0]);
    // Each block was read once, and after a flush.
    let image_sectors = image.len() as u64 / 512;
    let disk = run.view.disk.lock().unwrap();
    let reads: Vec<_> = disk
        .events
        .iter()
        .filter_map(|event| match event {
            Event::SlotRead { lba, len } if *lba < image_sectors => Some((*lba, *len)),
            _ => None,
        })
        .collect();
    assert_eq!(reads.iter().map(|(_, len)| len).sum::<usize>(), image.len());
    let flush = disk.events.iter().position(|e| *e == Event::SlotFlush);
    let read = disk
        .events
        .iter()
        .position(|e| matches!(e, Event::SlotRead { lba: 0, .. }));
    assert!(flush < read);
}

#[test]
fn a_file_and_a_pipe_can_be_gone_on_with_too() {
    let image = image();
    let built = build(&image, None);
    for seekable in [true, false] {
        let (view, starts) = flashed();
        let half = 10 * BLOCK;
        view.disk.lock().unwrap().bytes[starts[1]..starts[1] + half]
            .copy_from_slice(&image[..half]);
        let source = source(&built.bytes, seekable);
        let run = resume_from(view, starts, source, 10, &mut Silent);
        assert_eq!(run.result.as_ref().unwrap().resumed, 10);
        assert!(run.slot_b()[..image.len()] == image);

        // What a mark says never replaces the check of a file, nor the end of a stream.
        let mut damaged = built.bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for bytes in [damaged, [built.bytes.as_slice(), b"x"].concat()] {
            let (view, starts) = flashed();
            view.disk.lock().unwrap().bytes[starts[1]..starts[1] + half]
                .copy_from_slice(&image[..half]);
            let source = super::source(&bytes, seekable);
            let run = resume_from(view, starts, source, 10, &mut Silent);
            assert_eq!(run.exit(), Exit::Verification);
            match seekable {
                true => run.assert_nothing_written(),
                false => run.assert_slot_given_up(),
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_fetched() {
    let image = image();
    let built = build(&image, None);
    let (view, starts) = flashed();
    {
        let mut disk = view.disk.lock().unwrap();
        disk.bytes[starts[1]..starts[1] + image.len()].copy_from_slice(&image);
        // In the second MiB.
        disk.unreadable = Some(starts[1] + 18 * BLOCK);
    }
    let (source, asked) = elsewhere(&built.bytes, usize::MAX);
    let run = resume_from(view, starts, source, 21, &mut Silent);
    assert_eq!(run.result.as_ref().unwrap().resumed, 16);
    assert!(run.slot_b()[..image.len()] == image);
    let data = built.offsets[0];
    let asked = asked.lock().unwrap();
    let first = asked.iter().find(|range| range.start >= data).unwrap();
    assert_eq!(first.start, built.offsets[16]);
}

#[test]
fn a_cancelled_installation_goes_on_where_it_was() {
    struct AfterBlocks(u64, std::cell::Cell<bool>, View);
    impl Observer for AfterBlocks {
        fn progress(&mut self, phase: Phase, done: u64, _: u64) {
            if phase == Phase::Writing && done >= self.0 {
                self.1.set(true);
            }
        }
        fn cancelled(&self) -> bool {
            self.1.get()
        }
        fn durable(&mut self, release: &Admitted, blocks: u64) {
            Marks(self.2.clone()).durable(release, blocks);
        }
    }
    let image = image();
    let built = build(&image, None);
    for blocks in 1..21 {
        let (view, starts) = flashed();
        let (source, _) = elsewhere(&built.bytes, usize::MAX);
        let mut observer = AfterBlocks(blocks, std::cell::Cell::new(false), view.clone());
        let run = run_with(view.clone(), starts, source, &mut observer);
        assert!(matches!(run.result, Err(EngineError::Cancelled)));
        run.assert_slot_given_up();
        let mark = mark_of(&view);
        assert!(mark >= blocks);
        assert_eq!(resumes(&view, starts, &built, mark, &image), mark);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the slot holds, wherever the mark is, however often the connection breaks and the power goes: what comes
    /// out is the image, and nothing that was there was fetched.
    #[test]
    fn whatever_is_there_and_whatever_the_mark_says_the_image_comes_out(
        good in proptest::collection::vec(any::<bool>(), 21),
        leading in 0_usize..22,
        mark in 0_u64..40,
        breaks in proptest::collection::vec(any::<proptest::sample::Index>(), 0..3),
        survive: u64,
    ) {
        let image = image();
        let built = build(&image, None);
        let (view, starts) = flashed();
        for (index, block) in image.chunks(BLOCK).enumerate() {
            if good[index] || index < leading {
                let at = starts[1] + index * BLOCK;
                view.disk.lock().unwrap().bytes[at..at + block.len()].copy_from_slice(block);
            }
        }
        let mut mark = mark;
        for cut in breaks {
            let before = view.disk.lock().unwrap().bytes.clone();
            view.disk.lock().unwrap().history.clear();
            let cut = cut.index(built.bytes.len());
            let (source, _) = elsewhere(&built.bytes, cut);
            let run = resume_from(view.clone(), starts, source, mark, &mut Marks(view.clone()));
            if run.result.is_ok() {
                break;
            }
            let mut disk = view.disk.lock().unwrap();
            let history = std::mem::take(&mut disk.history);
            if !history.is_empty() {
                mark = marked(&history);
            }
            disk.bytes = medium(&before, &history, |n| survive >> (n % 64) & 1 == 1);
        }
        view.disk.lock().unwrap().history.clear();
        resumes(&view, starts, &built, mark, &image);
    }
}
