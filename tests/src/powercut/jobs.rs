//! Which operations are cut, and from which states.

use super::campaign::{Effort, Job};
use super::cuts::{self, Cut, Kind, Random};
use super::device::{Start, start};
use super::disk::{Event, SimDisk};
use super::fixture::Fixture;
use super::judge::Case;
use super::operation::Operation;
use super::release;
use super::search::Node;

/// How many states an operation is cut in.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// With this much effort in at most so many states.
    pub most: usize,
    pub effort: Effort,
    /// What is done in all the others, where anything is.
    pub others: Option<Effort>,
}

const OPERATIONS: [Operation; 9] = [
    Operation::Activate,
    Operation::MarkUnbootable,
    Operation::MarkSuccessful,
    Operation::Rollback,
    Operation::Repair,
    Operation::Sync,
    Operation::Install(1),
    Operation::Install(2),
    Operation::Start,
];

/// Every operation, in the states of `nodes` in which its description allows it.
#[must_use]
pub fn choose<'a>(
    fixture: &'a Fixture,
    tries: u8,
    nodes: &[Node],
    choice: Choice,
    seed: u64,
) -> Vec<Job<'a>> {
    let mut random = Random::new(seed);
    let mut jobs = Vec::new();
    let maker = Maker { fixture, tries };
    for operation in OPERATIONS {
        let mut others: Vec<&Node> = nodes.iter().filter(|n| maker.fits(n, operation)).collect();
        let mut chosen = Vec::new();
        while chosen.len() < choice.most && !others.is_empty() {
            let at = random.below(others.len() as u64);
            chosen.push(others.swap_remove(usize::try_from(at).unwrap_or(0)));
        }
        let chosen = chosen.into_iter().map(|node| (node, choice.effort));
        let others = others
            .into_iter()
            .filter_map(|node| choice.others.map(|effort| (node, effort)));
        for (node, effort) in chosen.chain(others) {
            jobs.push(maker.job(node, operation, effort));
            if operation == Operation::Install(1) {
                jobs.extend(maker.resume(node, effort, &mut random));
            }
        }
    }
    jobs.extend(maker.refused(nodes, choice));
    jobs.extend(
        nodes
            .first()
            .map(|first| maker.at_first(first, choice))
            .unwrap_or_default(),
    );
    jobs
}

struct Maker<'a> {
    fixture: &'a Fixture,
    tries: u8,
}

impl<'a> Maker<'a> {
    fn job(&self, node: &Node, operation: Operation, effort: Effort) -> Job<'a> {
        Job {
            fixture: self.fixture,
            start: node.medium.clone(),
            running: node.ran,
            operation,
            tries: self.tries,
            path: node.path.clone(),
            effort,
        }
    }

    fn case(&self, node: &Node, operation: Operation) -> Case<'a> {
        Case::new(self.fixture, &node.medium, node.ran, operation, self.tries)
    }

    fn fits(&self, node: &Node, operation: Operation) -> bool {
        match operation {
            Operation::Start => node.running.is_none(),
            // What there is to mend.
            Operation::Repair | Operation::Sync => node.lost,
            _ => {
                node.running.is_some() && {
                    let states = self.case(node, operation).states;
                    states.is_some_and(|states| states.first() != states.last())
                }
            }
        }
    }

    /// What is refused must not write either.
    fn refused(&self, nodes: &[Node], choice: Choice) -> Vec<Job<'a>> {
        let effort = choice.others.unwrap_or(choice.effort);
        let most = choice.others.map_or(1, |_| usize::MAX);
        let operations = [
            Operation::Activate,
            Operation::MarkUnbootable,
            Operation::MarkSuccessful,
            Operation::Rollback,
            Operation::Install(1),
        ];
        let mut jobs = Vec::new();
        for operation in operations {
            let refused = nodes
                .iter()
                .filter(|node| node.running.is_some() && self.case(node, operation).is_refused());
            jobs.extend(
                refused
                    .take(most)
                    .map(|node| self.job(node, operation, effort)),
            );
        }
        jobs
    }

    /// A disk that starts for the first time, as large as its image and larger.
    fn at_first(&self, first: &Node, choice: Choice) -> Vec<Job<'a>> {
        let grown = Node {
            medium: self.fixture.flashed.grown(4 << 20),
            ..first.clone()
        };
        let operations = [
            Operation::FirstBoot,
            Operation::Grow,
            Operation::Start,
            Operation::MarkUnbootable,
            Operation::Sync,
            Operation::Install(1),
        ];
        let grown = operations.map(|operation| self.job(&grown, operation, choice.effort));
        let first = self.job(first, Operation::FirstBoot, choice.effort);
        [first].into_iter().chain(grown).collect()
    }

    /// The power went somewhere in an installation and came back. How many blocks were called durable need not be true.
    fn resume(&self, node: &Node, effort: Effort, random: &mut Random) -> Option<Job<'a>> {
        let disk = SimDisk::new(node.medium.clone(), None);
        let _ = Operation::Install(1).run(self.fixture, &disk, node.ran, self.tries);
        let log = disk.take_log();
        let image = self.fixture.layout.image.get(1 - node.ran)?;
        let writes = log
            .iter()
            .enumerate()
            .filter_map(|(at, event)| match event {
                Event::Write(write) if image.contains(&write.at) => Some(at),
                _ => None,
            });
        let event = *random.pick(&writes.collect::<Vec<_>>())?;
        let cut = Cut {
            event,
            kind: Kind::After,
            survivors: random.next(),
        };
        let mut disk = SimDisk::new(cuts::apply(&node.medium, &log, cut), None);
        let (_, Start::Runs(runs)) = start(self.fixture, &mut disk, 6) else {
            return None;
        };
        let mut path = node.path.clone();
        path.push(format!("Install(1), {cut:?}"));
        path.push(format!("start: slot {}", runs.slot));
        let left = Node {
            medium: disk.now().settled(),
            running: Some(runs.slot),
            ran: runs.slot,
            lost: false,
            path,
        };
        let mark = random.below(release::BLOCKS as u64 + 1);
        Some(self.job(&left, Operation::Resume(1, mark), effort))
    }
}
