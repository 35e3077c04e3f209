//! A process that downloads and installs is killed again and again, at moments that nobody chose, and started again.
//!
//! It is this program itself, in another process: [`child`](child()) is what it runs there. What it fetches is paced by the disk,
//! as on a link that is slower, so that what may be fetched twice is exactly the block that it was in.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use bootctl::Slot;
use updater::resume;

use super::bench::{Bench, IMAGE};
use super::child::{Paths, run};
use super::payload::Payload;

const KILLS: usize = 60;

/// Where a process is killed: at the first sign of this, some signs later, and some microseconds after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Somewhere before the first block.
    Starting,
    Resuming,
    Downloading,
    Comparing,
    /// Between the last comparison and the end.
    Finalizing,
}

/// Numbers that look random, the same in every run.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(
            blake3::Hasher::new()
                .update(&seed.to_le_bytes())
                .finalize_xof(),
        )
    }

    fn below(&mut self, limit: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % limit
    }
}

fn start(bench: &Bench<'_>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::child", "--ignored", "--nocapture"])
        .envs(bench.paths.to_env())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How a process ended, and where it was.
struct Life {
    killed_in: Option<Moment>,
    success: bool,
}

/// Lets a process live until the `after`th sign of `moment`.
fn live(bench: &Bench<'_>, moment: Moment, after: u64, delay: Duration) -> Life {
    let mut child = start(bench);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut at, mut seen) = (Moment::Starting, 0);
    let mut last = false;
    let signs = lines.map_while(Result::ok).filter_map(|line| {
        let line = line.strip_prefix("@ ")?.to_owned();
        Some(line)
    });
    for sign in signs {
        let now = match sign.split_whitespace().next().unwrap_or_default() {
            "open" => Moment::Starting,
            "Resuming" => Moment::Resuming,
            "Writing" => Moment::Downloading,
            "Comparing" if last => Moment::Finalizing,
            "Comparing" if at >= Moment::Comparing => Moment::Comparing,
            // While blocks are still coming, that is what it is doing.
            "Comparing" => continue,
            "written" => Moment::Comparing,
            "compared" | "staging" => Moment::Finalizing,
            "done" => {
                assert!(child.wait().unwrap().success());
                return Life {
                    killed_in: None,
                    success: true,
                };
            }
            other => panic!("{other}: {sign}"),
        };
        last |= now == Moment::Finalizing;
        at = at.max(now);
        seen += u64::from(now == moment);
        if seen > after {
            sleep(delay);
            child.kill().unwrap();
            child.wait().unwrap();
            return Life {
                killed_in: Some(at),
                success: false,
            };
        }
    }
    let status = child.wait().unwrap();
    panic!("{status} while {at:?}");
}

#[test]
fn whenever_it_is_killed_it_ends_with_the_image_and_fetches_no_complete_block_twice() {
    let mut dice = Dice::new(5);
    let mut tally = BTreeMap::<Moment, usize>::new();
    let (mut kills, mut rounds, mut turn, mut again) = (0, 0, 0, 0);
    let moments = [
        Moment::Downloading,
        Moment::Comparing,
        Moment::Downloading,
        Moment::Finalizing,
        Moment::Resuming,
        Moment::Downloading,
        Moment::Starting,
        Moment::Finalizing,
        Moment::Comparing,
    ];
    let payload = Payload::new(IMAGE);
    while kills < KILLS {
        let bench = Bench::new(&payload);
        let slot_a = bench.slot(Slot::A);
        let mut staged = false;
        for _ in 0..9 {
            if kills >= KILLS {
                break;
            }
            let moment = moments[turn % moments.len()];
            turn += 1;
            let after = match moment {
                Moment::Starting | Moment::Finalizing => 0,
                Moment::Resuming => dice.below(8),
                Moment::Downloading => dice.below(40),
                Moment::Comparing => dice.below(6),
            };
            let delay = Duration::from_micros(dice.below(8_000));
            let before = bench.fetched();
            let life = live(&bench, moment, after, delay);
            bench.assert_safe(&slot_a);
            again = again.max(bench.payload.assert_fetched_once(&before, &bench.fetched()));
            match life.killed_in {
                Some(moment) => *tally.entry(moment).or_default() += 1,
                None => assert!(life.success),
            }
            staged = bench.device.state().b.is_candidate();
            // None if the moment did not come, because the slot was further.
            kills += usize::from(life.killed_in.is_some());
            if staged {
                break;
            }
        }
        if !staged {
            let before = bench.fetched();
            let last = live(&bench, Moment::Starting, u64::MAX, Duration::ZERO);
            assert!(last.success);
            bench.payload.assert_fetched_once(&before, &bench.fetched());
        }
        assert!(bench.slot_b_is_the_image());
        bench.assert_safe(&slot_a);
        let record = bench.device.control().read_slot_record(Slot::B).unwrap();
        assert_eq!(record.payload_id, bench.payload.id.0);
        // A process that was killed between staging and forgetting left the mark; it harms nobody.
        if !staged {
            assert_eq!(resume::load_mark(&bench.paths.state), None);
        }
        rounds += 1;
    }
    println!(
        "{kills} kills in {rounds} updates: {tally:?}; at most {again} bytes fetched again after one"
    );
    for moment in [
        Moment::Starting,
        Moment::Resuming,
        Moment::Downloading,
        Moment::Comparing,
        Moment::Finalizing,
    ] {
        assert!(tally.contains_key(&moment), "{moment:?}: {tally:?}");
    }
}

/// Not a test: what the killed processes run.
#[test]
#[ignore = "it is started by another test"]
fn child() {
    if let Some(paths) = Paths::from_env() {
        run(&paths);
    }
}
