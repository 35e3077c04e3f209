//! What can be wrong with a partition table, and with what is asked of one.

use super::Guid;

/// Why one copy of the table can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("the disk has {sectors} sectors, too few for a partition table")]
    DiskTooSmall { sectors: u64 },
    #[error("header at sector {lba} lies outside the disk of {sectors} sectors")]
    OutsideDisk { lba: u64, sectors: u64 },
    #[error("sector {lba} can't be read")]
    Unreadable { lba: u64 },
    #[error("no signature at sector {lba}")]
    NoSignature { lba: u64 },
    #[error("revision {revision:#010x} instead of 0x00010000")]
    Revision { revision: u32 },
    #[error("header size {size} is not within 92 and {sector}")]
    HeaderSize { size: u32, sector: usize },
    #[error("header checksum is {stored:08x}, computed {computed:08x}")]
    HeaderCrc { stored: u32, computed: u32 },
    #[error("header at sector {found} claims to be at {claimed}")]
    MyLba { claimed: u64, found: u64 },
    #[error("alternate header at sector {lba} does not fit a last usable sector {last}")]
    AlternateLba { lba: u64, last: u64 },
    #[error("entry size {size} instead of 128")]
    EntrySize { size: u32 },
    #[error("{count} entries, not within 1 and 128")]
    EntryCount { count: u32 },
    #[error("usable sectors {first} to {last} on a disk of {sectors} sectors")]
    UsableRange { first: u64, last: u64, sectors: u64 },
    #[error("{sectors} sectors of entries at {lba} collide with usable sectors {first} to {last}")]
    EntriesPlace {
        lba: u64,
        sectors: u64,
        first: u64,
        last: u64,
    },
    #[error("checksum of the entries is {stored:08x}, computed {computed:08x}")]
    EntriesCrc { stored: u32, computed: u32 },
    #[error(
        "partition {number} from sector {first} to {last} leaves usable sectors {usable_first} to {usable_last}"
    )]
    PartitionRange {
        number: u32,
        first: u64,
        last: u64,
        usable_first: u64,
        usable_last: u64,
    },
    #[error("partitions {first} and {second} overlap at sector {lba}")]
    Overlap { first: u32, second: u32, lba: u64 },
    #[error("partitions {first} and {second} carry the same GUID {guid}")]
    DuplicateGuid { first: u32, second: u32, guid: Guid },
}

/// Why a valid table can't be changed as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    #[error("partition {number} does not exist")]
    NoPartition { number: u32 },
    #[error("partition {number} has type {found}, not the USR type")]
    NotUsr { number: u32, found: Guid },
    #[error(
        "partition {number} can't end at sector {last}: it starts at {first} and now ends at {now}, and the last usable sector is {usable}"
    )]
    Grow {
        number: u32,
        first: u64,
        now: u64,
        last: u64,
        usable: u64,
    },
    #[error("partition {number} can't grow: partition {follows} lies behind it")]
    NotLast { number: u32, follows: u32 },
    #[error(
        "partition {number} ends at sector {last}, where the backup table of a disk of {sectors} sectors has to be"
    )]
    BackupDoesNotFit {
        number: u32,
        last: u64,
        sectors: u64,
    },
    #[error("a disk of {sectors} sectors is too small for this table")]
    DiskTooSmall { sectors: u64 },
    #[error("the change would make an invalid table: {0}")]
    Invalid(Fault),
    #[error("the table must be read again after a failed commit")]
    MustReread,
    #[error("the disk has {found} sectors, not the {read} it had when its table was read")]
    DiskChanged { read: u64, found: u64 },
}

/// Why a partition table can't be read or committed. `E` is the disk's own error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GptError<E> {
    #[error("no valid partition table: primary: {primary}; backup: {backup}")]
    NoValidCopy { primary: Fault, backup: Fault },
    #[error("{0}")]
    Edit(EditError),
    #[error("{0}")]
    Io(E),
}

impl<E> From<EditError> for GptError<E> {
    fn from(error: EditError) -> Self {
        Self::Edit(error)
    }
}
