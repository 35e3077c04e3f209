//! An installation that somebody ends, and what it said to be durable until then.

use std::cell::Cell;

use super::*;

/// Wants to stop when it is asked for the `n`th time; hears what is durable.
struct Impatient {
    left: Cell<usize>,
    durable: Vec<u64>,
    staged: bool,
}

impl Impatient {
    fn after(n: usize) -> Self {
        Self {
            left: Cell::new(n),
            durable: Vec::new(),
            staged: false,
        }
    }
}

impl Observer for Impatient {
    fn progress(&mut self, _: Phase, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 0
    }

    fn durable(&mut self, _: &Admitted, blocks: u64) {
        self.durable.push(blocks);
    }

    fn staging(&mut self, _: &Admitted, _: Slot) {
        self.staged = true;
    }
}

#[test]
fn whoever_cancels_finds_nothing_touched_or_a_slot_that_cannot_boot() {
    let built = build(&image(), None);
    for seekable in [true, false] {
        let mut stages = Vec::new();
        for n in 0.. {
            assert!(n < 1000, "it never ends");
            let (view, starts) = flashed();
            let mut observer = Impatient::after(n);
            let run = run_with(view, starts, source(&built.bytes, seekable), &mut observer);
            if run.result.is_ok() {
                assert!(observer.staged);
                stages.push("staged");
                break;
            }
            let error = run.result.as_ref().unwrap_err();
            assert!(matches!(error, EngineError::Cancelled), "{n}: {error}");
            assert_eq!(error.to_string(), "install payload: cancelled");
            assert_eq!(run.exit(), Exit::Failed);
            assert!(!observer.staged);
            stages.push(match run.view.disk.lock().unwrap().slot_writes {
                0 => "untouched",
                _ => "given up",
            });
            match stages.last() {
                Some(&"untouched") => run.assert_nothing_written(),
                _ => run.assert_slot_given_up(),
            }
            // What it called durable is there.
            let blocks = observer.durable.last().copied().unwrap_or_default();
            let bytes = image().len().min(usize::try_from(blocks).unwrap() * BLOCK);
            assert!(run.slot_b()[..bytes] == image()[..bytes]);
        }
        stages.dedup();
        let expected: &[_] = match seekable {
            true => &["untouched", "given up", "staged"],
            false => &["given up", "staged"],
        };
        assert_eq!(stages, expected);
    }
}

#[test]
fn what_is_durable_grows_with_every_flush_to_all_of_it() {
    let (view, starts) = flashed();
    let mut observer = Impatient::after(usize::MAX);
    let bytes = build(&image(), None).bytes;
    let run = run_with(view, starts, source(&bytes, false), &mut observer);
    assert!(run.result.is_ok());
    assert_eq!(observer.durable, [16, 21]);
}

#[test]
fn a_source_that_gives_nothing_does_not_keep_a_cancelled_installation() {
    struct Stalls(std::sync::mpsc::Receiver<()>, std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Stalls {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            match self.1.read(buf)? {
                // As a source does that is told by whoever cancels.
                0 => Err(self.0.recv().map_or(std::io::ErrorKind::TimedOut, |()| {
                    std::io::ErrorKind::ConnectionAborted
                }))?,
                count => Ok(count),
            }
        }
    }
    struct Tells(std::sync::mpsc::Sender<()>, Cell<usize>);
    impl Observer for Tells {
        fn progress(&mut self, _: Phase, _: u64, _: u64) {}
        fn cancelled(&self) -> bool {
            self.1.set(self.1.get() + 1);
            // The second time nothing has come for a while.
            self.1.get() > 1 && self.0.send(()).is_ok()
        }
    }
    let built = build(&image(), None);
    let start = built.bytes[..built.offsets[3]].to_vec();
    let (tell, told) = std::sync::mpsc::channel();
    let source = Source::stream(Stalls(told, std::io::Cursor::new(start)));
    let (view, starts) = flashed();
    let run = run_with(view, starts, source, &mut Tells(tell, Cell::new(0)));
    assert!(matches!(run.result, Err(EngineError::Cancelled)));
    run.assert_slot_given_up();
}
