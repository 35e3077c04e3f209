//! The environment script of `arm64-uboot-env` (`boards/src/uboot/spend_env.in`): one raw sector, of which it reads and
//! writes its own seven variables alone; or U-Boot's own two copies, of which the older one is replaced. Lost: the GPT
//! mirror, confirmed slots only, and nothing is written.

use std::ops::Range;

use bootctl::BlockIo;

use super::gpt_script::Found;
use super::{Attempt, Env, follow_the_rule, ids};
use crate::powercut::disk::SimDisk;
use crate::powercut::facts::{current_copy, header_len};
use crate::powercut::fixture::{Board, Fixture};
use crate::powercut::medium::Medium;
use crate::powercut::parse::{self, Attr, State};

pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    let found = Found::of(&disk.now());
    let labelled = |attempt| Attempt {
        table: found.label(),
        ..attempt
    };
    let attempts = choose(fixture, disk, &found);
    attempts.into_iter().map(labelled).collect()
}

fn choose(fixture: &Fixture, disk: &mut SimDisk, found: &Found) -> Vec<Attempt> {
    let medium = disk.now();
    // `part uuid` takes either copy.
    let ids = |slot: usize| {
        let table = found.counts();
        table.map_or_else(Default::default, |table| ids(table, slot))
    };
    let place = current(fixture, &medium);
    let state = place.as_ref().and_then(|(number, place)| {
        let state = read(fixture, &medium, place)?;
        let target = match fixture.board {
            Board::Arm64Redundant => fixture.layout.environment.get(1 - number).cloned()?,
            _ => place.clone(),
        };
        Some((state, place, target))
    });
    if let Some((state, place, target)) = state {
        return follow_the_rule(fixture, disk, (state, Env::Ok), ids, |disk, state| {
            spend(fixture, disk, place, &target, state).is_some()
        });
    }
    // The mirror does not know how often a slot was tried.
    let untried = |attr: Attr| Attr { tries: 0, ..attr };
    let Some(mirror) = found.counts().map(|table| table.state().map(untried)) else {
        return Vec::new();
    };
    follow_the_rule(fixture, disk, (mirror, Env::Lost), ids, |_, _| false)
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
    if fixture.board == Board::Arm64Env {
        copy = exported(state, copy.len());
    } else {
        let variables = parse::uboot_variables(&copy, skip)?;
        if !parse::replace(&mut copy, &variables, state) {
            return None;
        }
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

/// What `env export -c` makes of our variables: sorted, and zeros behind them. The checksum is still missing.
fn exported(state: &State, length: usize) -> Vec<u8> {
    let mut lines: Vec<String> = parse::digits_of(state)
        .iter()
        .map(|(name, value)| format!("{name}={value}\0"))
        .collect();
    lines.sort_unstable();
    let mut copy = vec![0; 4];
    copy.extend(lines.concat().into_bytes());
    copy.resize(length, 0);
    copy
}
