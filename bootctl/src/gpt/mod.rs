//! The GUID partition table: both copies read and checked, edited as one, committed in a safe order.
//!
//! Nothing here trusts a disk: a copy counts only after every check of [`Fault`] has passed, lengths are bounded before
//! anything is read, and no checksum is computed over bytes that were not checked first. Everything that is not ours
//! survives a commit: other attribute bits, other entries, bytes that no field covers, sector 0.
//!
//! Format: UEFI specification 2.10, chapter 5.3. Entries are 128 bytes, at most 128 of them, as every tool makes them;
//! other tables are refused.

mod commit;
mod edit;
mod entry;
mod fault;
mod guid;
mod header;
mod read;
#[cfg(test)]
pub(crate) mod tests;

pub use commit::{CommitPlan, Step};
pub use entry::{Name, Partition};
pub use fault::{EditError, Fault, GptError};
pub use guid::{Guid, NotAGuid};

use self::entry::{RawEntry, Table};
use self::format::{ENTRY_SIZE, MAX_ENTRIES};
use self::header::{Header, HeaderSector, Place};
use crate::{Attributes, BootState, SectorSize, Slot};

/// The format itself, for the loader scripts that read and write a table without this library.
pub mod format {
    pub use super::entry::field as entry;
    pub use super::header::field as header;
    pub use super::header::{MIN_HEADER_SIZE, REVISION, SIGNATURE};

    /// Length of an entry, in bytes.
    pub const ENTRY_SIZE: u32 = 128;
    /// The largest number of entries that is accepted.
    pub const MAX_ENTRIES: u32 = 128;
}

const MAX_SECTOR: usize = 4096;
const MAX_TABLE: usize = 128 * 128;

/// Type of USR-A and USR-B; boot attributes mean something on this type only (Flatcar).
pub const TYPE_USR: Guid = Guid::from_u128(0x5dfbf5f4_2848_4bac_aa5e_0d9a20b745a6);
/// Type of ROOT: a partition that grows to the end of the disk (Flatcar).
pub const TYPE_RESIZE: Guid = Guid::from_u128(0x3884dd41_8582_4404_b9a8_e9b84f2df50e);
/// Type of OEM-CONFIG (Flatcar's "reserved").
pub const TYPE_OEM_CONFIG: Guid = Guid::from_u128(0xc95dc21a_df0e_4340_8d7b_26cbfa9a03e0);
/// Type of the EFI system partition (UEFI).
pub const TYPE_ESP: Guid = Guid::from_u128(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
/// Type of the partition that holds GRUB's core image on BIOS machines.
pub const TYPE_BIOS_BOOT: Guid = Guid::from_u128(0x21686148_6449_6e6f_744e_656564454649);
/// Type of a Linux filesystem: OEM.
pub const TYPE_LINUX: Guid = Guid::from_u128(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

/// Partition number of EFI-SYSTEM.
pub const EFI_SYSTEM: u32 = 1;
/// Partition number of BIOS-BOOT.
pub const BIOS_BOOT: u32 = 2;
/// Partition number of USR-A.
pub const USR_A: u32 = 3;
/// Partition number of USR-B.
pub const USR_B: u32 = 4;
/// Partition number of OEM.
pub const OEM: u32 = 6;
/// Partition number of OEM-CONFIG.
pub const OEM_CONFIG: u32 = 7;
/// Partition number of ROOT.
pub const ROOT: u32 = 9;

/// An inclusive range of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LbaRange {
    pub first: u64,
    pub last: u64,
}

impl LbaRange {
    /// Number of sectors; 0 for an inverted range, which a valid table does not hold.
    #[must_use]
    pub const fn sectors(self) -> u64 {
        match self.last.checked_sub(self.first) {
            Some(beyond_first) => beyond_first.saturating_add(1),
            None => 0,
        }
    }
}

/// What was found where the two copies should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Both are valid and say the same.
    Both,
    /// The backup is missing or damaged; the next commit rebuilds it.
    PrimaryOnly,
    /// The primary is missing or damaged; the next commit rebuilds it.
    BackupOnly,
    /// Both are valid, but not the same: the primary counts, and the next commit makes the backup follow.
    Differ,
}

/// What one copy's place on the disk holds.
struct DiskCopy {
    place: Place,
    header: HeaderSector,
    entries: Table,
    /// The header's fields, where the header itself passed every check.
    checked: Option<Header>,
    /// `header` was read from `place`.
    header_known: bool,
    /// `entries` were read from `place`.
    entries_known: bool,
    /// Why the copy as a whole doesn't count; `None` for a good one.
    fault: Option<Fault>,
}

/// A partition table that passed every check, and the state of its two copies on the disk.
///
/// Holds about 60 KiB. Nothing but [`read`](Self::read) and [`commit`](Self::commit) touches the disk.
pub struct Gpt {
    sector_size: SectorSize,
    sector_count: u64,
    /// The table as it should be; its place is not used.
    header: Header,
    /// The header sector of the copy that counted, for the bytes that no field covers.
    raw: HeaderSector,
    /// The entries as they should be.
    entries: Table,
    primary: DiskCopy,
    backup: DiskCopy,
    copies: Copies,
    /// A commit failed: what the disk holds is unknown.
    must_reread: bool,
}

impl core::fmt::Debug for Gpt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Gpt")
            .field("sector_size", &self.sector_size)
            .field("sector_count", &self.sector_count)
            .field("header", &self.header)
            .field("copies", &self.copies)
            .finish_non_exhaustive()
    }
}

impl Gpt {
    /// Logical sector size of the disk.
    #[must_use]
    pub const fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// Size of the disk in sectors.
    #[must_use]
    pub const fn sector_count(&self) -> u64 {
        self.sector_count
    }

    /// State of the two copies on the disk.
    #[must_use]
    pub const fn copies(&self) -> Copies {
        self.copies
    }

    /// What is wrong with the primary copy on the disk.
    #[must_use]
    pub const fn primary_fault(&self) -> Option<Fault> {
        self.primary.fault
    }

    /// What is wrong with the backup copy on the disk.
    #[must_use]
    pub const fn backup_fault(&self) -> Option<Fault> {
        self.backup.fault
    }

    /// The backup's place on the disk is the last sector. It isn't after an image was copied to a larger disk.
    #[must_use]
    pub const fn backup_at_end(&self) -> bool {
        self.backup.place.header_lba == self.sector_count.saturating_sub(1)
    }

    /// Where the backup's header is, or should be.
    #[must_use]
    pub const fn backup_lba(&self) -> u64 {
        self.backup.place.header_lba
    }

    /// A commit would write something even though nothing was changed: a copy is damaged or different, or the backup
    /// is not at the end.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.copies != Copies::Both || !self.backup_at_end()
    }

    /// GUID of the disk.
    #[must_use]
    pub const fn disk_guid(&self) -> Guid {
        self.header.disk_guid
    }

    /// The sectors that partitions may use.
    #[must_use]
    pub const fn usable(&self) -> LbaRange {
        self.header.usable
    }

    /// Number of entries in the table, used or not: 1–128.
    #[must_use]
    pub const fn entry_count(&self) -> u32 {
        self.header.entry_count
    }

    /// Every partition, in table order.
    pub fn partitions(&self) -> impl Iterator<Item = Partition> + '_ {
        entry::partitions(&self.entries, self.header.table_len())
    }

    /// The partition with this number, counted from 1.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<Partition> {
        self.raw_entry(number)
            .and_then(|entry| Partition::parse(number, entry))
    }

    /// The boot attributes that the entries of USR-A and USR-B hold.
    ///
    /// # Errors
    /// One of them does not exist, or is not of the USR type, on which alone the bits mean this.
    pub fn boot_state(&self) -> Result<BootState, EditError> {
        let attributes = |slot| self.usr(slot).map(|p| Attributes::from_gpt(p.attributes));
        Ok(BootState {
            a: attributes(Slot::A)?,
            b: attributes(Slot::B)?,
        })
    }

    /// The USR partition of a slot.
    ///
    /// # Errors
    /// It does not exist, or is not of the USR type.
    pub fn usr(&self, slot: Slot) -> Result<Partition, EditError> {
        let number = slot.partition_number();
        let partition = self
            .partition(number)
            .ok_or(EditError::NoPartition { number })?;
        if partition.type_guid == TYPE_USR {
            Ok(partition)
        } else {
            Err(EditError::NotUsr {
                number,
                found: partition.type_guid,
            })
        }
    }

    fn raw_entry(&self, number: u32) -> Option<&RawEntry> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        let (entries, _) = self.entries.get(..self.header.table_len())?.as_chunks();
        entries.get(at)
    }

    fn raw_entry_mut(&mut self, number: u32) -> Result<&mut RawEntry, EditError> {
        let missing = EditError::NoPartition { number };
        self.partition(number).ok_or(missing)?;
        let at = usize::try_from(number.saturating_sub(1)).map_err(|_| missing)?;
        let (entries, _) = self.entries.as_chunks_mut();
        entries.get_mut(at).ok_or(missing)
    }
}
