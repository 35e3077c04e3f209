//! All media of one recording, and which of them the real loader shall boot.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use anyhow::{Context, Result};

use super::judge::{Judge, Judgement};
use super::log::{Event, Log};
use super::medium::{Medium, Part, Replay};
use super::places::{Place, Places};
use super::record::Mark;
use super::sample::{Kind, Random, subsets};

/// One cut of power.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Events up to here are durable.
    pub durable: usize,
    /// What else survived.
    pub parts: Vec<Part>,
    pub kind: Kind,
    /// Where in the update it is.
    pub phase: String,
    pub judgement: Judgement,
}

impl Cut {
    /// What it is called in the output.
    #[must_use]
    pub fn name(&self) -> String {
        format!(
            "{:?} of {} writes after event {}, {}",
            self.kind,
            self.parts.len(),
            self.durable,
            self.phase
        )
    }
}

/// What came of judging.
#[derive(Debug, Default)]
pub struct Found {
    /// One for each distinct medium that is good, in their order.
    pub cuts: Vec<Cut>,
    /// Media that were made, equal ones among them.
    pub judged: usize,
    pub flushes: usize,
    pub violations: Vec<String>,
}

/// Makes and judges the media of a log.
///
/// # Errors
/// I/O; a broken promise is a violation.
pub fn judge_all(
    replay: &mut Replay<'_>,
    judge: &mut Judge<'_>,
    places: &Places,
    marks: &[Mark],
    seed: u64,
) -> Result<Found> {
    let log = replay.log();
    let mut random = Random::new(seed);
    let mut found = Found::default();
    let mut known = HashSet::new();
    let phases = phases(log, places, marks);
    for epoch in epochs(log) {
        found.flushes += 1;
        for (kind, parts) in subsets(log, epoch.clone(), &mut random) {
            let medium = replay.medium(&parts);
            found.judged += 1;
            if !known.insert(medium.key()) {
                continue;
            }
            let last = parts.last().map_or(epoch.start, |part| part.event + 1);
            let phase = last.checked_sub(1).and_then(|event| phases.get(event));
            let phase = phase.map_or("before everything", String::as_str).to_owned();
            match judge.judge(&medium) {
                Ok(judgement) => found.cuts.push(Cut {
                    durable: epoch.start,
                    parts,
                    kind,
                    phase,
                    judgement,
                }),
                Err(error) => found.violations.push(format!(
                    "{kind:?} after event {}, {phase}: {error:#}; survived: {parts:?}",
                    epoch.start
                )),
            }
        }
        replay.advance(epoch.start..epoch.end);
    }
    Ok(found)
}

/// The events between two flushes, from right behind one to the next; the last may be empty.
fn epochs(log: &Log) -> Vec<Range<usize>> {
    let mut epochs = Vec::new();
    let mut start = 0;
    for (index, (_, event)) in log.events.iter().enumerate() {
        if *event == Event::Flush {
            epochs.push(start..index);
            start = index + 1;
        }
    }
    epochs.push(start..log.events.len());
    epochs
}

/// After each event: the part of the session, and what of ours was written last in it.
fn phases(log: &Log, places: &Places, marks: &[Mark]) -> Vec<String> {
    let mut phases = Vec::new();
    let mut session = "";
    let mut last: Option<Place> = None;
    let mut turns = 0;
    for (at, event) in &log.events {
        let mark = marks.iter().rev().find(|mark| mark.at <= *at);
        let now = mark.map_or("", |mark| mark.name.as_str());
        if now != session {
            (session, last, turns) = (now, None, 0);
        }
        if let Event::Write(write) = event {
            let place = places.of_sector(write.sector);
            if place != Place::Root && last != Some(place) {
                last = Some(place);
                turns += 1;
            }
        }
        phases.push(match last {
            Some(place) => format!("{session}, {turns}: {place}"),
            None => session.to_owned(),
        });
    }
    phases
}

/// `count` of the media for the real loader: from every phase in turn, at flushes and between them.
#[must_use]
pub fn choose(cuts: &[Cut], count: usize, seed: u64) -> Vec<&Cut> {
    let mut random = Random::new(!seed);
    let mut phases: BTreeMap<&str, Vec<&Cut>> = BTreeMap::new();
    for cut in cuts {
        phases.entry(&cut.phase).or_default().push(cut);
    }
    let mut chosen: Vec<&Cut> = Vec::new();
    let mut kinds = [
        Kind::Torn,
        Kind::Flushed,
        Kind::Random,
        Kind::Omission,
        Kind::Prefix,
    ]
    .into_iter()
    .cycle();
    while chosen.len() < count && phases.values().any(|cuts| !cuts.is_empty()) {
        for cuts in phases.values_mut().filter(|cuts| !cuts.is_empty()) {
            if chosen.len() == count {
                break;
            }
            let kind = kinds.next();
            let of_kind: Vec<usize> = (0..cuts.len())
                .filter(|at| cuts.get(*at).map(|cut| cut.kind) == kind)
                .collect();
            let pick = random.below(of_kind.len() as u64);
            let pick = usize::try_from(pick)
                .ok()
                .and_then(|pick| of_kind.get(pick));
            let any = usize::try_from(random.below(cuts.len() as u64)).unwrap_or(0);
            chosen.push(cuts.swap_remove(pick.copied().unwrap_or(any)));
        }
    }
    chosen.sort_by_key(|cut| cut.durable);
    chosen
}

/// The replay stands where `cut` needs it; calls `then` with the medium.
///
/// # Errors
/// Those of `then`; the media are not taken in their order.
pub fn with_medium<T>(
    replay: &mut Replay<'_>,
    position: &mut usize,
    cut: &Cut,
    then: impl FnOnce(&Medium<'_>) -> Result<T>,
) -> Result<T> {
    let behind = cut.durable.checked_sub(*position);
    behind.context("replay to a medium: it lies behind")?;
    replay.advance(*position..cut.durable);
    *position = cut.durable;
    then(&replay.medium(&cut.parts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::loader::Choice;
    use crate::scenario::Slot;

    fn cut(phase: &str, durable: usize, kind: Kind) -> Cut {
        Cut {
            durable,
            parts: Vec::new(),
            kind,
            phase: phase.to_owned(),
            judgement: Judgement {
                choice: Choice {
                    slot: Slot::A,
                    tries: 0,
                    environment: "ok",
                    table: "ok",
                    ids: [None, None],
                },
                release: 0,
            },
        }
    }

    #[test]
    fn no_phase_is_forgotten_however_short() {
        let mut cuts: Vec<Cut> = (0..1000)
            .map(|at| cut("blocks", at, Kind::Random))
            .collect();
        cuts.push(cut("record", 1000, Kind::Flushed));
        cuts.push(cut("activate", 1001, Kind::Torn));
        let chosen = choose(&cuts, 10, 1);
        assert_eq!(chosen.len(), 10);
        for phase in ["record", "activate"] {
            assert_eq!(chosen.iter().filter(|cut| cut.phase == phase).count(), 1);
        }
        assert!(chosen.is_sorted_by_key(|cut| cut.durable));
        assert_eq!(choose(&cuts, 2000, 1).len(), cuts.len());
    }
}
