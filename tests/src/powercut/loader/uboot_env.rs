//! The environment script of `arm64-uboot-env` (`boards/src/uboot/spend_env.in`): one raw sector, of which it reads and
//! writes its own seven variables alone; or U-Boot's own two copies (`spend_own.in`), of which `saveenv` replaces the older
//! one. Lost: the GPT mirror, confirmed slots only, and nothing is written, unless the environment is U-Boot's own, which
//! nobody else can make.

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
    if let Some(state) = place.and_then(|(_, place)| read(fixture, &medium, &place)) {
        return follow_the_rule(fixture, disk, (state, Env::Ok), ids, |disk, state| {
            spend(fixture, disk, state).is_some()
        });
    }
    // The mirror does not know how often a slot was tried.
    let untried = |attr: Attr| Attr { tries: 0, ..attr };
    let Some(mirror) = found.counts().map(|table| table.state().map(untried)) else {
        return Vec::new();
    };
    if fixture.board == Board::Arm64Redundant {
        // On a medium that can't be written it stays lost.
        let _ = make_anew(fixture, disk, &mirror);
    }
    follow_the_rule(fixture, disk, (mirror, Env::Lost), ids, |_, _| false)
}

/// What U-Boot has without an environment of its own.
const DEFAULT: &[u8] = b"bootcmd=run distro_bootcmd\0";

/// Says that U-Boot was seen to save to both places.
const PLACES: &str = "tandem_places";

/// Its value: sectors, hexadecimal.
pub fn places(environment: &[Range<u64>]) -> Vec<u8> {
    let length = environment.first().map(|copy| copy.end - copy.start);
    let numbers = environment.iter().map(|copy| copy.start).chain(length);
    let texts: Vec<_> = numbers.map(|bytes| format!("{:x}", bytes / 512)).collect();
    texts.join(".").into_bytes()
}

/// Saves U-Boot's environment three times with what is confirmed in the mirror, the last time with the places; slots on trial
/// have lost their tries.
fn make_anew(fixture: &Fixture, disk: &mut SimDisk, mirror: &State) -> Option<()> {
    let state = mirror.map(|attr| match attr.successful {
        true => Attr {
            priority: attr.priority.min(9),
            ..attr
        },
        false => Attr::UNBOOTABLE,
    });
    if state.iter().all(|attr| attr.priority == 0) {
        return None;
    }
    save(fixture, disk, &state, &[])?;
    save(fixture, disk, &state, &[])?;
    let proof = places(&fixture.layout.environment);
    save(
        fixture,
        disk,
        &state,
        &[PLACES.as_bytes(), b"=", &proof, b"\0"].concat(),
    )
}

/// `saveenv`: what else it has, this state and these variables.
fn save(fixture: &Fixture, disk: &mut SimDisk, state: &State, more: &[u8]) -> Option<()> {
    let medium = disk.now();
    let current = current(fixture, &medium);
    let (mut copy, serial) = match &current {
        Some((_, place)) => {
            let old = bytes(&medium, place);
            (foreign(&old), *old.get(4)?)
        }
        None => (DEFAULT.to_vec(), 0),
    };
    copy.extend(more);
    for (name, value) in parse::digits_of(state) {
        copy.extend(format!("{name}={value}\0").into_bytes());
    }
    // Where no copy is good it takes the first one for its own, and replaces the second.
    let number = current.map_or(1, |(number, _)| 1 - number);
    let target = fixture.layout.environment.get(number)?.clone();
    copy.splice(..0, [0, 0, 0, 0, serial.wrapping_add(1)]);
    copy.resize(usize::try_from(target.end - target.start).ok()?, 0);
    write(disk, 5, &target, copy)
}

/// The variables of a good copy that are not Tandem's.
fn foreign(copy: &[u8]) -> Vec<u8> {
    let variables = parse::uboot_variables(copy, 5).unwrap_or_default();
    let kept = variables
        .into_iter()
        .filter(|(name, _)| !name.starts_with(b"tandem_"));
    kept.flat_map(|(name, place)| {
        let value = copy.get(place).unwrap_or_default();
        [&name, &b"="[..], value, &[0]].concat()
    })
    .collect()
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
    let proof = parse::uboot_get(&copy, skip, PLACES);
    if fixture.board == Board::Arm64Redundant && proof != Some(places(&fixture.layout.environment))
    {
        return None;
    }
    parse::state_of(|name| parse::uboot_get(&copy, skip, name))
}

/// Writes the environment that counts, with another state, to where the next one belongs.
fn spend(fixture: &Fixture, disk: &mut SimDisk, state: &State) -> Option<()> {
    let medium = disk.now();
    let (number, place) = current(fixture, &medium)?;
    let target = match fixture.board {
        Board::Arm64Redundant => fixture.layout.environment.get(1 - number)?,
        _ => &place,
    };
    let skip = header_len(fixture.board);
    let mut copy = bytes(&medium, &place);
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
    write(disk, skip, target, copy)
}

/// Seals a copy, writes it to its place and reads it back.
fn write(disk: &mut SimDisk, header: usize, target: &Range<u64>, mut copy: Vec<u8>) -> Option<()> {
    let medium = disk.now();
    let crc = crc32fast::hash(copy.get(header..)?);
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
