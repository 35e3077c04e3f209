//! Changes to a table in memory. None of them touches the disk.

use super::entry::field;
use super::fault::EditError;
use super::{Gpt, Guid};
use crate::{BootState, Slot};

impl Gpt {
    /// Sets the boot attributes in the entries of USR-A and USR-B; every other bit of theirs is kept.
    ///
    /// # Errors
    /// One of them does not exist, or is not of the USR type; nothing is changed then.
    pub fn set_boot_state(&mut self, state: BootState) -> Result<(), EditError> {
        let words = [self.usr(Slot::A)?.attributes, self.usr(Slot::B)?.attributes];
        for (slot, word) in Slot::ALL.into_iter().zip(words) {
            let entry = self.raw_entry_mut(slot.partition_number())?;
            let word = state.get(slot).into_gpt(word);
            entry[field::ATTRIBUTES].copy_from_slice(&word.to_le_bytes());
        }
        Ok(())
    }

    /// Gives the disk another GUID.
    pub fn set_disk_guid(&mut self, guid: Guid) {
        self.header.disk_guid = guid;
    }

    /// Gives a partition another PARTUUID.
    ///
    /// # Errors
    /// There is no such partition. A GUID that another partition carries is refused by the commit.
    pub fn set_unique_guid(&mut self, number: u32, guid: Guid) -> Result<(), EditError> {
        self.raw_entry_mut(number)?[field::UNIQUE].copy_from_slice(&guid.0);
        Ok(())
    }

    /// Moves the end of the partition that lies last on the disk to `last_lba`. After
    /// [`relocate_backup`](Self::relocate_backup) the highest possible value is the end of [`usable`](Self::usable).
    ///
    /// # Errors
    /// There is no such partition, another one lies behind it, or the new end is not within its present end and the
    /// last usable sector.
    pub fn grow_last(&mut self, number: u32, last_lba: u64) -> Result<(), EditError> {
        let this = self
            .partition(number)
            .ok_or(EditError::NoPartition { number })?;
        if let Some(behind) = self.partitions().find(|p| p.first_lba > this.first_lba) {
            return Err(EditError::NotLast {
                number,
                follows: behind.number,
            });
        }
        let usable = self.header.usable.last;
        if last_lba < this.last_lba || last_lba > usable {
            return Err(EditError::Grow {
                number,
                first: this.first_lba,
                now: this.last_lba,
                last: last_lba,
                usable,
            });
        }
        self.raw_entry_mut(number)?[field::LAST].copy_from_slice(&last_lba.to_le_bytes());
        Ok(())
    }

    /// Extends the usable range to the end of a disk that is larger than its table says, or shortens it on one that is
    /// smaller, so that the backup fits into the last sectors, where the next commit puts it. A commit does this by
    /// itself; call it before [`grow_last`](Self::grow_last). Returns whether anything changed.
    ///
    /// # Errors
    /// A partition lies where the backup has to be.
    pub fn relocate_backup(&mut self) -> Result<bool, EditError> {
        let sectors = self.sector_count;
        let table = self.header.table_sectors(self.sector_size);
        // The backup takes its table and one sector for the header.
        let too_small = EditError::DiskTooSmall { sectors };
        let limit = sectors.checked_sub(table + 2).ok_or(too_small)?;
        if self.backup_at_end() && self.header.usable.last <= limit {
            return Ok(false);
        }
        if limit < self.header.usable.first {
            return Err(too_small);
        }
        if let Some(p) = self.partitions().find(|p| p.last_lba > limit) {
            let (number, last) = (p.number, p.last_lba);
            return Err(EditError::BackupDoesNotFit {
                number,
                last,
                sectors,
            });
        }
        let changed = self.header.usable.last != limit;
        self.header.usable.last = limit;
        Ok(changed)
    }
}
