//! Every way in which power can go while writes are under way, and what the medium then holds.

use super::disk::{Event, Write};
use super::medium::Medium;

/// Where in a log the power goes, and which of the unflushed writes survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Number of the event in the log.
    pub event: usize,
    pub kind: Kind,
    /// Bit n: write n of those since the last flush has arrived; without the torn one.
    pub survivors: u64,
}

/// What happens to the write at the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nothing was written since the last flush.
    Before,
    /// It has been handed over, and is one of those that survive or not.
    After,
    /// Its first `keep` bytes arrived, and the others are as `rest` says.
    Torn { keep: usize, rest: Rest },
    /// Its bytes from `from` on arrived, and those before are old: sectors need not be written in order.
    Tail { from: usize },
}

/// Bytes of a torn write that did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rest {
    Old,
    Random,
    Zeros,
    Ones,
}

const RESTS: [Rest; 4] = [Rest::Old, Rest::Random, Rest::Zeros, Rest::Ones];

/// How much is enumerated.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// With at most so many unflushed writes all their subsets, else prefixes, single omissions and a sample.
    pub all_subsets: usize,
    pub sampled_subsets: usize,
    /// Tears of one write; more places than this are sampled.
    pub tears: usize,
    /// Of the tears and what becomes of the rest, at most so many, sampled.
    pub kinds: usize,
}

impl Depth {
    pub const FULL: Self = Self {
        all_subsets: 6,
        sampled_subsets: 24,
        tears: 40,
        kinds: usize::MAX,
    };
    pub const QUICK: Self = Self {
        all_subsets: 4,
        sampled_subsets: 4,
        tears: 6,
        kinds: usize::MAX,
    };
    /// One tear of each write.
    pub const WIDE: Self = Self {
        all_subsets: 2,
        sampled_subsets: 1,
        tears: 1,
        kinds: 1,
    };
}

/// A small generator whose whole sequence follows from its seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(mixed | 1)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = usize::try_from(self.below(of.len().max(1) as u64)).ok()?;
        of.get(at)
    }
}

/// The medium after one cut of `log`, which began at `start`.
#[must_use]
pub fn apply(start: &Medium, log: &[Event], cut: Cut) -> Medium {
    let epoch = epoch_of(log, cut.event);
    let mut medium = start.clone();
    for write in writes(log.get(..epoch).unwrap_or_default()) {
        medium.write(write.at, &write.data);
    }
    let pending: Vec<_> = writes(log.get(epoch..=cut.event).unwrap_or_default()).collect();
    finish(&medium, &pending, cut)
}

/// Hands every cut of `log` to `visit`, with the medium that it leaves. Without random choices the order of the cuts and
/// their number depend on log and depth alone; the sampled ones on the seed too.
pub fn enumerate<E>(
    start: &Medium,
    log: &[Event],
    depth: Depth,
    seed: u64,
    visit: &mut impl FnMut(Cut, Medium) -> Result<(), E>,
) -> Result<(), E> {
    let mut random = Random::new(seed);
    let mut durable = start.clone();
    let mut pending: Vec<&Write> = Vec::new();
    for (event, entry) in log.iter().enumerate() {
        let Event::Write(write) = entry else {
            for write in pending.drain(..) {
                durable.write(write.at, &write.data);
            }
            continue;
        };
        if pending.is_empty() {
            let kind = Kind::Before;
            let survivors = 0;
            visit(
                Cut {
                    event,
                    kind,
                    survivors,
                },
                durable.clone(),
            )?;
        }
        let earlier = pending.len();
        pending.push(write);
        let amid = amid_changes(&durable, write, depth, &mut random);
        for survivors in subsets(earlier + 1, depth, &mut random) {
            let kind = Kind::After;
            let cut = Cut {
                event,
                kind,
                survivors,
            };
            visit(cut, with_survivors(&durable, &pending, survivors))?;
        }
        for survivors in subsets(earlier, depth, &mut random) {
            let base = with_survivors(&durable, &pending, survivors);
            let mut kinds = kinds(write.data.len(), start, depth, &mut random);
            let amid = amid.iter().filter(|kind| !kinds.contains(kind));
            kinds.extend(amid.copied().collect::<Vec<_>>());
            while kinds.len() > depth.kinds {
                let at = random.below(kinds.len() as u64);
                kinds.swap_remove(usize::try_from(at).unwrap_or(0));
            }
            for kind in kinds {
                let cut = Cut {
                    event,
                    kind,
                    survivors,
                };
                visit(cut, torn(base.clone(), write, cut))?;
            }
        }
    }
    Ok(())
}

/// Where the writes that a cut at `event` may lose begin.
fn epoch_of(log: &[Event], event: usize) -> usize {
    let before = log.get(..event).unwrap_or_default();
    let flush = before.iter().rposition(|event| *event == Event::Flush);
    flush.map_or(0, |at| at + 1)
}

fn writes(log: &[Event]) -> impl Iterator<Item = &Write> {
    log.iter().filter_map(|event| match event {
        Event::Write(write) => Some(write),
        Event::Flush => None,
    })
}

fn finish(durable: &Medium, pending: &[&Write], cut: Cut) -> Medium {
    let base = with_survivors(durable, pending, cut.survivors);
    match (cut.kind, pending.last()) {
        (Kind::Before | Kind::After, _) | (_, None) => base,
        (_, Some(write)) => torn(base, write, cut),
    }
}

fn with_survivors(durable: &Medium, pending: &[&Write], survivors: u64) -> Medium {
    let mut medium = durable.clone();
    for (n, write) in pending.iter().enumerate() {
        if n < 64 && survivors >> n & 1 == 1 {
            medium.write(write.at, &write.data);
        }
    }
    medium
}

fn torn(mut medium: Medium, write: &Write, cut: Cut) -> Medium {
    let length = write.data.len();
    match cut.kind {
        Kind::Before | Kind::After => {}
        Kind::Tail { from } => medium.write(
            write.at + from as u64,
            write.data.get(from..).unwrap_or_default(),
        ),
        Kind::Torn { keep, rest } => {
            medium.write(write.at, write.data.get(..keep).unwrap_or_default());
            let missing = length.saturating_sub(keep);
            let at = write.at + keep as u64;
            match rest {
                Rest::Old => {}
                Rest::Zeros => medium.write(at, &vec![0; missing]),
                Rest::Ones => medium.write(at, &vec![0xff; missing]),
                Rest::Random => {
                    // The same for the same place, so that a cut describes a medium completely.
                    let mut random = Random::new(write.at ^ (keep as u64) << 40);
                    let bytes: Vec<u8> = (0..missing)
                        .map(|_| random.next().to_le_bytes()[5])
                        .collect();
                    medium.write(at, &bytes);
                }
            }
        }
    }
    medium
}

/// Which of `count` unflushed writes survive.
fn subsets(count: usize, depth: Depth, random: &mut Random) -> Vec<u64> {
    let count = count.min(63);
    if count <= depth.all_subsets {
        return (0..1 << count).collect();
    }
    let all = (1_u64 << count) - 1;
    let prefixes = (0..=count).map(|n| (1_u64 << n) - 1);
    let omissions = (0..count).map(|n| all & !(1 << n));
    let sample: Vec<u64> = (0..depth.sampled_subsets)
        .map(|_| random.next() & all)
        .collect();
    let mut chosen: Vec<u64> = prefixes.chain(omissions).chain(sample).collect();
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// The ways to tear a write of this length.
fn kinds(length: usize, start: &Medium, depth: Depth, random: &mut Random) -> Vec<Kind> {
    let sector = start.sector_size().len();
    let mut inner: Vec<usize> = (sector..length).step_by(sector).collect();
    while inner.len() > depth.tears {
        let at = random.below(inner.len() as u64);
        inner.remove(usize::try_from(at).unwrap_or(0));
    }
    let mut kinds = Vec::new();
    for keep in [1, length - 1].into_iter().chain(inner.iter().copied()) {
        kinds.extend(RESTS.map(|rest| Kind::Torn { keep, rest }));
    }
    // Of nothing at all, the rest may still be damaged.
    kinds.extend(
        RESTS
            .into_iter()
            .skip(1)
            .map(|rest| Kind::Torn { keep: 0, rest }),
    );
    kinds.extend(inner.into_iter().map(|from| Kind::Tail { from }));
    kinds
}

/// Bytes of a boot state and its checksums, at most.
const FEW: usize = 64;

/// A sector is not torn by rights. Should it be, then it hurts most between two of the bytes that change, where these are
/// few: those of a boot state.
fn amid_changes(durable: &Medium, write: &Write, depth: Depth, random: &mut Random) -> Vec<Kind> {
    let old = durable.bytes(write.at, write.data.len());
    let pairs = write.data.iter().zip(&old).enumerate();
    let changed = pairs.filter(|(_, (new, old))| new != old).map(|(at, _)| at);
    let mut places: Vec<usize> = changed.skip(1).collect();
    if places.len() > FEW {
        return Vec::new();
    }
    while places.len() > depth.tears / 2 {
        let at = random.below(places.len() as u64);
        places.remove(usize::try_from(at).unwrap_or(0));
    }
    let both = |at| {
        let rest = Rest::Old;
        [Kind::Torn { keep: at, rest }, Kind::Tail { from: at }]
    };
    places.into_iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::convert::Infallible;

    use bootctl::SectorSize;

    use super::*;
    use crate::powercut::medium::Zones;

    fn write(at: u64, byte: u8, length: usize) -> Event {
        Event::Write(Write {
            at,
            data: vec![byte; length].into(),
        })
    }

    fn all(log: &[Event], seed: u64) -> Vec<(Cut, Medium)> {
        let start = Medium::new(&[9; 16384], SectorSize::B512, Zones::default());
        let mut cuts = Vec::new();
        let visit = &mut |cut, medium| {
            cuts.push((cut, medium));
            Ok::<_, Infallible>(())
        };
        enumerate(&start, log, Depth::FULL, seed, visit).unwrap();
        for (cut, medium) in &cuts {
            assert_eq!(apply(&start, log, *cut).key(), medium.key(), "{cut:?}");
        }
        cuts
    }

    #[test]
    fn cuts_are_distinct_and_repeatable() {
        let log: Vec<_> = (0..10_u8)
            .map(|n| write(u64::from(n) * 1024, n, 1024))
            .chain([Event::Flush, write(0, 77, 512)])
            .collect();
        let cuts = all(&log, 1);
        let distinct: HashSet<_> = cuts.iter().map(|(cut, _)| *cut).collect();
        assert_eq!(distinct.len(), cuts.len());
        let again: Vec<_> = all(&log, 1).iter().map(|(cut, _)| *cut).collect();
        assert!(again.iter().eq(cuts.iter().map(|(cut, _)| cut)));
        let other: Vec<_> = all(&log, 2).iter().map(|(cut, _)| *cut).collect();
        assert_ne!(again, other);
    }

    #[test]
    fn unflushed_writes_survive_in_any_combination_and_flushed_ones_always() {
        let log = [
            write(0, 1, 512),
            Event::Flush,
            write(1024, 2, 512),
            write(2048, 3, 512),
        ];
        let seen: HashSet<_> = all(&log, 0)
            .into_iter()
            .filter(|(cut, _)| cut.event == 3 && cut.kind == Kind::After)
            .map(|(_, m)| [0, 1024, 2048].map(|at| m.bytes(at, 1)[0]))
            .collect();
        let expected = [[1, 9, 9], [1, 2, 9], [1, 9, 3], [1, 2, 3]];
        assert_eq!(seen, expected.into_iter().collect());
    }

    #[test]
    fn a_write_is_torn_between_the_few_bytes_that_it_changes() {
        let mut data = vec![9; 512];
        (data[100], data[200], data[300]) = (1, 2, 3);
        let at = 512;
        let data = data.into();
        let cuts = all(&[Event::Write(Write { at, data })], 0);
        let between = |keep| {
            let rest = Rest::Old;
            let torn = cuts
                .iter()
                .find(|(c, _)| c.kind == Kind::Torn { keep, rest });
            torn.map(|(_, medium)| [100, 200, 300].map(|n| medium.bytes(512 + n, 1)[0]))
        };
        assert_eq!(between(200), Some([1, 9, 9]));
        assert_eq!(between(300), Some([1, 2, 9]));
        assert_eq!(between(100), None);
        let tail = cuts
            .iter()
            .find(|(c, _)| c.kind == Kind::Tail { from: 300 });
        assert_eq!(tail.map(|(_, m)| m.bytes(612, 1)[0]), Some(9));
    }

    #[test]
    fn a_write_is_torn_at_every_sector_and_within() {
        let cuts = all(&[write(512, 1, 1536)], 0);
        let keeps: HashSet<_> = cuts
            .iter()
            .filter_map(|(cut, _)| match cut.kind {
                Kind::Torn { keep, .. } => Some(keep),
                _ => None,
            })
            .collect();
        assert_eq!(keeps, [0, 1, 512, 1024, 1535].into_iter().collect());
        let tail = cuts
            .iter()
            .find(|(c, _)| c.kind == Kind::Tail { from: 1024 });
        assert_eq!(tail.unwrap().1.bytes(1535, 2), [9, 1]);
        // Before, after (2), 3 rests of nothing, 4 of 4 lengths, 2 tails.
        assert_eq!(cuts.len(), 1 + 2 + 3 + 16 + 2);
    }
}
