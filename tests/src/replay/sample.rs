//! Which of the writes between two flushes survive a cut: nothing is promised of them, neither order nor completeness.

use std::ops::Range;

use super::log::{Event, Log, Write};
use super::medium::Part;

/// How a medium came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Right after a flush.
    Flushed,
    /// The first writes after it.
    Prefix,
    /// All of them but one.
    Omission,
    /// The first writes, and a part of the next.
    Torn,
    /// Any of them.
    Random,
}

/// A reproducible source of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

/// Up to so many writes all subsets are taken.
const ALL_SUBSETS: usize = 6;
const PREFIXES: usize = 40;
const OMISSIONS: usize = 40;
const TORN: usize = 32;
const RANDOM: usize = 24;

/// What may survive of the writes among `events`, which holds no flush; the first is nothing.
pub fn subsets(log: &Log, events: Range<usize>, random: &mut Random) -> Vec<(Kind, Vec<Part>)> {
    let writes: Vec<(usize, &Write)> = log
        .events
        .get(events.clone())
        .unwrap_or_default()
        .iter()
        .zip(events)
        .filter_map(|((_, event), index)| match event {
            Event::Write(write) => Some((index, write)),
            Event::Flush => None,
        })
        .collect();
    let count = writes.len();
    let mut chosen = vec![(Kind::Flushed, Vec::new())];
    for length in sampled(1..count + 1, PREFIXES, random) {
        chosen.push((Kind::Prefix, keep(&writes, |at| at < length)));
    }
    if count <= ALL_SUBSETS {
        for set in 1..1_u32 << count {
            chosen.push((Kind::Random, keep(&writes, |at| set & (1 << at) != 0)));
        }
    } else {
        for without in sampled(0..count, OMISSIONS, random) {
            chosen.push((Kind::Omission, keep(&writes, |at| at != without)));
        }
        for _ in 0..RANDOM {
            let bits: Vec<bool> = writes.iter().map(|_| random.below(2) == 1).collect();
            let survives = |at: usize| bits.get(at) == Some(&true);
            chosen.push((Kind::Random, keep(&writes, survives)));
        }
    }
    // Each write between any two of its sectors; the drive may begin at either end.
    let tears = writes.iter().enumerate().flat_map(|(at, (_, write))| {
        let places = write.sector + 1..write.sector + write.sectors;
        places.flat_map(move |place| [(at, place, true), (at, place, false)])
    });
    for (at, place, begins) in sampled_of(tears.collect(), TORN, random) {
        let Some((event, write)) = writes.get(at) else {
            continue;
        };
        let sectors = match begins {
            true => write.sector..place,
            false => place..write.sector + write.sectors,
        };
        let mut parts = keep(&writes, |index| index < at);
        parts.push(Part {
            event: *event,
            sectors,
        });
        chosen.push((Kind::Torn, parts));
    }
    chosen
}

/// The writes that survive, and every forced one before the last of them.
fn keep(writes: &[(usize, &Write)], survives: impl Fn(usize) -> bool) -> Vec<Part> {
    let last = (0..writes.len()).rev().find(|at| survives(*at));
    let Some(last) = last else { return Vec::new() };
    let kept = writes.iter().enumerate().take(last + 1);
    kept.filter(|(at, (_, write))| survives(*at) || write.forced)
        .map(|(_, (event, write))| Part {
            event: *event,
            sectors: write.range(),
        })
        .collect()
}

fn sampled(range: Range<usize>, most: usize, random: &mut Random) -> Vec<usize> {
    sampled_of(range.collect(), most, random)
}

fn sampled_of<T: Ord>(mut all: Vec<T>, most: usize, random: &mut Random) -> Vec<T> {
    while all.len() > most {
        let at = random.index(all.len());
        all.swap_remove(at);
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One-sector writes to sectors 0, 1, 2 and so on; some are forced.
    fn log(forced: &[bool]) -> Log {
        let number = |value: usize| (value as u64).to_le_bytes();
        let mut bytes = [0x006a_7366_7773_6872, 1, forced.len(), 512]
            .map(number)
            .concat();
        bytes.resize(512, 0);
        for (sector, forced) in forced.iter().enumerate() {
            bytes.extend(
                [sector, 2, if *forced { 2 } else { 0 }, 0]
                    .map(number)
                    .concat(),
            );
            bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
        }
        Log::parse(bytes, 1000).unwrap()
    }

    #[test]
    fn few_writes_survive_in_every_combination() {
        let log = log(&[false; 3]);
        let mut sets: Vec<Vec<usize>> = subsets(&log, 0..3, &mut Random::new(1))
            .into_iter()
            .filter(|(kind, _)| *kind != Kind::Torn)
            .map(|(_, parts)| parts.iter().map(|part| part.event).collect())
            .collect();
        sets.sort();
        sets.dedup();
        assert_eq!(sets.len(), 8);
    }

    #[test]
    fn a_forced_write_survives_whatever_comes_after_it() {
        let log = log(&[false, true, false]);
        for (kind, parts) in subsets(&log, 0..3, &mut Random::new(1)) {
            let has = |event| parts.iter().any(|part| part.event == event);
            assert!(!has(2) || has(1), "{kind:?}: {parts:?}");
        }
    }

    #[test]
    fn many_writes_are_sampled_the_same_way_again() {
        let log = log(&[false; 90]);
        let sample = |seed| subsets(&log, 0..90, &mut Random::new(seed));
        assert_eq!(sample(3), sample(3));
        assert_ne!(sample(3), sample(4));
        let torn = sample(3)
            .into_iter()
            .filter(|(kind, _)| *kind == Kind::Torn);
        let torn: Vec<_> = torn.collect();
        assert_eq!(torn.len(), TORN);
        for (_, parts) in torn {
            let last = parts.last().unwrap();
            assert_eq!(last.sectors.end - last.sectors.start, 1);
        }
    }
}
