//! Partition entries: view, checks, edits in place (UEFI 2.10, 5.3.3).

use core::fmt;

use super::fault::Fault;
use super::{Guid, LbaRange, MAX_TABLE};

pub(super) const ENTRY_LEN: usize = 128;

/// Where the fields of an entry lie, in bytes from its start.
pub mod field {
    use core::ops::Range;
    pub const TYPE: Range<usize> = 0..16;
    pub const UNIQUE: Range<usize> = 16..32;
    pub const FIRST: Range<usize> = 32..40;
    pub const LAST: Range<usize> = 40..48;
    pub const ATTRIBUTES: Range<usize> = 48..56;
    pub const NAME: Range<usize> = 56..128;
}

/// The entries of one copy, in whole sectors as they lie on the disk.
pub(super) type Table = [u8; MAX_TABLE];

/// One entry as it lies in the table.
pub(super) type RawEntry = [u8; ENTRY_LEN];

/// A partition, as its entry in the table describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Position in the table, counted from 1.
    pub number: u32,
    pub type_guid: Guid,
    /// PARTUUID.
    pub unique_guid: Guid,
    pub first_lba: u64,
    /// The last sector that belongs to it.
    pub last_lba: u64,
    pub attributes: u64,
    pub name: Name,
}

impl Partition {
    /// The sectors that belong to it.
    #[must_use]
    pub const fn range(&self) -> LbaRange {
        LbaRange {
            first: self.first_lba,
            last: self.last_lba,
        }
    }

    /// `None` for an unused entry.
    pub(super) fn parse(number: u32, entry: &RawEntry) -> Option<Self> {
        let type_guid = guid(entry, field::TYPE.start);
        if type_guid == Guid::ZERO {
            return None;
        }
        Some(Self {
            number,
            type_guid,
            unique_guid: guid(entry, field::UNIQUE.start),
            first_lba: number_at(entry, field::FIRST.start),
            last_lba: number_at(entry, field::LAST.start),
            attributes: number_at(entry, field::ATTRIBUTES.start),
            name: Name::parse(entry),
        })
    }
}

/// Name of a partition: up to 36 UTF-16 units, kept as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u16; 36]);

impl Name {
    fn parse(entry: &RawEntry) -> Self {
        let mut units = [0; 36];
        let (pairs, _) = entry[field::NAME].as_chunks::<2>();
        for (unit, pair) in units.iter_mut().zip(pairs) {
            *unit = u16::from_le_bytes(*pair);
        }
        Self(units)
    }

    /// The units before the first zero.
    pub fn units(&self) -> impl Iterator<Item = u16> {
        self.0.into_iter().take_while(|&unit| unit != 0)
    }
}

impl fmt::Display for Name {
    /// Text up to the first zero; what isn't Unicode, or would disturb a terminal, as U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for decoded in char::decode_utf16(self.units()) {
            let shown = decoded.ok().filter(|c| !c.is_control());
            write!(f, "{}", shown.unwrap_or(char::REPLACEMENT_CHARACTER))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Every used entry of the first `table_len` bytes.
pub(super) fn partitions(table: &Table, table_len: usize) -> impl Iterator<Item = Partition> + '_ {
    let (entries, _) = table
        .get(..table_len)
        .unwrap_or_default()
        .as_chunks::<ENTRY_LEN>();
    (1_u32..)
        .zip(entries)
        .filter_map(|(number, entry)| Partition::parse(number, entry))
}

/// Checks every used entry: within the usable range, not inverted, no overlap, no GUID twice. Pure.
pub(super) fn check(table: &Table, table_len: usize, usable: LbaRange) -> Result<(), Fault> {
    for this in partitions(table, table_len) {
        let Partition {
            number,
            first_lba: first,
            last_lba: last,
            ..
        } = this;
        if first > last || first < usable.first || last > usable.last {
            return Err(Fault::PartitionRange {
                number,
                first,
                last,
                usable_first: usable.first,
                usable_last: usable.last,
            });
        }
        for earlier in partitions(table, table_len).take_while(|p| p.number < number) {
            if earlier.first_lba <= last && first <= earlier.last_lba {
                let lba = first.max(earlier.first_lba);
                return Err(Fault::Overlap {
                    first: earlier.number,
                    second: number,
                    lba,
                });
            }
            if earlier.unique_guid == this.unique_guid {
                return Err(Fault::DuplicateGuid {
                    first: earlier.number,
                    second: number,
                    guid: this.unique_guid,
                });
            }
        }
    }
    Ok(())
}

/// CRC-32 of the first `table_len` bytes.
pub(super) fn crc(table: &Table, table_len: usize) -> u32 {
    crc32fast::hash(table.get(..table_len).unwrap_or_default())
}

/// `at` is one of the constant offsets above.
fn guid(entry: &RawEntry, at: usize) -> Guid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&entry[at..at + 16]);
    Guid(bytes)
}

/// `at` is one of the constant offsets above.
fn number_at(entry: &RawEntry, at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&entry[at..at + 8]);
    u64::from_le_bytes(bytes)
}
