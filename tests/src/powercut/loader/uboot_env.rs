//! The environment script of `arm64-uboot-env`: one raw sector, or U-Boot's own two copies, of which the older one is
//! replaced. Lost: the GPT mirror, confirmed slots only, and nothing is written.

use std::ops::Range;

use bootctl::BlockIo;

use super::{Attempt, Env, attempt, follow_the_rule, ids};
use crate::powercut::disk::SimDisk;
use crate::powercut::facts::{current_copy, header_len};
use crate::powercut::fixture::{Board, Fixture};
use crate::powercut::medium::Medium;
use crate::powercut::parse::{self, Attr, State, Table, best};

pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    let medium = disk.now();
    // `part uuid` takes either copy.
    let [primary, backup] = Table::both(&medium);
    let table = primary.or(backup);
    let ids = |slot: usize| {
        table
            .as_ref()
            .map_or_else(Default::default, |t| ids(t, slot))
    };
    if let Some((number, place)) = current(fixture, &medium)
        && let Some(state) = read(fixture, &medium, &place)
    {
        let target = match fixture.board {
            Board::Arm64Redundant => fixture.layout.environment.get(1 - number).cloned(),
            _ => Some(place.clone()),
        };
        return follow_the_rule(fixture, disk, state, ids, |disk, state| {
            target
                .as_ref()
                .is_some_and(|target| spend(fixture, disk, &place, target, state).is_some())
        });
    }
    let confirmed = |table: &Table| best(&table.state(), |_, attr| Attr::confirmed(attr));
    let Some(slot) = table.as_ref().and_then(confirmed) else {
        return Vec::new();
    };
    vec![attempt(
        fixture,
        disk,
        (slot, false),
        (Env::Lost, 0),
        ids(slot),
    )]
}

/// The copy that counts.
fn current(fixture: &Fixture, medium: &Medium) -> Option<(usize, Range<u64>)> {
    let number = match fixture.board {
        Board::Arm64Redundant => current_copy(fixture, medium)?,
        _ => 0,
    };
    let place = fixture.layout.environment.get(number)?;
    Some((number, place.clone()))
}

fn bytes(medium: &Medium, place: &Range<u64>) -> Vec<u8> {
    medium.bytes(
        place.start,
        usize::try_from(place.end - place.start).unwrap_or(0),
    )
}

fn read(fixture: &Fixture, medium: &Medium, place: &Range<u64>) -> Option<State> {
    let copy = bytes(medium, place);
    let skip = header_len(fixture.board);
    parse::state_of(|name| parse::uboot_get(&copy, skip, name))
}

/// Writes the environment of `place`, with another state, to `target`.
fn spend(
    fixture: &Fixture,
    disk: &mut SimDisk,
    place: &Range<u64>,
    target: &Range<u64>,
    state: &State,
) -> Option<()> {
    let medium = disk.now();
    let skip = header_len(fixture.board);
    let mut copy = bytes(&medium, place);
    let variables = parse::uboot_variables(&copy, skip)?;
    if !parse::replace(&mut copy, &variables, state) {
        return None;
    }
    if skip == 5 {
        let serial = copy.get(4)?.wrapping_add(1);
        parse::put(&mut copy, 4, &[serial]);
    }
    let crc = crc32fast::hash(copy.get(skip..)?);
    parse::put(&mut copy, 0, &crc.to_le_bytes());
    let sector = medium.sector_size().bytes();
    let first = target.start / sector;
    let end = target.end.div_ceil(sector);
    let length = usize::try_from((end - first) * sector).ok()?;
    let mut sectors = medium.bytes(first * sector, length);
    let within = usize::try_from(target.start % sector).ok()?;
    parse::put(&mut sectors, within, &copy);
    disk.write_sectors(first, &sectors).ok()?;
    disk.flush().ok()?;
    (bytes(&disk.now(), target) == copy).then_some(())
}
