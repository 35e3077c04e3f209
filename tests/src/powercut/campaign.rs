//! Runs every operation from every state, cuts it everywhere, and judges what is left.

mod faults;
mod random;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::cuts::{Cut, Depth, Kind, Rest, enumerate};
use super::disk::{Event, SimDisk};
use super::facts::Facts;
use super::fixture::{Board, Fixture};
use super::judge::{Case, Damage, Judged, Violation, must};
use super::medium::{Key, Medium};
use super::operation::Operation;
use super::recovery::{FUTURES, Future, completed, recover};
use super::report::{Counts, Finding, Report, describe};
use super::search::losses;

/// How much is done with one operation.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub depth: Depth,
    /// Of the media after a first cut, every how many-th is cut again during its recovery.
    pub double_every: usize,
    /// How the second cuts are enumerated.
    pub second_depth: Depth,
    /// Random runs of up to five cuts for each operation and state.
    pub random_runs: usize,
    /// Installations are repeated after one of so many recoveries.
    pub repeat_one_of: u64,
    /// Requests fail one by one.
    pub faults: bool,
    /// A store is lost besides, after each cut between whole writes.
    pub losses: bool,
}

impl Effort {
    /// Every cut, and cuts again after a fourth of them.
    pub const DEEP: Self = Self {
        depth: Depth::FULL,
        double_every: 4,
        second_depth: Depth::QUICK,
        random_runs: 20,
        repeat_one_of: 3,
        faults: true,
        losses: true,
    };
    /// A choice of each kind.
    pub const QUICK: Self = Self {
        depth: Depth::QUICK,
        double_every: 40,
        second_depth: Depth::QUICK,
        random_runs: 2,
        repeat_one_of: 12,
        faults: true,
        losses: true,
    };
    /// For very many states: every write is cut before, after and once inside.
    pub const WIDE: Self = Self {
        depth: Depth::WIDE,
        double_every: usize::MAX,
        second_depth: Depth::WIDE,
        random_runs: 1,
        repeat_one_of: 24,
        faults: false,
        losses: false,
    };
}

/// How a whole campaign goes.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub threads: usize,
    /// Stop at the first finding.
    pub stop: bool,
}

/// One operation from one state.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    pub fixture: &'a Fixture,
    pub start: Medium,
    pub running: usize,
    pub operation: Operation,
    pub tries: u8,
    /// How the state came about.
    pub path: Vec<String>,
    pub effort: Effort,
}

/// Runs all jobs, and says how many are done after each. The report does not depend on the number of threads.
#[must_use]
pub fn run(jobs: &[Job<'_>], plan: &Plan, progress: impl Fn(usize) + Sync) -> Report {
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..plan.threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { break };
                    let mut worker = Worker::new(job, plan, number);
                    worker.run();
                    if plan.stop && !worker.findings.is_empty() {
                        next.store(jobs.len(), Ordering::Relaxed);
                    }
                    let result = (number, worker.counts, worker.media, worker.findings);
                    results
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(result);
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, ..)| *number);
    let mut report = Report::default();
    let mut seen: HashSet<(Board, u64, Key)> = HashSet::new();
    for (number, mut counts, media, findings) in results {
        let Some(job) = jobs.get(number) else {
            continue;
        };
        let fixture = job.fixture;
        let place = (fixture.board, fixture.sector_size.bytes());
        counts.media = 0;
        for key in media {
            counts.media += u64::from(seen.insert((place.0, place.1, key)));
        }
        report.add(fixture.board.name(), job.operation.name(), &counts);
        report.findings.extend(findings);
    }
    report
}

/// Cuts this log, instead of what the operation writes, everywhere.
#[must_use]
pub fn judge_log(job: &Job<'_>, plan: &Plan, log: &[Event]) -> Vec<Finding> {
    let mut worker = Worker::new(job, plan, 0);
    worker.cut_everywhere(log);
    worker.findings
}

struct Worker<'a> {
    case: Case<'a>,
    effort: &'a Effort,
    seed: u64,
    path: &'a [String],
    counts: Counts,
    media: HashSet<Key>,
    /// Media that were judged, and how strictly.
    judged: HashSet<(Key, Strictness)>,
    findings: Vec<Finding>,
}

/// How much a medium may have lost by what led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Strictness {
    /// The first cut, between whole writes.
    Whole,
    /// The first cut, within a write.
    Torn,
    /// A mishap after another.
    Later,
}

/// More findings than this of one job say nothing new.
const ENOUGH: usize = 3;

impl<'a> Worker<'a> {
    fn new(job: &'a Job<'a>, plan: &Plan, number: usize) -> Self {
        let mut case = Case::new(
            job.fixture,
            &job.start,
            job.running,
            job.operation,
            job.tries,
        );
        case.repeat_one_of = job.effort.repeat_one_of;
        Self {
            case,
            effort: &job.effort,
            seed: plan
                .seed
                .wrapping_mul(1_000_003)
                .wrapping_add(number as u64),
            path: &job.path,
            counts: Counts::default(),
            media: HashSet::new(),
            judged: HashSet::new(),
            findings: Vec::new(),
        }
    }

    fn run(&mut self) {
        let disk = SimDisk::new(self.case.start.clone(), None);
        let case = &self.case;
        let result = case
            .operation
            .run(case.fixture, &disk, case.running, case.tries);
        let log = disk.take_log();
        let judged = self.judge_run(&disk, &result, &log);
        self.note(judged, &disk.now(), || describe(&log, 1));
        if log.is_empty() {
            return;
        }
        self.cut_everywhere(&log);
        if self.effort.faults && case_has_faults(&self.case) {
            self.fail_everywhere(&log);
        }
        for run in 0..self.effort.random_runs {
            self.random_run(&log, run as u64);
        }
    }

    /// The run that nothing disturbed.
    fn judge_run(&self, disk: &SimDisk, result: &Result<(), String>, log: &[Event]) -> Judged {
        must(0, disk.abuse().is_none(), || format!("{:?}", disk.abuse()))?;
        if self.case.is_refused() {
            return must(5, result.is_err() && log.is_empty(), || {
                format!("it should be refused: {result:?}, {} events", log.len())
            });
        }
        super::audit::order(&self.case, log)?;
        match &self.case.states {
            Some(states) => {
                must(11, result.is_ok(), || format!("it fails: {result:?}"))?;
                super::audit::stores_in_order(&self.case, log)?;
                completed(&self.case, disk, states, log)
            }
            None => Ok(()),
        }
    }

    fn cut_everywhere(&mut self, log: &[Event]) {
        let start = self.case.start.clone();
        let mut number = 0;
        let depth = self.effort.depth;
        let seed = self.seed;
        let _ = enumerate(&start, log, depth, seed, &mut |cut, medium: Medium| {
            self.counts.cuts += 1;
            let damage = Damage::of(log, cut);
            let strictness = match damage.ranges.is_empty() {
                true => Strictness::Whole,
                false => Strictness::Torn,
            };
            let known = self.judged.contains(&(medium.key(), Strictness::Whole));
            if known || !self.judged.insert((medium.key(), strictness)) {
                return Ok(());
            }
            self.media.insert(medium.key());
            number += 1;
            let again = number % self.effort.double_every.max(1) == 0;
            self.after_cut(log, cut, &medium, &damage, again);
            self.stop_if_enough()
        });
    }

    /// As it lies there after a first cut.
    fn is_judged(&self, medium: &Medium) -> bool {
        let key = medium.key();
        let judged = |strictness| self.judged.contains(&(key, strictness));
        judged(Strictness::Whole) || judged(Strictness::Torn)
    }

    fn stop_if_enough(&self) -> Result<(), ()> {
        if self.findings.len() < ENOUGH {
            Ok(())
        } else {
            Err(())
        }
    }

    fn after_cut(
        &mut self,
        log: &[Event],
        cut: Cut,
        medium: &Medium,
        damage: &Damage,
        again: bool,
    ) {
        let facts = Facts::of(self.case.fixture, medium);
        // It writes over the good copy of a table first; nothing of ours may.
        if self.case.fixture.board == Board::X86Gptprio
            && self.case.operation == Operation::Start
            && facts.tables == [None; 2]
            && self.case.facts.tables.contains(&None)
        {
            self.counts.beyond_gptprio += 1;
            return;
        }
        let trace = |sector| {
            let mut lines = describe(log, sector);
            lines.push(format!("cut: {cut:?}"));
            lines
        };
        let sector = self.case.fixture.sector_size.bytes();
        let judged = self.case.judge(medium, &facts, damage);
        if self.note(judged, medium, || trace(sector)) {
            return;
        }
        let mut seconds = Vec::new();
        for future in FUTURES {
            self.counts.recoveries += 1;
            match recover(&self.case, medium, &facts, future, damage) {
                Ok(recovered) => {
                    let last = !recovered.met_trial;
                    if again {
                        seconds.push((future, recovered.log));
                    }
                    if last {
                        break;
                    }
                }
                Err(violation) => {
                    self.note(Err(violation), medium, || {
                        let mut lines = trace(sector);
                        lines.push(format!("then: {future:?}"));
                        lines
                    });
                    return;
                }
            }
        }
        for (what, lost) in losses(self.case.fixture, medium) {
            let relevant = matches!(what, "environment" | "primary header" | "backup header");
            if self.effort.losses && relevant && damage.ranges.is_empty() {
                self.later(&lost, || {
                    let mut lines = trace(sector);
                    lines.push(format!("lost: {what}"));
                    lines
                });
            }
        }
        self.unreadable(log, cut, medium, damage, || trace(sector));
        for (future, second) in seconds {
            self.cut_again(medium, &second, future, || trace(sector));
        }
    }

    /// The sector in which a write was cut may not be readable until it is written.
    fn unreadable(
        &mut self,
        log: &[Event],
        cut: Cut,
        medium: &Medium,
        damage: &Damage,
        trace: impl Fn() -> Vec<String>,
    ) {
        let sector = self.case.fixture.sector_size.bytes();
        let (Kind::Torn { keep, rest }, Some(Event::Write(write))) = (cut.kind, log.get(cut.event))
        else {
            return;
        };
        if rest != Rest::Random {
            return;
        }
        let lba = (write.at + keep as u64) / sector;
        let noise = SimDisk::new(medium.clone(), None);
        noise.make_unreadable(lba);
        let medium = noise.now();
        let facts = Facts::of(self.case.fixture, &medium);
        if self.case.fixture.board == Board::X86Gptprio && facts.tables == [None; 2] {
            self.counts.beyond_gptprio += 1;
            return;
        }
        let damage = Damage {
            unreadable: Some(lba),
            more: true,
            ..damage.clone()
        };
        self.counts.recoveries += 1;
        if let Err(violation) = recover(&self.case, &medium, &facts, Future::Healthy, &damage) {
            self.note(Err(violation), &medium, || {
                let mut lines = trace();
                lines.push(format!("sector {lba} can't be read"));
                lines
            });
        }
    }

    /// A second cut, while the device recovers from the first.
    fn cut_again(
        &mut self,
        medium: &Medium,
        log: &[Event],
        future: Future,
        trace: impl Fn() -> Vec<String>,
    ) {
        let seed = self.seed ^ medium.key()[2];
        let sector = self.case.fixture.sector_size.bytes();
        let depth = self.effort.second_depth;
        let _ = enumerate(medium, log, depth, seed, &mut |cut, second: Medium| {
            self.counts.double_cuts += 1;
            self.later(&second, || {
                let mut lines = trace();
                lines.push(format!("recovery ({future:?}):"));
                lines.extend(describe(log, sector));
                lines.push(format!("cut again: {cut:?}"));
                lines
            });
            self.stop_if_enough()
        });
    }

    /// Judges a medium after more than one mishap.
    fn later(&mut self, medium: &Medium, trace: impl Fn() -> Vec<String>) -> bool {
        if !self.judged.insert((medium.key(), Strictness::Later)) {
            return false;
        }
        self.media.insert(medium.key());
        let facts = Facts::of(self.case.fixture, medium);
        if self.case.fixture.board == Board::X86Gptprio && facts.tables == [None; 2] {
            self.counts.beyond_gptprio += 1;
            return false;
        }
        let judged = self.case.judge_anytime(medium, &facts, &Damage::MANY);
        if self.note(judged, medium, &trace) {
            return true;
        }
        for future in FUTURES {
            self.counts.recoveries += 1;
            match recover(&self.case, medium, &facts, future, &Damage::MANY) {
                Ok(recovered) if !recovered.met_trial => break,
                Ok(_) => {}
                Err(violation) => {
                    return self.note(Err(violation), medium, || {
                        let mut lines = trace();
                        lines.push(format!("then: {future:?}"));
                        lines
                    });
                }
            }
        }
        false
    }

    /// Takes note of a violation; whether there was one.
    fn note(&mut self, judged: Judged, medium: &Medium, trace: impl Fn() -> Vec<String>) -> bool {
        let Err(violation) = judged else { return false };
        self.counts.violations += 1;
        if self.findings.len() < ENOUGH {
            let finding = self.finding(&violation, medium, trace());
            self.findings.push(finding);
        }
        true
    }

    fn finding(&self, violation: &Violation, medium: &Medium, log: Vec<String>) -> Finding {
        let case = &self.case;
        let mut trace: Vec<String> = self
            .path
            .iter()
            .map(|step| format!("before: {step}"))
            .collect();
        trace.push(format!("start: {:?}", case.facts));
        trace.push(format!(
            "operation: {:?}, slot {} runs, {} tries",
            case.operation, case.running, case.tries
        ));
        trace.extend(log);
        trace.push(format!("left: {:?}", Facts::of(case.fixture, medium)));
        trace.push(violation.to_string());
        Finding {
            board: case.fixture.board.name(),
            sector: case.fixture.sector_size.bytes(),
            operation: case.operation.name(),
            what: violation.to_string(),
            trace,
            medium: medium.clone(),
        }
    }
}

/// Failing requests of the start are the loader's and init's business, who carry on as they can.
fn case_has_faults(case: &Case<'_>) -> bool {
    case.operation != Operation::Start
}
