//! The GPT header: fields, checksum, and what a sane one says (UEFI 2.10, 5.3.2).

use super::fault::Fault;
use super::{ENTRY_SIZE, Guid, LbaRange, MAX_ENTRIES, MAX_SECTOR};
use crate::SectorSize;

/// What a header starts with.
pub const SIGNATURE: [u8; 8] = *b"EFI PART";
/// The only revision there is.
pub const REVISION: u32 = 0x0001_0000;
/// Length of the fields, in bytes; the checksum may cover more.
pub const MIN_HEADER_SIZE: u32 = 92;

/// Where the fields of a header lie, in bytes from its start.
pub mod field {
    use core::ops::Range;
    pub const SIGNATURE: Range<usize> = 0..8;
    pub const REVISION: usize = 8;
    pub const HEADER_SIZE: usize = 12;
    pub const HEADER_CRC: usize = 16;
    pub const MY_LBA: usize = 24;
    pub const ALTERNATE_LBA: usize = 32;
    pub const FIRST_USABLE: usize = 40;
    pub const LAST_USABLE: usize = 48;
    pub const DISK_GUID: Range<usize> = 56..72;
    pub const ENTRIES_LBA: usize = 72;
    pub const ENTRY_COUNT: usize = 80;
    pub const ENTRY_SIZE: usize = 84;
    pub const ENTRIES_CRC: usize = 88;
}

/// The sector that a header lies in; only the disk's sector size of it counts.
pub(super) type HeaderSector = [u8; MAX_SECTOR];

/// Which of the two copies a header claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Primary,
    Backup,
}

/// Where one copy lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub header_lba: u64,
    pub entries_lba: u64,
}

/// The fields of a header that passed every check, except those that are constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub header_size: usize,
    pub place: Place,
    pub alternate_lba: u64,
    pub usable: LbaRange,
    pub disk_guid: Guid,
    pub entry_count: u32,
    pub entries_crc: u32,
}

impl Header {
    /// Decodes and checks the header found at `lba` of a disk of `sector_count` sectors. Pure.
    pub fn check(
        sector: &HeaderSector,
        role: Role,
        lba: u64,
        sector_size: SectorSize,
        sector_count: u64,
    ) -> Result<Self, Fault> {
        if sector[field::SIGNATURE] != SIGNATURE {
            return Err(Fault::NoSignature { lba });
        }
        let revision = u32_at(sector, field::REVISION);
        if revision != REVISION {
            return Err(Fault::Revision { revision });
        }
        let size = u32_at(sector, field::HEADER_SIZE);
        let limit = sector_size.len();
        let header_size = usize::try_from(size).unwrap_or(usize::MAX);
        if size < MIN_HEADER_SIZE || header_size > limit {
            return Err(Fault::HeaderSize {
                size,
                sector: limit,
            });
        }
        let stored = u32_at(sector, field::HEADER_CRC);
        let computed = header_crc(sector, header_size);
        if stored != computed {
            return Err(Fault::HeaderCrc { stored, computed });
        }
        let claimed = u64_at(sector, field::MY_LBA);
        if claimed != lba {
            return Err(Fault::MyLba {
                claimed,
                found: lba,
            });
        }
        let entry_size = u32_at(sector, field::ENTRY_SIZE);
        if entry_size != ENTRY_SIZE {
            return Err(Fault::EntrySize { size: entry_size });
        }
        let entry_count = u32_at(sector, field::ENTRY_COUNT);
        if entry_count == 0 || entry_count > MAX_ENTRIES {
            return Err(Fault::EntryCount { count: entry_count });
        }
        let mut guid = [0; 16];
        guid.copy_from_slice(&sector[field::DISK_GUID]);
        let header = Self {
            header_size,
            place: Place {
                header_lba: lba,
                entries_lba: u64_at(sector, field::ENTRIES_LBA),
            },
            alternate_lba: u64_at(sector, field::ALTERNATE_LBA),
            usable: LbaRange {
                first: u64_at(sector, field::FIRST_USABLE),
                last: u64_at(sector, field::LAST_USABLE),
            },
            disk_guid: Guid(guid),
            entry_count,
            entries_crc: u32_at(sector, field::ENTRIES_CRC),
        };
        header.check_places(role, sector_size, sector_count)?;
        Ok(header)
    }

    /// The order that everything must have on the disk: primary header, primary entries, usable range, backup entries,
    /// backup header.
    pub fn check_places(
        &self,
        role: Role,
        sector_size: SectorSize,
        sector_count: u64,
    ) -> Result<(), Fault> {
        let LbaRange { first, last } = self.usable;
        if first > last || last >= sector_count {
            return Err(Fault::UsableRange {
                first,
                last,
                sectors: sector_count,
            });
        }
        let sectors = self.table_sectors(sector_size);
        let entries = self.place.entries_lba;
        let misplaced = Fault::EntriesPlace {
            lba: entries,
            sectors,
            first,
            last,
        };
        let end = entries.checked_add(sectors).ok_or(misplaced)?;
        let (fits, alternate_fits) = match role {
            Role::Primary => (entries >= 2 && end <= first, self.alternate_lba > last),
            Role::Backup => (
                entries > last && end <= self.place.header_lba,
                self.alternate_lba == 1,
            ),
        };
        // The place for the primary table, should it ever have to be rebuilt from this copy.
        if !fits || first < 2 + sectors {
            return Err(misplaced);
        }
        if !alternate_fits {
            return Err(Fault::AlternateLba {
                lba: self.alternate_lba,
                last,
            });
        }
        Ok(())
    }

    /// Length of the table in bytes: at most 16 KiB.
    pub fn table_len(&self) -> usize {
        // At most 128 entries, so neither can fail.
        usize::try_from(self.entry_count.saturating_mul(ENTRY_SIZE)).unwrap_or(0)
    }

    /// Length of the table in sectors, the last one perhaps not filled: at most 32.
    pub fn table_sectors(&self, sector_size: SectorSize) -> u64 {
        u64::from(self.entry_count.saturating_mul(ENTRY_SIZE)).div_ceil(sector_size.bytes())
    }

    /// The sector with these fields and a fresh checksum; bytes that no field covers are kept from `sector`.
    pub fn emit(&self, mut sector: HeaderSector) -> HeaderSector {
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(slot) = sector.get_mut(at..at + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
        };
        put(field::MY_LBA, &self.place.header_lba.to_le_bytes());
        put(field::ALTERNATE_LBA, &self.alternate_lba.to_le_bytes());
        put(field::FIRST_USABLE, &self.usable.first.to_le_bytes());
        put(field::LAST_USABLE, &self.usable.last.to_le_bytes());
        put(field::DISK_GUID.start, &self.disk_guid.0);
        put(field::ENTRIES_LBA, &self.place.entries_lba.to_le_bytes());
        put(field::ENTRIES_CRC, &self.entries_crc.to_le_bytes());
        let crc = header_crc(&sector, self.header_size);
        sector[field::HEADER_CRC..field::HEADER_CRC + 4].copy_from_slice(&crc.to_le_bytes());
        sector
    }
}

/// Two headers say the same, apart from where they lie and what follows from it.
pub(super) fn same_content(a: &HeaderSector, b: &HeaderSector, header_size: usize) -> bool {
    let placed = |at: usize| {
        matches!(at, 16..20 | 24..40) || (field::ENTRIES_LBA..field::ENTRY_COUNT).contains(&at)
    };
    a.iter()
        .zip(b)
        .take(header_size)
        .enumerate()
        .all(|(at, (x, y))| x == y || placed(at))
}

/// CRC-32 of the header with its own checksum taken as zero.
fn header_crc(sector: &HeaderSector, header_size: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sector[..field::HEADER_CRC]);
    hasher.update(&[0; 4]);
    hasher.update(
        sector
            .get(field::HEADER_CRC + 4..header_size)
            .unwrap_or_default(),
    );
    hasher.finalize()
}

/// Little-endian number at a constant offset below 4088.
fn u32_at(sector: &HeaderSector, at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&sector[at..at + 4]);
    u32::from_le_bytes(bytes)
}

/// Little-endian number at a constant offset below 4088.
fn u64_at(sector: &HeaderSector, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&sector[at..at + 8]);
    u64::from_le_bytes(bytes)
}
