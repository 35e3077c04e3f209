//! Cuts that follow one another at random.

use super::Worker;
use crate::powercut::cuts::{self, Cut, Kind, Random, Rest};
use crate::powercut::disk::Event;
use crate::powercut::facts::Facts;
use crate::powercut::judge::Damage;
use crate::powercut::medium::Medium;
use crate::powercut::recovery::{FUTURES, recover};
use crate::powercut::report::describe;

impl Worker<'_> {
    /// Up to five cuts, one after the other, each somewhere in the recovery from the one before.
    pub(super) fn random_run(&mut self, log: &[Event], run: u64) {
        let mut random = Random::new(self.seed ^ (run + 1) << 32);
        let mut medium = self.case.start.clone();
        let mut log = log.to_vec();
        let mut lines = Vec::new();
        let sector = self.case.fixture.sector_size.bytes();
        for _ in 0..1 + random.below(5) {
            let Some((cut, after)) = random_cut(&medium, &log, &mut random) else {
                break;
            };
            self.counts.double_cuts += 1;
            lines.extend(describe(&log, sector));
            lines.push(format!("cut: {cut:?}"));
            if self.later(&after, || lines.clone()) {
                return;
            }
            let facts = Facts::of(self.case.fixture, &after);
            if facts.tables == [None; 2] {
                return;
            }
            let future = FUTURES[usize::from(random.below(2) == 1)];
            match recover(&self.case, &after, &facts, future, &Damage::MANY) {
                Ok(recovered) => (medium, log) = (after, recovered.log),
                Err(_) => return,
            }
        }
    }
}

fn random_cut(medium: &Medium, log: &[Event], random: &mut Random) -> Option<(Cut, Medium)> {
    let writes: Vec<usize> = log
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event, Event::Write(_)))
        .map(|(number, _)| number)
        .collect();
    let event = *random.pick(&writes)?;
    let Event::Write(write) = log.get(event)? else {
        return None;
    };
    let length = write.data.len() as u64;
    let keep = usize::try_from(random.below(length)).ok()?;
    let rests = [Rest::Old, Rest::Random, Rest::Zeros, Rest::Ones];
    let kind = match random.below(4) {
        0 => Kind::Torn {
            keep,
            rest: *random.pick(&rests)?,
        },
        _ => Kind::After,
    };
    let survivors = random.next();
    let cut = Cut {
        event,
        kind,
        survivors,
    };
    // The torn write is not one of the survivors.
    let cut = match kind {
        Kind::After => cut,
        _ => {
            let flush = log.get(..event)?.iter().rposition(|e| *e == Event::Flush);
            let pending = event - flush.map_or(0, |at| at + 1);
            let survivors = survivors & ((1_u64 << pending.min(63)) - 1);
            Cut { survivors, ..cut }
        }
    };
    Some((cut, cuts::apply(medium, log, cut)))
}
