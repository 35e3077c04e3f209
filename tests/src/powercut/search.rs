//! Every state that verbs, loaders, health and lost stores can bring about, from a disk as it was flashed.

use std::collections::{HashSet, VecDeque};

use super::device::{Start, confirm, start};
use super::disk::{Event, SimDisk};
use super::facts::Facts;
use super::fixture::Fixture;
use super::judge::{Case, Damage, Violation};
use super::medium::Medium;
use super::operation::Operation;
use super::release::{Number, Quality};

/// A device in one state.
#[derive(Clone, Debug)]
pub struct Node {
    pub medium: Medium,
    /// The slot that runs; `None` while the device is off.
    pub running: Option<usize>,
    /// The slot that ran last.
    pub ran: usize,
    /// A store is damaged and not mended yet.
    pub lost: bool,
    /// How it came about.
    pub path: Vec<String>,
}

type Abstract = (Option<usize>, bool, Facts);

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    pub nodes: Vec<Node>,
    pub steps: usize,
}

/// A promise that a state breaks.
#[derive(Clone, Debug)]
pub struct Broken {
    pub violation: Violation,
    pub node: Node,
}

/// Releases that are installed in the search.
const RELEASES: [Number; 3] = [1, 2, 3];

/// Searches from a flashed disk.
///
/// # Errors
/// The first state that breaks a promise, and how it came about.
pub fn search(fixture: &Fixture, tries: u8, most: usize) -> Result<Found, Box<Broken>> {
    let first = Node {
        medium: fixture.flashed.clone(),
        running: None,
        ran: 0,
        lost: false,
        path: Vec::new(),
    };
    let mut seen = HashSet::from([abstracted(fixture, &first)]);
    let mut queue = VecDeque::from([first]);
    let mut found = Found::default();
    while let Some(node) = queue.pop_front() {
        for next in successors(fixture, &node, tries)? {
            found.steps += 1;
            if seen.insert(abstracted(fixture, &next)) {
                check(fixture, &next, tries)?;
                queue.push_back(next);
            }
        }
        found.nodes.push(node);
        if found.nodes.len() >= most {
            break;
        }
    }
    Ok(found)
}

fn abstracted(fixture: &Fixture, node: &Node) -> Abstract {
    let mut facts = Facts::of(fixture, &node.medium);
    for content in facts.content.iter_mut().flatten() {
        // Good releases are all alike.
        let quality = fixture
            .releases
            .get(*content)
            .map(|release| release.quality);
        if quality == Some(Quality::Good) {
            *content = 0;
        }
    }
    if let Some(record) = &mut facts.record {
        record.ids = None;
    }
    (node.running, node.lost, facts)
}

fn broken(violation: Violation, node: &Node) -> Box<Broken> {
    let node = node.clone();
    Box::new(Broken { violation, node })
}

fn check(fixture: &Fixture, node: &Node, tries: u8) -> Result<(), Box<Broken>> {
    // Any operation will do: what is checked is what holds anytime, of a disk that started as it is now.
    let case = Case::new(fixture, &node.medium, node.ran, Operation::Start, tries);
    case.judge_anytime(&case.start, &case.facts, &Damage::default())
        .map_err(|violation| broken(violation, node))
}

fn successors(fixture: &Fixture, node: &Node, tries: u8) -> Result<Vec<Node>, Box<Broken>> {
    match node.running {
        None => from_off(fixture, node),
        Some(running) => Ok(from_running(fixture, node, running, tries)),
    }
}

fn next(node: &Node, medium: Medium, running: Option<usize>, step: String) -> Node {
    let mut path = node.path.clone();
    path.push(step);
    Node {
        medium: medium.settled(),
        running,
        ran: running.unwrap_or(node.ran),
        lost: false,
        path,
    }
}

fn from_off(fixture: &Fixture, node: &Node) -> Result<Vec<Node>, Box<Broken>> {
    let mut disk = SimDisk::new(node.medium.clone(), None);
    let (attempts, outcome) = start(fixture, &mut disk, 5);
    let failed = |what: String| {
        let invariant = 11;
        broken(Violation { invariant, what }, node)
    };
    if let Some(attempt) = attempts.iter().find(|attempt| attempt.content.is_none()) {
        return Err(failed(format!(
            "the loader took an incomplete slot: {attempt:?}"
        )));
    }
    let Start::Runs(runs) = outcome else {
        return Err(failed(format!("nothing runs: {outcome:?}")));
    };
    let step = format!("start: slot {} ({:?})", runs.slot, runs.env);
    let mut nodes = vec![next(node, disk.now(), Some(runs.slot), step)];
    if !node.lost {
        nodes.extend(
            losses(fixture, &node.medium)
                .into_iter()
                .map(|(what, medium)| {
                    let lost = next(node, medium, None, format!("lost: {what}"));
                    Node { lost: true, ..lost }
                }),
        );
    }
    Ok(nodes)
}

/// A disk with one store destroyed.
#[must_use]
pub fn losses(fixture: &Fixture, medium: &Medium) -> Vec<(&'static str, Medium)> {
    let mut media = Vec::new();
    let destroyed = |place: &std::ops::Range<u64>, byte: u8| {
        let mut medium = medium.clone();
        let length = usize::try_from(place.end - place.start).unwrap_or(0);
        medium.write(place.start, &vec![byte; length]);
        medium
    };
    let sector = medium.sector_size().bytes();
    let facts = Facts::of(fixture, medium);
    if !fixture.layout.environment.is_empty() && facts.record.is_some() {
        let mut all = medium.clone();
        for copy in &fixture.layout.environment {
            let length = usize::try_from(copy.end - copy.start).unwrap_or(0);
            all.write(copy.start, &vec![0; length]);
        }
        media.push(("environment", all));
    }
    if facts.authority.is_some() {
        media.push((
            "confirmed record",
            destroyed(&fixture.layout.confirmed, 0xff),
        ));
    }
    // What reaches the partitions without a primary is the record.
    let reachable = facts.record.is_some();
    if reachable && facts.tables[0].is_some() && facts.tables[0] == facts.tables[1] {
        let end = medium.len();
        if facts.backup_at_end {
            media.push(("primary header", destroyed(&(sector..2 * sector), 0)));
            media.push((
                "primary entries",
                destroyed(&(2 * sector..3 * sector), 0xff),
            ));
        }
        media.push(("backup header", destroyed(&(end - sector..end), 0)));
    }
    media
}

fn from_running(fixture: &Fixture, node: &Node, running: usize, tries: u8) -> Vec<Node> {
    let mut nodes = vec![next(node, node.medium.clone(), None, "reset".to_owned())];
    let facts = Facts::of(fixture, &node.medium);
    let attempt_is_healthy = facts.content[running]
        .and_then(|number| fixture.releases.get(number))
        .is_some_and(|release| release.quality == Quality::Good);
    if attempt_is_healthy {
        let disk = SimDisk::new(node.medium.clone(), None);
        if confirm(&disk, running).is_ok() {
            nodes.push(next(node, disk.now(), Some(running), "healthy".to_owned()));
        }
    }
    use Operation::{Activate, Install, MarkUnbootable, Repair, Rollback, Sync};
    let verbs = [Activate, MarkUnbootable, Rollback, Repair, Sync];
    for operation in verbs.into_iter().chain(RELEASES.map(Install)) {
        let disk = SimDisk::new(node.medium.clone(), None);
        let result = operation.run(fixture, &disk, running, tries);
        let log = disk.take_log();
        if result.is_ok() {
            let step = format!("{} {operation:?}", operation.name());
            nodes.push(next(node, disk.now(), Some(running), step));
        }
        if matches!(operation, Install(_)) {
            nodes.extend(interrupted(node, &log, operation));
        }
    }
    nodes
}

/// What is on the medium at each flush of an installation.
fn interrupted(node: &Node, log: &[Event], operation: Operation) -> Vec<Node> {
    let mut medium = node.medium.clone();
    let mut nodes = Vec::new();
    for event in log {
        match event {
            Event::Write(write) => medium.write(write.at, &write.data),
            Event::Flush => {
                let step = format!("{operation:?} cut short");
                nodes.push(next(node, medium.clone(), None, step));
            }
        }
    }
    nodes
}
