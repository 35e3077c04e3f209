//! The simulator can fail: what the product writes passes, and the same in a wrong order does not.

use std::sync::Arc;

use bootctl::SectorSize;

use super::campaign::{Effort, Job, Plan, judge_log, run};
use super::cuts::Depth;
use super::disk::{Event, SimDisk};
use super::fixture::{Board, Fixture};
use super::operation::Operation;
use super::release;

/// Enough to find what is wrong; `tests/powercut` does more.
const SMALL: Depth = Depth {
    all_subsets: 4,
    sampled_subsets: 1,
    tears: 1,
    kinds: usize::MAX,
};

const EFFORT: Effort = Effort {
    depth: SMALL,
    double_every: 100,
    second_depth: SMALL,
    random_runs: 1,
    repeat_one_of: 20,
    faults: false,
    losses: true,
};

const PLAN: Plan = Plan {
    seed: 1,
    threads: 2,
    stop: false,
};

fn fixture(board: Board) -> Fixture {
    let releases = Arc::new(release::all().unwrap());
    Fixture::new(board, SectorSize::B512, &releases).unwrap()
}

/// A device that has booted once.
fn job<'a>(fixture: &'a Fixture, before: &[Operation], operation: Operation) -> Job<'a> {
    let disk = SimDisk::new(fixture.flashed.clone(), None);
    for operation in [Operation::Start].iter().chain(before) {
        operation.run(fixture, &disk, 0, 3).unwrap();
    }
    Job {
        fixture,
        start: disk.now(),
        running: 0,
        operation,
        tries: 3,
        path: Vec::new(),
        effort: EFFORT,
    }
}

fn log(job: &Job<'_>) -> Vec<Event> {
    let disk = SimDisk::new(job.start.clone(), None);
    job.operation.run(job.fixture, &disk, 0, 3).unwrap();
    disk.take_log()
}

fn findings(job: &Job<'_>, log: &[Event]) -> Vec<String> {
    let found = judge_log(job, &PLAN, log);
    found.into_iter().map(|finding| finding.what).collect()
}

fn writes_within(event: &Event, range: &std::ops::Range<u64>) -> bool {
    matches!(event, Event::Write(write) if range.contains(&write.at))
}

#[test]
fn what_the_product_does_passes_and_is_counted() {
    let fixture = fixture(Board::RpiUboot);
    let jobs = [job(
        &fixture,
        &[Operation::Install(1)],
        Operation::MarkUnbootable,
    )];
    let report = run(&jobs, &PLAN, |_| ());
    let found: Vec<_> = report.findings.iter().map(|f| f.trace.join("\n")).collect();
    assert!(found.is_empty(), "{}", found.join("\n\n"));
    let sum = report.sum();
    assert!(
        sum.cuts > 30 && sum.recoveries > 30 && sum.media > 20,
        "{sum:?}"
    );
    assert_eq!(run(&jobs, &PLAN, |_| ()).sum(), sum, "a seed repeats a run");
}

#[test]
fn both_copies_of_the_table_without_a_flush_between_are_caught() {
    let fixture = fixture(Board::RpiUboot);
    let job = job(
        &fixture,
        &[Operation::Install(1)],
        Operation::MarkUnbootable,
    );
    let log: Vec<_> = log(&job)
        .into_iter()
        .filter(|event| *event != Event::Flush)
        .collect();
    let found = findings(&job, &log);
    assert!(!found.is_empty());
}

#[test]
fn a_slot_that_is_bootable_before_it_is_complete_is_caught() {
    let fixture = fixture(Board::X86Grub);
    let job = job(&fixture, &[], Operation::Install(1));
    let log = log(&job);
    let environment = &fixture.layout.environment[0];
    // The last write to the environment activates; here it comes first.
    let at = log
        .iter()
        .rposition(|event| writes_within(event, environment))
        .unwrap();
    let mut wrong = vec![log[at].clone(), Event::Flush];
    wrong.extend(log.iter().take(at).cloned());
    let found = findings(&job, &wrong);
    assert!(
        found.iter().any(|what| what.contains("bootable")),
        "{found:?}"
    );
}

#[test]
fn an_installation_without_invalidation_is_caught() {
    for board in [Board::X86Grub, Board::RpiUboot] {
        let fixture = fixture(board);
        // Slot b is staged, so that it is bootable.
        let job = job(&fixture, &[Operation::Install(1)], Operation::Install(2));
        let log = log(&job);
        let slot = &fixture.layout.usr[1];
        let first = log
            .iter()
            .position(|event| writes_within(event, slot))
            .unwrap();
        let found = findings(&job, &log[first..]);
        assert!(
            found.iter().any(|what| what.contains("bootable")),
            "{board:?}: {found:?}"
        );
    }
}

#[test]
fn an_activation_that_is_not_flushed_after_the_blocks_is_caught() {
    let fixture = fixture(Board::X86Grub);
    let job = job(&fixture, &[], Operation::Install(1));
    let slot = &fixture.layout.image[1];
    let log = log(&job);
    let last = log
        .iter()
        .rposition(|event| writes_within(event, slot))
        .unwrap();
    let mut wrong = log.clone();
    let mut place = last;
    // Every flush behind the blocks is gone.
    wrong.retain(|event| {
        let keep = place > 0 || *event != Event::Flush;
        place = place.saturating_sub(1);
        keep
    });
    assert!(!findings(&job, &wrong).is_empty());
}
