//! What only a disk's own boots do: UUIDs of its own at the first, ROOT to the end of the disk at every one.

use heapless::Vec;

use super::{Control, ControlError};
use crate::BlockIo;
use crate::gpt::{Guid, ROOT};

/// ROOT ends on a multiple of this many bytes.
const GROWTH_STEP: u64 = 1024 * 1024;

impl<B: BlockIo> Control<B> {
    /// Gives the disk and each of its partitions a GUID of its own if it still has those of the image that it was
    /// written from: the table first, then the confirmed record, which after that is no longer fresh. `false` if the
    /// disk is not fresh; nothing is written then. After a cut between the two it simply happens again.
    ///
    /// # Errors
    /// I/O.
    pub fn first_boot(
        &mut self,
        mut new_guid: impl FnMut() -> Guid,
    ) -> Result<bool, ControlError<B::Error>> {
        self.reload()?;
        let Some(record) = self.read_confirmed().ok().filter(|record| record.fresh) else {
            return Ok(false);
        };
        self.gpt.set_disk_guid(new_guid());
        let numbers: Vec<u32, 128> = self.gpt.partitions().map(|p| p.number).collect();
        for number in numbers {
            self.gpt.set_unique_guid(number, new_guid())?;
        }
        self.gpt.commit(&mut self.io)?;
        let record = self.record_for(record.slot, false)?;
        self.write_confirmed(&record)?;
        Ok(true)
    }

    /// Lets ROOT, if it is the last partition, reach the end of the disk, and moves the backup table there. `false`
    /// when both are there already; nothing is written then. A lost confirmed record is mended first.
    ///
    /// # Errors
    /// ROOT is missing or not the last partition; I/O.
    pub fn grow_root(&mut self) -> Result<bool, ControlError<B::Error>> {
        self.reload()?;
        self.gpt.relocate_backup()?;
        let step = GROWTH_STEP / self.gpt.sector_size().bytes();
        let end = self.gpt.usable().last.saturating_add(1);
        let last = (end - end % step).saturating_sub(1);
        let now = self.gpt.partition(ROOT).map_or(last, |root| root.last_lba);
        if now < last {
            self.gpt.grow_last(ROOT, last)?;
        }
        self.record_before_table()?;
        Ok(self.gpt.commit(&mut self.io)?)
    }
}
