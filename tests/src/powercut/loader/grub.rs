//! `boards/src/x86_64_grub/grub.cfg.in`: reads the primary table alone and checks no checksum of it.

use std::ops::Range;

use bootctl::BlockIo;

use super::{Attempt, Env, attempt, follow_the_rule};
use crate::powercut::disk::SimDisk;
use crate::powercut::fixture::Fixture;
use crate::powercut::medium::Medium;
use crate::powercut::parse::{self, State, Table, uuid};

pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    let medium = disk.now();
    let record = parse::record(&medium.bytes(fixture.layout.confirmed.start, 512));
    let recorded_ids = record.as_ref().and_then(|record| record.ids.clone());
    let table = usable_table(&medium);
    let table_ids = table
        .as_ref()
        .map(|table| [3, 4, 9].map(|number| uuid(table.guid(number))));
    let fresh = record.as_ref().is_some_and(|record| record.fresh);
    let contradicted = !fresh && recorded_ids.is_some() && recorded_ids != table_ids;
    let table = table.filter(|_| !contradicted);
    let ids = match &table {
        Some(_) => table_ids,
        None => recorded_ids,
    };
    let [a, b, root] = ids.unwrap_or_default();
    let ids = |slot: usize| [if slot == 0 { a.clone() } else { b.clone() }, root.clone()];

    let place = table.as_ref().and_then(|table| environment(table, &medium));
    if let Some(place) = &place
        && let Some(state) = read(&medium, place)
    {
        return follow_the_rule(fixture, disk, (state, Env::Ok), ids, |disk, state| {
            spend(disk, place, state)
        });
    }
    let slots = match (&record, &table) {
        (Some(record), _) => vec![record.slot],
        (None, Some(_)) => vec![0, 1],
        (None, None) => Vec::new(),
    };
    let mut attempts: Vec<Attempt> = Vec::new();
    for slot in slots {
        if attempts.last().is_some_and(|last| last.loaded) {
            break;
        }
        let tried = attempt(fixture, disk, (slot, false), (Env::Lost, 0), ids(slot));
        attempts.push(Attempt {
            table: if table.is_some() { "ok" } else { "unusable" },
            ..tried
        });
    }
    attempts
}

/// The primary table, if the protective MBR leads to it and the partitions that matter are there.
fn usable_table(medium: &Medium) -> Option<Table> {
    let mbr = medium.bytes(0, 512);
    let protective = mbr
        .get(446..510)?
        .chunks(16)
        .any(|entry| entry.get(4) == Some(&0xee));
    if !protective || mbr.get(510..512) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let table = Table::unchecked(medium, 1)?;
    let there = [3, 4, 7, 9]
        .into_iter()
        .all(|number| table.partition(number).is_some());
    there.then_some(table)
}

/// The data sector of `grubenv` on the partition that the table calls OEM-CONFIG.
fn environment(table: &Table, medium: &Medium) -> Option<Range<u64>> {
    let sectors = table.partition(7)?;
    let sector = medium.sector_size().bytes();
    let volume = sectors.start.checked_mul(sector)?..sectors.end.checked_mul(sector)?;
    Fixture::grubenv(medium, volume)
}

fn read(medium: &Medium, place: &Range<u64>) -> Option<State> {
    let block = medium.bytes(place.start, 512);
    parse::state_of(|name| parse::grub_get(&block, name))
}

/// `save_env`: changes the first entry of each name and writes the sector. It needs '#' behind the last line. What GRUB
/// writes is not flushed.
fn spend(disk: &mut SimDisk, place: &Range<u64>, state: &State) -> bool {
    let medium = disk.now();
    let mut block = medium.bytes(place.start, 512);
    let Some(variables) = parse::grub_variables(&block) else {
        return false;
    };
    let end = block.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let padded = block.iter().skip(end + 1).all(|byte| *byte == b'#');
    if !padded || !parse::replace(&mut block, &variables, state) {
        return false;
    }
    let sector = medium.sector_size().bytes();
    let lba = place.start / sector;
    let mut bytes = medium.bytes(lba * sector, medium.sector_size().len());
    let within = usize::try_from(place.start % sector).unwrap_or(0);
    parse::put(&mut bytes, within, &block);
    disk.write_sectors(lba, &bytes).is_ok() && read(&disk.now(), place) == Some(*state)
}
