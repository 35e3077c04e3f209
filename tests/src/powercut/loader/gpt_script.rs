//! `boot.scr` of the boards whose authority is the GPT (`boards/src/uboot/table.in`, `spend_table.in`): either copy will
//! do, everything checked; a try is spent by rewriting both copies as a whole, each command on the medium before the
//! next. A damaged copy is rebuilt before the good one is touched.

use bootctl::BlockIo;

use super::{Attempt, Env, follow_the_rule, ids};
use crate::powercut::disk::SimDisk;
use crate::powercut::fixture::Fixture;
use crate::powercut::medium::Medium;
use crate::powercut::parse::{Table, put, u32_at, u64_at};

/// EFI's name of a USR partition, as it lies in an entry.
const USR: [u8; 16] = *b"\xf4\xf5\xfb\x5d\x48\x28\xac\x4b\xaa\x5e\x0d\x9a\x20\xb7\x45\xa6";

pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    let found = Found::of(&disk.now());
    let Some(table) = found.counts().filter(|table| has_slots(table)) else {
        return Vec::new();
    };
    let label = found.label();
    let attempts = follow_the_rule(
        fixture,
        disk,
        (table.state(), Env::Ok),
        |slot| ids(table, slot),
        |disk, state| found.spend(disk, &table.with_state(state)).is_some(),
    );
    let labelled = |attempt| Attempt {
        table: label,
        ..attempt
    };
    attempts.into_iter().map(labelled).collect()
}

/// What the script knows of the table before it chooses.
#[derive(Debug)]
pub struct Found {
    /// Copies whose header is good.
    primary: Option<Table>,
    backup: Option<Table>,
    /// Where the backup's header is, or should be.
    second: u64,
}

impl Found {
    pub fn of(medium: &Medium) -> Self {
        let end = (medium.len() / medium.sector_size().bytes()).saturating_sub(1);
        let header = |lba| Table::unchecked(medium, lba).filter(Table::header_is_good);
        let primary = header(1);
        let mut second = primary.as_ref().map_or(end, Table::alternate);
        let mut backup = header(second);
        let good = |copy: &Option<Table>| copy.as_ref().is_some_and(Table::entries_are_good);
        if primary.is_some() && !good(&primary) && !good(&backup) {
            second = end;
            backup = header(second);
        }
        Self {
            primary,
            backup,
            second,
        }
    }

    fn good_primary(&self) -> Option<&Table> {
        self.primary.as_ref().filter(|copy| copy.entries_are_good())
    }

    fn good_backup(&self) -> Option<&Table> {
        self.backup.as_ref().filter(|copy| copy.entries_are_good())
    }

    pub fn counts(&self) -> Option<&Table> {
        self.good_primary().or(self.good_backup())
    }

    pub fn label(&self) -> &'static str {
        match (self.good_primary(), self.good_backup()) {
            (Some(_), Some(_)) => "ok",
            (Some(_), None) => "primary",
            (None, Some(_)) => "backup",
            (None, None) => "none",
        }
    }

    /// Brings both copies to `table`.
    fn spend(&self, disk: &mut SimDisk, table: &Table) -> Option<()> {
        let medium = disk.now();
        let sector = medium.sector_size().bytes();
        let table_sectors = (table.entries.len() as u64).div_ceil(sector);
        let second = match (self.good_primary(), &self.backup) {
            (Some(_), None) => (medium.len() / sector).saturating_sub(1),
            _ => self.second,
        };
        let at =
            |copy: &Option<Table>, otherwise| copy.as_ref().map_or(otherwise, Table::entries_lba);
        let backup_entries = at(&self.backup, second.saturating_sub(table_sectors));
        if backup_entries <= u64_at(&table.header, 48) {
            return None;
        }
        let primary_entries = at(&self.primary, 2);
        let primary = place(
            table,
            &medium,
            self.primary.is_some(),
            [1, second, primary_entries],
        );
        let backup = place(
            table,
            &medium,
            self.backup.is_some(),
            [second, 1, backup_entries],
        );
        let order = match self.good_primary() {
            Some(_) => [backup, primary],
            None => [primary, backup],
        };
        order.iter().try_for_each(|copy| copy.write(disk))
    }
}

/// One copy, as its sectors will be.
struct Copy {
    header: (u64, Vec<u8>),
    entries: (u64, Vec<u8>),
}

impl Copy {
    /// Entries, then header; each is on the medium before the next.
    fn write(&self, disk: &mut SimDisk) -> Option<()> {
        for (lba, bytes) in [&self.entries, &self.header] {
            disk.write_sectors(*lba, bytes).ok()?;
            disk.flush().ok()?;
        }
        Some(())
    }
}

/// What no field covers stays the copy's own, where that `is_there`: bytes behind the header and behind the entries.
fn place(table: &Table, medium: &Medium, is_there: bool, [lba, other, entries]: [u64; 3]) -> Copy {
    let sector = medium.sector_size();
    let mut moved = table.clone();
    put(&mut moved.header, 24, &lba.to_le_bytes());
    put(&mut moved.header, 32, &other.to_le_bytes());
    put(&mut moved.header, 72, &entries.to_le_bytes());
    moved.seal();
    let length = moved.entries.len().next_multiple_of(sector.len());
    let mut bytes = medium.bytes(entries * sector.bytes(), length);
    if !is_there {
        let behind = medium.bytes(table.entries_lba() * sector.bytes(), length);
        bytes.clone_from(&behind);
    }
    put(&mut bytes, 0, &moved.entries);
    let mut header = moved.header.clone();
    if is_there {
        let size = u32_at(&header, 12) as usize;
        let own = medium.bytes(lba * sector.bytes(), sector.len());
        let behind = own.get(size..).unwrap_or_default();
        put(&mut header, size, behind);
    }
    Copy {
        header: (lba, header),
        entries: (entries, bytes),
    }
}

/// Both are entries of the table, and have the type on which alone the attributes mean this.
fn has_slots(table: &Table) -> bool {
    [3, 4]
        .iter()
        .all(|number| table.entry(*number).starts_with(&USR))
}
