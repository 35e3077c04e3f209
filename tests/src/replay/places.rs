//! Which sectors are whose, from the image before the update. Of the partitions ROOT alone changes: it grows to
//! the end of the disk.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use anyhow::Result;

use super::log::SECTOR;
use super::medium::Base;
use crate::host_hash;
use crate::scenario::{Slot, damage};

/// A place that something of ours writes, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    PrimaryTable,
    BackupTable,
    Image(char),
    SlotRecord(char),
    Environment,
    ConfirmedRecord,
    Root,
    /// Nobody writes there: the first sector, boot loaders, OEM, the rest of OEM-CONFIG, between the partitions.
    Foreign,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrimaryTable => f.write_str("primary table"),
            Self::BackupTable => f.write_str("backup table"),
            Self::Image(slot) => write!(f, "slot {slot}"),
            Self::SlotRecord(slot) => write!(f, "record of slot {slot}"),
            Self::Environment => f.write_str("environment"),
            Self::ConfirmedRecord => f.write_str("confirmed record"),
            Self::Root => f.write_str("ROOT"),
            Self::Foreign => f.write_str("foreign"),
        }
    }
}

/// The end of a USR partition, outside the image.
const SLOT_RECORD_SECTORS: u64 = (4 << 20) / SECTOR;
/// A table's header and entries.
const TABLE_SECTORS: u64 = 33;

/// Where everything is, in sectors.
#[derive(Clone, Debug)]
pub struct Places {
    pub sectors: u64,
    pub usr: [Range<u64>; 2],
    pub oem_config: Range<u64>,
    /// To where it may grow.
    pub root: Range<u64>,
    pub flashed_root_end: u64,
    pub environment: u64,
    pub confirmed: u64,
}

impl Places {
    /// # Errors
    /// One of them is not found.
    pub fn of(base: &Base) -> Result<Self> {
        let partition = |number| partition(&base.path, number);
        let root = partition(9)?;
        Ok(Self {
            sectors: base.sectors,
            usr: [partition(3)?, partition(4)?],
            oem_config: partition(7)?,
            root: root.start..base.sectors.saturating_sub(TABLE_SECTORS),
            flashed_root_end: root.end,
            environment: damage::environment(&base.path)? / SECTOR,
            confirmed: damage::confirmed_record(&base.path)? / SECTOR,
        })
    }

    #[must_use]
    pub fn slot(&self, slot: Slot) -> &Range<u64> {
        let [a, b] = &self.usr;
        match slot {
            Slot::A => a,
            Slot::B => b,
        }
    }

    /// Whose a sector is.
    #[must_use]
    pub fn of_sector(&self, number: u64) -> Place {
        let backup = self.sectors.saturating_sub(TABLE_SECTORS);
        match number {
            1..=TABLE_SECTORS => return Place::PrimaryTable,
            _ if number >= backup => return Place::BackupTable,
            _ if number == self.environment => return Place::Environment,
            _ if number == self.confirmed => return Place::ConfirmedRecord,
            _ if self.root.contains(&number) => return Place::Root,
            _ => {}
        }
        for (letter, usr) in ['a', 'b'].into_iter().zip(&self.usr) {
            if usr.contains(&number) {
                let record = usr.end.saturating_sub(SLOT_RECORD_SECTORS);
                return match number < record {
                    true => Place::Image(letter),
                    false => Place::SlotRecord(letter),
                };
            }
        }
        Place::Foreign
    }
}

fn partition(image: &Path, number: u32) -> Result<Range<u64>> {
    let (start, length) = host_hash::partition(image, number)?;
    Ok(start / SECTOR..(start + length) / SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_borders_belong_to_the_right_side() {
        let places = Places {
            sectors: 100_000,
            usr: [1000..20_000, 20_000..40_000],
            oem_config: 40_000..50_000,
            root: 60_000..90_000,
            flashed_root_end: 80_000,
            environment: 40_100,
            confirmed: 49_000,
        };
        for (number, place) in [
            (0, Place::Foreign),
            (1, Place::PrimaryTable),
            (33, Place::PrimaryTable),
            (34, Place::Foreign),
            (1000, Place::Image('a')),
            (11_807, Place::Image('a')),
            (11_808, Place::SlotRecord('a')),
            (19_999, Place::SlotRecord('a')),
            (20_000, Place::Image('b')),
            (40_000, Place::Foreign),
            (40_100, Place::Environment),
            (49_000, Place::ConfirmedRecord),
            (60_000, Place::Root),
            (90_000, Place::Foreign),
            (99_966, Place::Foreign),
            (99_967, Place::BackupTable),
            (99_999, Place::BackupTable),
        ] {
            assert_eq!(places.of_sector(number), place, "{number}");
        }
    }
}
