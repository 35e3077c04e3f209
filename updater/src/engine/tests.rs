mod cancel;
mod disk;
mod overlap;
mod payload;
mod resume;

use std::io::Write as _;

use bootctl::control::Control;
use bootctl::exit::Exit;
use bootctl::transition::TryCount;
use bootctl::{Attributes, Slot};

use super::*;
use crate::Digest;
use disk::{Event, Fault, MIB, SLOT_BYTES, View, flashed};
use payload::{BLOCK, accept, build, image};

/// Installs `payload` on a flashed disk on which `fault` waits.
struct Run {
    view: View,
    starts: [usize; 2],
    before: Vec<u8>,
    result: Result<Report, EngineError>,
}

fn run(payload: &[u8], seekable: bool, fault: Option<Fault>) -> Run {
    let (view, starts) = flashed();
    view.disk.lock().unwrap().fault = fault;
    run_on(view, starts, payload, seekable)
}

fn run_on(view: View, starts: [usize; 2], payload: &[u8], seekable: bool) -> Run {
    run_with(view, starts, source(payload, seekable), &mut Silent)
}

fn source(payload: &[u8], seekable: bool) -> Source {
    // An open file stays when its name is gone.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(payload).unwrap();
    match seekable {
        true => Source::open(file.path()).unwrap(),
        false => Source::stream(std::io::Cursor::new(payload.to_vec())),
    }
}

fn run_with(view: View, starts: [usize; 2], source: Source, observer: &mut dyn Observer) -> Run {
    run_from(view, starts, source, None, observer)
}

fn run_from(
    view: View,
    starts: [usize; 2],
    source: Source,
    mark: Option<u64>,
    observer: &mut dyn Observer,
) -> Run {
    let before = view.disk.lock().unwrap().bytes.clone();
    let result = accept(source).and_then(|(source, tables, release)| {
        let mut control = Control::open(view.clone()).unwrap();
        let mut slot_io = view.partition(starts[1]);
        let target = Target {
            control: &mut control,
            slot_io: &mut slot_io,
            active: Slot::A,
            tries: TryCount::DEFAULT,
        };
        match mark {
            None => install(source, &tables, &release, target, observer),
            Some(mark) => super::resume(source, &tables, &release, target, mark, observer),
        }
    });
    Run {
        view,
        starts,
        before,
        result,
    }
}

impl Run {
    fn bytes(&self) -> Vec<u8> {
        self.view.disk.lock().unwrap().bytes.clone()
    }

    fn slot_b(&self) -> Vec<u8> {
        let start = self.starts[1];
        self.bytes()[start..start + usize::try_from(SLOT_BYTES).unwrap()].to_vec()
    }

    fn control(&self) -> Control<View> {
        self.view.disk.lock().unwrap().fault = None;
        Control::open(self.view.clone()).unwrap()
    }

    fn exit(&self) -> Exit {
        self.result
            .as_ref()
            .map_or_else(EngineError::exit, |_| Exit::Done)
    }

    /// Slot B can't boot by any store and has no record; slot A is what it was.
    fn assert_slot_given_up(&self) {
        assert!(self.result.is_err());
        let mut control = self.control();
        let report = control.state().unwrap();
        assert_eq!(report.state.unwrap().b, Attributes::UNBOOTABLE);
        assert_eq!(report.mirror.unwrap().b, Attributes::UNBOOTABLE);
        assert_eq!(report.confirmed, Some(Slot::A));
        assert!(report.state.unwrap().a.is_confirmed());
        assert!(control.read_slot_record(Slot::B).is_err());
        self.assert_slot_a_untouched();
    }

    fn assert_slot_a_untouched(&self) {
        let a = self.starts[0]..self.starts[0] + usize::try_from(SLOT_BYTES).unwrap();
        assert!(
            self.bytes()[a.clone()] == self.before[a],
            "slot A was written"
        );
    }

    fn assert_nothing_written(&self) {
        assert!(self.result.is_err());
        assert!(self.bytes() == self.before, "the disk was written");
    }
}

#[test]
fn a_good_payload_is_installed_from_a_file_and_from_a_stream() {
    let image = image();
    let built = build(&image, None);
    for seekable in [true, false] {
        let run = run(&built.bytes, seekable, None);
        let report = *run.result.as_ref().unwrap();
        assert_eq!(
            (report.slot, report.blocks, report.unchanged),
            (Slot::B, 21, 0)
        );
        assert!(run.slot_b()[..image.len()] == image);
        run.assert_slot_a_untouched();
        let mut control = run.control();
        let state = control.state().unwrap();
        let b = state.state.unwrap().b;
        assert_eq!(
            (b.priority.get(), b.tries.get(), b.successful),
            (2, 3, false)
        );
        assert_eq!(state.mirror, state.state);
        let record = control.read_slot_record(Slot::B).unwrap();
        assert_eq!(record.content, Digest::of(&image).0);
        assert_eq!((record.version.as_str(), record.rollback_index), ("2", 5));
        let mut body = vec![0; record.body_len as usize];
        control
            .read_slot_record_body(Slot::B, &record, &mut body)
            .unwrap();
        assert_eq!(body, built.bytes[..built.offsets[0]]);
    }
}

#[test]
fn blocks_that_are_there_already_are_not_written_again() {
    let built = build(&image(), None);
    let first = run(&built.bytes, true, None);
    first.view.disk.lock().unwrap().events.clear();
    let again = run_on(first.view.clone(), first.starts, &built.bytes, false);
    assert_eq!(again.result.as_ref().unwrap().unchanged, 21);
    let image_sectors = image().len() as u64 / 512;
    let disk = again.view.disk.lock().unwrap();
    let image_writes =
        |event: &&Event| matches!(event, Event::SlotWrite { lba, .. } if *lba < image_sectors);
    assert_eq!(disk.events.iter().filter(image_writes).count(), 0);
    drop(disk);

    // One byte of one block has changed: that block alone is written.
    let at = again.starts[1] + 3 * BLOCK + BLOCK - 1;
    again.view.disk.lock().unwrap().bytes[at] ^= 1;
    again.view.disk.lock().unwrap().events.clear();
    let third = run_on(again.view.clone(), again.starts, &built.bytes, false);
    assert_eq!(third.result.as_ref().unwrap().unchanged, 20);
    let disk = third.view.disk.lock().unwrap();
    let writes: Vec<_> = disk.events.iter().filter(image_writes).collect();
    assert_eq!(
        writes,
        [&Event::SlotWrite {
            lba: 3 * 128,
            len: BLOCK
        }]
    );
}

#[test]
fn neighbouring_blocks_are_written_together() {
    let run = run(&build(&image(), None).bytes, true, None);
    let disk = run.view.disk.lock().unwrap();
    let full = |event: &&Event| matches!(event, Event::SlotWrite { len, .. } if *len as u64 == MIB);
    assert_eq!(disk.events.iter().filter(full).count(), 1);
}

#[test]
fn the_slot_is_unbootable_before_its_first_byte_and_bootable_after_its_last() {
    let run = run(&build(&image(), None).bytes, true, None);
    run.result.as_ref().unwrap();
    // Installed once more, so that invalidation has something to write.
    run.view.disk.lock().unwrap().events.clear();
    let mut bytes = image();
    bytes[5] ^= 1;
    let again = run_on(
        run.view.clone(),
        run.starts,
        &build(&bytes, None).bytes,
        true,
    );
    let events = again.view.disk.lock().unwrap().events.clone();
    let first = events
        .iter()
        .position(|e| matches!(e, Event::SlotWrite { .. }))
        .unwrap();
    let last = events.iter().rposition(|e| *e == Event::SlotFlush).unwrap();
    assert!(first > 0 && events[..first].iter().all(|e| *e == Event::Commit));
    assert!(events[first..last].iter().all(|e| *e != Event::Commit));
    assert!(events[last + 1..].iter().all(|e| *e == Event::Commit));
    assert!(events.len() > last + 1);
}

#[test]
fn every_fault_of_the_medium_leaves_the_slot_unbootable() {
    let built = build(&image(), None);
    let writes = run(&built.bytes, true, None)
        .view
        .disk
        .lock()
        .unwrap()
        .slot_writes;
    assert!(writes > 4);
    let mut faults: Vec<Fault> = (1..=writes)
        .flat_map(|n| [Fault::Write(n), Fault::ShortWrite(n)])
        .collect();
    faults.extend((1..=4).map(Fault::Flush));
    faults.push(Fault::ReadBack);
    faults.extend([Fault::Rot, Fault::FirstSectorRot]);
    for fault in faults {
        for seekable in [true, false] {
            let failed = run(&built.bytes, seekable, Some(fault));
            let expected = match fault {
                Fault::Rot | Fault::FirstSectorRot => Exit::Verification,
                _ => Exit::Failed,
            };
            assert_eq!(failed.exit(), expected, "{fault:?}: {:?}", failed.result);
            if matches!(fault, Fault::Write(_) | Fault::ShortWrite(_)) {
                // The medium took no more writes at all, so a record that was written half is found half.
                let mut control = failed.control();
                let report = control.state().unwrap();
                assert_eq!(report.state.unwrap().b, Attributes::UNBOOTABLE, "{fault:?}");
                assert_eq!(
                    report.mirror.unwrap().b,
                    Attributes::UNBOOTABLE,
                    "{fault:?}"
                );
                failed.assert_slot_a_untouched();
            } else {
                failed.assert_slot_given_up();
            }
            // And the update can be repeated.
            failed.view.disk.lock().unwrap().fault = None;
            let again = run_on(failed.view.clone(), failed.starts, &built.bytes, seekable);
            assert!(again.result.is_ok(), "{fault:?}: {:?}", again.result);
        }
    }
}

#[test]
fn no_byte_of_the_slot_changes_if_it_cannot_be_invalidated() {
    let built = build(&image(), None);
    let good = run(&built.bytes, true, None);
    let mut other = image();
    other[0] ^= 1;
    let other = build(&other, None);
    // Slot B is bootable now, so every store has to be written; each write in turn fails.
    let mut refused = 0;
    for n in 1..100 {
        let (view, starts) = flashed();
        view.disk.lock().unwrap().bytes = good.bytes();
        view.disk.lock().unwrap().fault = Some(Fault::Commit(n));
        let slot = good.slot_b();
        let failed = run_on(view, starts, &other.bytes, true);
        if failed.result.is_ok() {
            break;
        }
        assert_eq!(failed.exit(), Exit::Failed);
        if failed.view.disk.lock().unwrap().slot_writes == 0 {
            refused += 1;
            assert!(failed.slot_b() == slot, "commit {n}");
        } else {
            // Activation failed: both stores together must not boot what the other does not know.
            let authority = failed.control().state().unwrap().state.unwrap();
            assert_eq!(authority.b, Attributes::UNBOOTABLE, "commit {n}");
        }
    }
    assert!(refused >= 2);
}

#[test]
fn a_damaged_file_costs_nothing_and_a_damaged_stream_only_the_slot() {
    let built = build(&image(), None);
    let end = built.bytes.len();
    for at in [
        0,
        8,
        40,
        100,
        150,
        built.table,
        built.table + 79,
        built.offsets[0],
        end - 1,
    ] {
        let mut bytes = built.bytes.clone();
        bytes[at] ^= 1;
        let from_file = run(&bytes, true, None);
        assert_eq!(
            from_file.exit(),
            Exit::Verification,
            "byte {at}: {:?}",
            from_file.result
        );
        from_file.assert_nothing_written();
        let streamed = run(&bytes, false, None);
        assert_eq!(streamed.exit(), Exit::Verification, "byte {at}");
        match at < built.offsets[0] {
            true => streamed.assert_nothing_written(),
            false => streamed.assert_slot_given_up(),
        }
    }
}

#[test]
fn truncation_and_trailing_bytes_are_found() {
    let built = build(&image(), None);
    let end = built.bytes.len();
    let cuts = [
        0,
        7,
        15,
        16,
        111,
        112,
        built.table - 1,
        built.table,
        built.table + 80,
    ];
    for cut in cuts
        .into_iter()
        .chain(built.offsets.iter().skip(1).copied())
        .chain([end - 1])
    {
        if cut == end {
            continue;
        }
        for seekable in [true, false] {
            let run = run(&built.bytes[..cut], seekable, None);
            assert_eq!(
                run.exit(),
                Exit::Verification,
                "cut at {cut}: {:?}",
                run.result
            );
            match seekable || cut < built.offsets[0] {
                true => run.assert_nothing_written(),
                false => run.assert_slot_given_up(),
            }
        }
    }
    let trailing = [built.bytes.as_slice(), b"x"].concat();
    run(&trailing, true, None).assert_nothing_written();
    let streamed = run(&trailing, false, None);
    assert_eq!(streamed.exit(), Exit::Verification);
    streamed.assert_slot_given_up();
}

#[test]
fn an_image_that_is_not_the_manifests_is_never_activated() {
    let built = build(&image(), Some(Digest::of(b"another image")));
    for seekable in [true, false] {
        let run = run(&built.bytes, seekable, None);
        assert_eq!(run.exit(), Exit::Verification);
        run.assert_slot_given_up();
    }
}

#[test]
fn a_check_finds_what_an_installation_would_without_a_disk() {
    let good = build(&image(), None);
    let checked = |bytes: &[u8]| {
        let source = Source::stream(std::io::Cursor::new(bytes.to_vec()));
        accept(source)
            .and_then(|(source, tables, release)| check(source, &tables, &release, &mut Silent))
    };
    assert!(checked(&good.bytes).is_ok());
    assert!(checked(&good.bytes[..good.bytes.len() - 1]).is_err());
    assert!(checked(&[good.bytes.as_slice(), b"x"].concat()).is_err());
    assert!(checked(&build(&image(), Some(Digest::default())).bytes).is_err());
}
