//! Flatcar's `gptprio.next`: either copy will do; a try is spent even where the slot is confirmed; writes the backup's
//! header, the backup's entries, the primary's header, the primary's entries. We take the firmware to write through: it
//! flushes nothing itself.

use bootctl::BlockIo;

use super::gpt_script::{both_from, write_entries};
use super::{Attempt, Env, attempt, ids};
use crate::powercut::disk::SimDisk;
use crate::powercut::fixture::Fixture;
use crate::powercut::parse::{Attr, Table, best};

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
