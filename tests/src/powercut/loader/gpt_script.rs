//! `boot.scr` of the boards whose authority is the GPT: either copy will do, both checksums checked; a try is spent by
//! rewriting both copies, each written at once. A damaged copy is rebuilt before the good one is touched.

use bootctl::BlockIo;

use super::{Attempt, follow_the_rule, ids};
use crate::powercut::disk::SimDisk;
use crate::powercut::fixture::Fixture;
use crate::powercut::medium::Medium;
use crate::powercut::parse::{Table, put, u64_at};

pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    let [primary, backup] = Table::both(&disk.now());
    let primary_is_good = primary.is_some();
    let Some(table) = primary.or(backup) else {
        return Vec::new();
    };
    let state = table.state();
    follow_the_rule(
        fixture,
        disk,
        state,
        |slot| ids(&table, slot),
        |disk, state| {
            let changed = table.with_state(state);
            let [primary, backup] = both_from(&changed, &disk.now());
            let order = match primary_is_good {
                true => [backup, primary],
                false => [primary, backup],
            };
            order.iter().all(|copy| write(disk, copy, true).is_some())
                && Table::both(&disk.now())
                    .iter()
                    .all(|copy| copy.as_ref().is_some_and(|copy| copy.state() == *state))
        },
    )
}

/// Both copies of a table, wherever it was read from: the primary at sector 1, the backup where it is or should be.
pub fn both_from(table: &Table, medium: &Medium) -> [Table; 2] {
    let sector = medium.sector_size().bytes();
    let table_sectors = (table.entries.len() as u64).div_ceil(sector);
    let backup_lba = match table.lba {
        1 => table.alternate(),
        lba => lba,
    };
    let placed = |lba: u64, alternate: u64, entries: u64| {
        let mut copy = table.clone();
        copy.lba = lba;
        put(&mut copy.header, 24, &lba.to_le_bytes());
        put(&mut copy.header, 32, &alternate.to_le_bytes());
        put(&mut copy.header, 72, &entries.to_le_bytes());
        copy.seal();
        copy
    };
    [
        placed(1, backup_lba, 2),
        placed(backup_lba, 1, backup_lba - table_sectors),
    ]
}

/// Writes entries, then header; with `at_once` each is on the medium before the next. Entries that are there already
/// are left alone.
pub fn write(disk: &mut SimDisk, copy: &Table, at_once: bool) -> Option<()> {
    write_entries(disk, copy)?;
    if at_once {
        disk.flush().ok()?;
    }
    disk.write_sectors(copy.lba, &copy.header).ok()?;
    if at_once {
        disk.flush().ok()?;
    }
    Some(())
}

/// Writes the sectors of the entries that differ.
pub fn write_entries(disk: &mut SimDisk, copy: &Table) -> Option<()> {
    let medium = disk.now();
    let sector = medium.sector_size().len();
    let first = u64_at(&copy.header, 72);
    for (lba, wanted) in (first..).zip(copy.entries.chunks(sector)) {
        let held = medium.bytes(lba * sector as u64, wanted.len());
        if held != wanted && wanted.len() == sector {
            disk.write_sectors(lba, wanted).ok()?;
        }
    }
    Some(())
}
