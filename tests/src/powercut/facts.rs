//! What a medium says, to somebody who knows the formats but not `bootctl`.

use super::fixture::{Board, Fixture};
use super::medium::Medium;
use super::parse::{self, Record, State, Table};
use super::release::Number;

/// Everything about a medium that decides what happens next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// What the loader reads; `None` when that is lost.
    pub authority: Option<State>,
    /// The attributes in each valid copy of the table, the primary first.
    pub tables: [Option<State>; 2],
    /// Of a redundant environment: each copy that is valid.
    pub copies: [Option<State>; 2],
    pub record: Option<Record>,
    /// The release whose complete image each slot holds.
    pub content: [Option<Number>; 2],
    /// Each slot has a record whose header and body are intact.
    pub slot_record: [bool; 2],
    /// The backup is in the last sectors.
    pub backup_at_end: bool,
}

impl Facts {
    #[must_use]
    pub fn of(fixture: &Fixture, medium: &Medium) -> Self {
        let both = Table::both(medium);
        let last = (medium.len() / medium.sector_size().bytes()).saturating_sub(1);
        let tables = both.clone().map(|table| table.map(|table| table.state()));
        let copies = environment_copies(fixture, medium);
        let authority = match fixture.board {
            Board::RpiUboot | Board::X86Gptprio => tables[0].or(tables[1]),
            Board::X86Grub | Board::Arm64Env => copies[0],
            Board::Arm64Redundant => current_copy(fixture, medium).and_then(|n| copies[n]),
        };
        let place = fixture.layout.confirmed.clone();
        Self {
            authority,
            tables,
            copies,
            record: parse::record(&medium.bytes(place.start, 512)),
            content: [0, 1].map(|slot| fixture.content(medium, slot)),
            slot_record: [0, 1].map(|slot| has_record(fixture, medium, slot)),
            backup_at_end: both[1].as_ref().is_some_and(|table| table.lba == last),
        }
    }

    /// Every copy of the environment holds a state.
    #[must_use]
    pub fn copies_intact(&self, fixture: &Fixture) -> bool {
        let copies = self.copies.iter().take(fixture.layout.environment.len());
        copies.into_iter().all(Option::is_some)
    }

    /// Some place from which a loader may take a slot's attributes has it bootable.
    #[must_use]
    pub fn bootable_somewhere(&self, slot: usize) -> bool {
        let states = [self.authority]
            .into_iter()
            .chain(self.tables)
            .chain(self.copies);
        let candidate = |state: State| state.get(slot).is_some_and(|attr| attr.candidate());
        states.flatten().any(candidate)
            || self
                .record
                .as_ref()
                .is_some_and(|record| record.slot == slot)
    }
}

fn environment_copies(fixture: &Fixture, medium: &Medium) -> [Option<State>; 2] {
    let mut states = [None; 2];
    for (state, place) in states.iter_mut().zip(&fixture.layout.environment) {
        let length = usize::try_from(place.end - place.start).unwrap_or(0);
        let bytes = medium.bytes(place.start, length);
        *state = match fixture.board {
            Board::X86Grub => parse::state_of(|name| parse::grub_get(&bytes, name)),
            board => {
                let skip = header_len(board);
                parse::state_of(|name| parse::uboot_get(&bytes, skip, name))
            }
        };
    }
    states
}

/// Bytes before the variables of a U-Boot environment.
#[must_use]
pub const fn header_len(board: Board) -> usize {
    match board {
        Board::Arm64Redundant => 5,
        _ => 4,
    }
}

/// Which copy of a redundant environment counts: the later one by its serial number, which wraps from 255 to 0.
#[must_use]
pub fn current_copy(fixture: &Fixture, medium: &Medium) -> Option<usize> {
    let serial = |number: usize| {
        let place = fixture.layout.environment.get(number)?;
        let length = usize::try_from(place.end - place.start).ok()?;
        let bytes = medium.bytes(place.start, length);
        parse::uboot_variables(&bytes, 5)?;
        bytes.get(4).copied()
    };
    match (serial(0), serial(1)) {
        (None, None) => None,
        (Some(_), None) => Some(0),
        (None, Some(_)) => Some(1),
        (Some(a), Some(b)) => {
            let second_is_newer = (a, b) == (255, 0) || (b > a && (a, b) != (0, 255));
            Some(usize::from(second_is_newer))
        }
    }
}

/// Signature and both checksums of a slot's record hold.
#[must_use]
pub fn has_record(fixture: &Fixture, medium: &Medium, slot: usize) -> bool {
    let Some(usr) = fixture.layout.usr.get(slot) else {
        return false;
    };
    let start = usr.end.saturating_sub(4 * 1024 * 1024);
    let mut header = medium.bytes(start, 512);
    if !header.starts_with(b"TANDEMSR") {
        return false;
    }
    let (stored, length) = (parse::u32_at(&header, 12), parse::u32_at(&header, 88));
    let body_crc = parse::u32_at(&header, 92);
    parse::put(&mut header, 12, &[0; 4]);
    crc32fast::hash(&header) == stored
        && length < 1 << 20
        && crc32fast::hash(&medium.bytes(start + 512, length as usize)) == body_crc
}
