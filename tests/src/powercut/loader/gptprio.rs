//! Flatcar's `gptprio.next`: either copy will do; a try is spent even where the slot is confirmed; writes the backup's
//! header, the backup's entries, the primary's header, the primary's entries. We take the firmware to write through: it
//! flushes nothing itself.

use bootctl::BlockIo;

use super::{Attempt, Env, attempt, ids};
use crate::powercut::disk::SimDisk;
use crate::powercut::fixture::Fixture;
use crate::powercut::medium::Medium;
use crate::powercut::parse::{Attr, Table, best, put, u64_at};

/// A menu entry that fails is run again, three times.
const RUNS: usize = 4;

pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    for _ in 0..RUNS {
        let Some(tried) = next(fixture, disk) else {
            break;
        };
        let loaded = tried.loaded;
        attempts.push(tried);
        if loaded {
            break;
        }
    }
    attempts
}

fn next(fixture: &Fixture, disk: &mut SimDisk) -> Option<Attempt> {
    let [primary, backup] = Table::both(&disk.now());
    let table = primary.or(backup)?;
    let mut state = table.state();
    let slot = best(&state, |_, attr| Attr::candidate(attr))?;
    let attr = state.get_mut(slot)?;
    let on_trial = !attr.successful;
    if attr.tries > 0 {
        attr.tries -= 1;
        let [primary, backup] = both_from(&table.with_state(&state), &disk.now());
        for copy in [backup, primary] {
            disk.write_sectors(copy.lba, &copy.header).ok()?;
            disk.flush().ok()?;
            write_entries(disk, &copy)?;
            disk.flush().ok()?;
        }
    }
    let left = state.get(slot)?.tries;
    let chosen = (slot, on_trial);
    let ids = ids(&table, slot);
    Some(attempt(fixture, disk, chosen, (Env::Ok, left), ids))
}

/// Both copies of a table, wherever it was read from: the primary at sector 1, the backup where it is or should be.
fn both_from(table: &Table, medium: &Medium) -> [Table; 2] {
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

/// Writes the sectors of the entries that differ.
fn write_entries(disk: &mut SimDisk, copy: &Table) -> Option<()> {
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
