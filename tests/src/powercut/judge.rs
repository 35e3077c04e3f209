//! Whether a medium keeps the promises: what can be said of it as it lies there.

use std::fmt;
use std::iter;
use std::ops::Range;

use super::cuts::{Cut, Kind};
use super::disk::Event;
use super::facts::Facts;
use super::fixture::Fixture;
use super::medium::Medium;
use super::operation::Operation;
use super::parse::{self, Attr, State, Table, put};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Number of the invariant in DESIGN and ARCHITECTURE.
    pub invariant: u8,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.what)
    }
}

pub(super) type Judged = Result<(), Violation>;

pub(super) fn must(invariant: u8, holds: bool, what: impl FnOnce() -> String) -> Judged {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            what: what(),
        })
    }
}

/// One operation on a disk in one state.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    pub fixture: &'a Fixture,
    pub start: Medium,
    pub facts: Facts,
    /// Both copies of the table at the start.
    pub tables: [Option<Table>; 2],
    /// The slot that runs; of a device that is off, the one that ran last.
    pub running: usize,
    pub operation: Operation,
    pub tries: u8,
    /// Installations are repeated after one of so many recoveries: they take long.
    pub repeat_one_of: u64,
    /// The states that the authority may go through; `None` where the operation's description says nothing of them.
    pub states: Option<Vec<State>>,
}

/// What a cut, or bad luck besides, has damaged for sure.
#[derive(Clone, Debug, Default)]
pub struct Damage {
    /// Bytes of the disk whose content says nothing.
    pub ranges: Vec<Range<u64>>,
    /// There is more that nobody has kept account of.
    pub more: bool,
    /// A sector of the disk that can't be read until it is written.
    pub unreadable: Option<u64>,
}

impl Damage {
    /// The bytes that a cut tears.
    #[must_use]
    pub fn of(log: &[Event], cut: Cut) -> Self {
        let torn = matches!(cut.kind, Kind::Torn { .. } | Kind::Tail { .. });
        match log.get(cut.event) {
            Some(Event::Write(write)) if torn => Self {
                ranges: iter::once(write.at..write.at + write.data.len() as u64).collect(),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    /// Of several mishaps.
    pub const MANY: Self = Self {
        ranges: Vec::new(),
        more: true,
        unreadable: None,
    };

    fn touches(&self, place: &Range<u64>) -> bool {
        self.more || self.overlaps(place)
    }

    fn overlaps(&self, place: &Range<u64>) -> bool {
        self.ranges
            .iter()
            .any(|range| range.start < place.end && place.start < range.end)
    }

    /// It may have damaged a copy of the environment.
    #[must_use]
    pub fn touches_environment(&self, fixture: &Fixture) -> bool {
        fixture
            .layout
            .environment
            .iter()
            .any(|copy| self.touches(copy))
    }
}

impl<'a> Case<'a> {
    #[must_use]
    pub fn new(
        fixture: &'a Fixture,
        start: &Medium,
        running: usize,
        operation: Operation,
        tries: u8,
    ) -> Self {
        let start = start.settled();
        let facts = Facts::of(fixture, &start);
        let mut states = facts
            .authority
            .and_then(|state| operation.states(state, running, tries));
        if operation == Operation::Activate && !facts.slot_record[1 - running] {
            states = None;
        }
        Self {
            fixture,
            tables: Table::both(&start),
            facts,
            start,
            running,
            operation,
            tries,
            repeat_one_of: 1,
            states,
        }
    }

    /// The operation's description refuses it in this state.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.states.is_none()
            && self.operation != Operation::Start
            && self.facts.authority.is_some()
    }

    /// Everything that can be said of a medium without starting it, right after a cut.
    pub fn judge(&self, medium: &Medium, facts: &Facts, damage: &Damage) -> Judged {
        self.judge_states(facts, damage)?;
        self.judge_anytime(medium, facts, damage)
    }

    /// The authority is what it was or what it should become, as a whole.
    fn judge_states(&self, facts: &Facts, damage: &Damage) -> Judged {
        let Some(states) = &self.states else {
            return Ok(());
        };
        if let Some(state) = facts.authority {
            must(8, states.contains(&state), || {
                format!(
                    "the authority holds {}, neither before nor after",
                    show(&state)
                )
            })?;
        }
        let follows =
            |state: &State| states.contains(state) || self.facts.tables.contains(&Some(*state));
        for state in facts.tables.iter().flatten() {
            must(4, follows(state), || {
                format!("a table holds {}, neither before nor after", show(state))
            })?;
        }
        if self.start_is_sound() {
            must(
                11,
                facts.authority.is_some() || damage.touches_environment(self.fixture),
                || "the environment is lost, and no write to it was torn".to_owned(),
            )?;
            let record = damage.touches(&self.fixture.layout.confirmed);
            must(11, facts.record.is_some() || record, || {
                "the confirmed record is lost, and no write to it was torn".to_owned()
            })?;
        }
        Ok(())
    }

    fn start_is_sound(&self) -> bool {
        self.facts.authority.is_some() && self.facts.record.is_some()
    }

    /// What holds at any moment, whatever happened before.
    pub fn judge_anytime(&self, medium: &Medium, facts: &Facts, damage: &Damage) -> Judged {
        must(6, facts.tables.iter().any(Option::is_some), || {
            "no copy of the partition table is valid".to_owned()
        })?;
        for slot in [0, 1] {
            let incomplete = facts.content[slot].is_none();
            must(3, !incomplete || !facts.bootable_somewhere(slot), || {
                format!("slot {slot} is no complete image and bootable: {facts:?}")
            })?;
            must(3, !incomplete || !facts.slot_record[slot], || {
                format!("slot {slot} is no complete image and has a record: {facts:?}")
            })?;
            must(
                11,
                !incomplete || self.facts.content[slot].is_none() || slot != self.running,
                || format!("the image in slot {slot}, which ran, is damaged"),
            )?;
        }
        self.judge_fallback(facts)?;
        self.judge_tries(facts)?;
        self.judge_foreign(medium, damage)
    }

    /// There is a confirmed slot with a complete image.
    fn judge_fallback(&self, facts: &Facts) -> Judged {
        let complete = |slot: usize| facts.content.get(slot).is_some_and(Option::is_some);
        let in_state = |state: State| {
            let confirmed = |slot: usize| state.get(slot).is_some_and(|attr| attr.confirmed());
            (0..2).any(|slot| confirmed(slot) && complete(slot))
        };
        let holds = match facts.authority {
            Some(state) => in_state(state),
            None => {
                let record = facts
                    .record
                    .as_ref()
                    .is_some_and(|record| complete(record.slot));
                record || facts.tables.iter().flatten().any(|state| in_state(*state))
            }
        };
        must(5, holds, || {
            format!("no confirmed slot with a complete image: {facts:?}")
        })
    }

    /// Tries never rise, except where the operation gives some.
    fn judge_tries(&self, facts: &Facts) -> Judged {
        let (Some(before), Some(now)) = (self.facts.authority, facts.authority) else {
            return Ok(());
        };
        for slot in [0, 1] {
            let given = self
                .states
                .iter()
                .flatten()
                .filter_map(|state| state.get(slot))
                .map(|attr| attr.tries)
                .max();
            let most = before[slot].tries.max(given.unwrap_or(0));
            must(4, now[slot].tries <= most, || {
                format!(
                    "tries of slot {slot} rose from {} to {}",
                    before[slot], now[slot]
                )
            })?;
        }
        Ok(())
    }

    /// Nothing else on the disk has changed.
    fn judge_foreign(&self, medium: &Medium, damage: &Damage) -> Judged {
        let allowed = self.may_change(medium, damage);
        let unit = super::medium::UNIT as u64;
        for at in medium.differing_units(&self.start) {
            let place = at..at + unit;
            let covers = |range: &Range<u64>| range.start < place.end && place.start < range.end;
            let own = self.fixture.layout.usr.get(self.running);
            must(2, !own.is_some_and(covers), || {
                format!("byte {at} of slot {}, which ran, has changed", self.running)
            })?;
            must(7, allowed.iter().any(covers), || {
                format!("byte {at} has changed")
            })?;
        }
        let sector = medium.sector_size().bytes();
        let tables = Table::both(medium);
        // A loader makes one header from the other, with what is behind it.
        let padding = !tables
            .iter()
            .flatten()
            .any(|table| damage.touches(&(table.lba * sector..(table.lba + 1) * sector)));
        for table in tables.iter().flatten() {
            let same = self
                .tables
                .iter()
                .flatten()
                .any(|start| normal(start, padding) == normal(table, padding));
            must(7, same, || {
                format!(
                    "the table at sector {} differs in more than it may",
                    table.lba
                )
            })?;
        }
        Ok(())
    }

    /// The parts of the disk that a device may change at all while this operation, or the recovery from it, runs.
    fn may_change(&self, medium: &Medium, damage: &Damage) -> Vec<Range<u64>> {
        let sector = medium.sector_size().bytes();
        let table = 16384_u64.div_ceil(sector) * sector;
        let layout = &self.fixture.layout;
        let mut ranges = layout.environment.clone();
        ranges.push(layout.confirmed.clone());
        if damage.more {
            // A torn write takes the whole sector along.
            for range in &mut ranges {
                *range = range.start / sector * sector..range.end.next_multiple_of(sector);
            }
        }
        ranges.extend(damage.ranges.iter().cloned());
        ranges.push(sector..2 * sector + table);
        let end = medium.len();
        ranges.push(end - table - sector..end);
        for start in self.tables.iter().flatten() {
            let lba = if start.lba == 1 {
                start.alternate()
            } else {
                start.lba
            };
            let header = lba * sector;
            ranges.push(header.saturating_sub(table)..header + sector);
        }
        if self.operation.installs().is_some() {
            ranges.extend(layout.usr.get(1 - self.running).cloned());
        }
        ranges
    }
}

/// A table without what init may change in it and without what differs between its copies; `padding` are the bytes
/// behind the header.
fn normal(table: &Table, padding: bool) -> Vec<u8> {
    let mut table = table.with_state(&[Attr::UNBOOTABLE; 2]);
    // Checksums, places, the last usable sector, the disk's GUID.
    for (at, length) in [(16, 4), (24, 16), (48, 24), (72, 8), (88, 4)] {
        put(&mut table.header, at, &vec![0; length]);
    }
    for entry in table.entries.chunks_mut(128) {
        put(entry, 16, &[0; 16]);
    }
    // ROOT's last sector.
    put(&mut table.entries, 8 * 128 + 40, &[0; 8]);
    let mut bytes = table.header;
    if !padding {
        bytes.truncate(92);
    }
    bytes.extend(table.entries);
    bytes
}

/// `a P2T0S1, b P0T0S0`.
#[must_use]
pub fn show(state: &State) -> String {
    format!("a {}, b {}", state[0], state[1])
}

/// The variables of the environment that are somebody else's.
#[must_use]
pub fn foreign_variables(fixture: &Fixture, medium: &Medium) -> Vec<Option<Vec<u8>>> {
    use super::fixture::Board;
    let copies = fixture.layout.environment.iter();
    copies
        .map(|place| {
            let length = usize::try_from(place.end - place.start).unwrap_or(0);
            let bytes = medium.bytes(place.start, length);
            match fixture.board {
                Board::X86Grub => parse::grub_get(&bytes, "foreign"),
                board => parse::uboot_get(&bytes, super::facts::header_len(board), "foreign"),
            }
        })
        .collect()
}
