//! Block tables: one entry of 80 bytes for each block of an artifact.
//!
//! ```text
//! 0   32  BLAKE3 of the block
//! 32  32  BLAKE3 of the stored bytes
//! 64  1   kind: 0 zeros, 1 raw, 2 one zstd frame (3 and 4 are reserved for deltas)
//! 65  3   zero
//! 68  4   stored length, u32
//! 72  8   source offset, u64: zero for kinds 0 to 2
//! ```
//! Numbers are little-endian.

use crate::Digest;
use crate::manifest::Artifact;

/// Length of an entry, in bytes.
pub const ENTRY_LEN: usize = 80;

mod field {
    use core::ops::Range;

    pub const BLOCK: Range<usize> = 0..32;
    pub const STORED: Range<usize> = 32..64;
    pub const KIND: usize = 64;
    pub const ZERO: Range<usize> = 65..68;
    pub const STORED_LEN: Range<usize> = 68..72;
    pub const SOURCE: Range<usize> = 72..80;
}

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All zeros, nothing stored.
    Zero,
    /// As it is.
    Raw,
    /// One zstd frame, shorter than the block.
    Zstd,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::Raw => 1,
            Self::Zstd => 2,
        }
    }
}

/// Why an entry is not acceptable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("its kind {0} is unknown to this program")]
    Kind(u8),
    #[error("its padding is not zero")]
    Padding,
    #[error("its stored length of {stored} does not fit its kind and the block's {block} bytes")]
    StoredLength { stored: u32, block: u32 },
    #[error("it has a source offset, which its kind does not")]
    SourceOffset,
    #[error("its hash of the stored bytes contradicts its kind")]
    StoredHash,
}

/// One block, within the rules of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    block: Digest,
    stored: Digest,
    kind: Kind,
    stored_len: u32,
}

impl Entry {
    /// A block of zeros whose hash is `block`.
    #[must_use]
    pub fn zero(block: Digest) -> Self {
        Self {
            block,
            stored: Digest::of(b""),
            kind: Kind::Zero,
            stored_len: 0,
        }
    }

    /// A block of `len` bytes stored as it is.
    #[must_use]
    pub fn raw(block: Digest, len: u32) -> Self {
        Self {
            block,
            stored: block,
            kind: Kind::Raw,
            stored_len: len,
        }
    }

    /// A block stored as a zstd frame of `stored_len` bytes with the hash `stored`.
    #[must_use]
    pub fn zstd(block: Digest, stored: Digest, stored_len: u32) -> Self {
        Self {
            block,
            stored,
            kind: Kind::Zstd,
            stored_len,
        }
    }

    /// Decodes the entry of a block of `block_len` bytes.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(bytes: &[u8; ENTRY_LEN], block_len: u32) -> Result<Self, EntryError> {
        let kind = match bytes[field::KIND] {
            0 => Kind::Zero,
            1 => Kind::Raw,
            2 => Kind::Zstd,
            other => return Err(EntryError::Kind(other)),
        };
        if bytes[field::ZERO] != [0; 3] {
            return Err(EntryError::Padding);
        }
        if bytes[field::SOURCE] != [0; 8] {
            return Err(EntryError::SourceOffset);
        }
        let digest = |range| {
            let bytes: &[u8] = &bytes[range];
            Digest(bytes.try_into().unwrap_or_default())
        };
        let mut stored_len = [0; 4];
        stored_len.copy_from_slice(&bytes[field::STORED_LEN]);
        let entry = Self {
            block: digest(field::BLOCK),
            stored: digest(field::STORED),
            kind,
            stored_len: u32::from_le_bytes(stored_len),
        };
        entry.check(block_len)?;
        Ok(entry)
    }

    fn check(&self, block_len: u32) -> Result<(), EntryError> {
        let (length, hash) = match self.kind {
            Kind::Zero => (self.stored_len == 0, self.stored == Digest::of(b"")),
            Kind::Raw => (self.stored_len == block_len, self.stored == self.block),
            Kind::Zstd => ((1..block_len).contains(&self.stored_len), true),
        };
        if !length {
            return Err(EntryError::StoredLength {
                stored: self.stored_len,
                block: block_len,
            });
        }
        if !hash {
            return Err(EntryError::StoredHash);
        }
        Ok(())
    }

    /// The 80 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[field::BLOCK].copy_from_slice(&self.block.0);
        bytes[field::STORED].copy_from_slice(&self.stored.0);
        bytes[field::KIND] = self.kind.code();
        bytes[field::STORED_LEN].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes
    }

    /// BLAKE3 of the block.
    #[must_use]
    pub fn block(&self) -> Digest {
        self.block
    }

    /// BLAKE3 of the stored bytes.
    #[must_use]
    pub fn stored(&self) -> Digest {
        self.stored
    }

    /// How the block is stored.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many bytes are stored; less than a block, or exactly one where it is raw.
    #[must_use]
    pub fn stored_len(&self) -> u32 {
        self.stored_len
    }
}

/// Why a table is not the one that the manifest vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("the block table is {have} bytes long, not {need}")]
    Length { have: u64, need: u64 },
    #[error("the block table's hash is {found}, the manifest says {expected}")]
    Hash { found: Digest, expected: Digest },
    #[error("block {block} of the table: {error}")]
    Entry { block: u64, error: EntryError },
}

/// The blocks of one artifact, every entry within the rules.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    bytes: &'a [u8],
    size: u64,
    block_size: u32,
}

impl<'a> Table<'a> {
    /// Holds `bytes` to the manifest's hash first and then every entry to the rules.
    ///
    /// # Errors
    /// The first that fails.
    pub fn parse(artifact: &Artifact, bytes: &'a [u8]) -> Result<Self, TableError> {
        let (have, need) = (bytes.len() as u64, artifact.table_len());
        if have != need {
            return Err(TableError::Length { have, need });
        }
        let (found, expected) = (Digest::of(bytes), artifact.table);
        if found != expected {
            return Err(TableError::Hash { found, expected });
        }
        let (entries, _) = bytes.as_chunks();
        for (block, entry) in (0..).zip(entries) {
            Entry::parse(entry, artifact.block_len(block))
                .map_err(|error| TableError::Entry { block, error })?;
        }
        Ok(Self {
            bytes,
            size: artifact.size,
            block_size: artifact.block_size,
        })
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        (self.bytes.len() / ENTRY_LEN) as u64
    }

    /// Size of the image in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Size of every block but the last, in bytes.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Block `index`, counted from 0.
    #[must_use]
    pub fn block(&self, index: u64) -> Option<Block> {
        let (entries, _) = self.bytes.as_chunks();
        let entry = entries.get(usize::try_from(index).ok()?)?;
        let offset = index.checked_mul(u64::from(self.block_size))?;
        let rest = self.size.checked_sub(offset)?;
        let len = u32::try_from(rest).map_or(self.block_size, |rest| rest.min(self.block_size));
        let entry = Entry::parse(entry, len).ok()?;
        Some(Block {
            index,
            offset,
            len,
            entry,
        })
    }

    /// All blocks in order.
    pub fn iter(&self) -> impl Iterator<Item = Block> + use<'a> {
        let table = *self;
        (0..table.blocks()).map_while(move |index| table.block(index))
    }

    /// Length of everything stored in bytes.
    #[must_use]
    pub fn stored_total(&self) -> u64 {
        self.stored_before(self.blocks())
    }

    /// Length of what is stored for the blocks before `index`, in bytes.
    #[must_use]
    pub fn stored_before(&self, index: u64) -> u64 {
        let before = self.iter().take_while(|block| block.index < index);
        before.fold(0, |sum: u64, block| {
            sum.saturating_add(u64::from(block.entry.stored_len))
        })
    }
}

/// One block of an artifact: where it goes and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Counted from 0.
    pub index: u64,
    /// Where it starts in the image, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// How it is stored, and its hashes.
    pub entry: Entry,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn artifact(size: u64, table: &[u8]) -> Artifact {
        Artifact {
            name: "usr".parse().unwrap(),
            size,
            block_size: 4096,
            table: Digest::of(table),
            content: Digest::default(),
        }
    }

    #[test]
    fn literal_entry() {
        let mut bytes = [0; 80];
        bytes[..32].fill(0xaa);
        bytes[32..64].fill(0xbb);
        bytes[64] = 2;
        bytes[68..72].copy_from_slice(&[0x34, 0x12, 0, 0]);
        let entry = Entry::parse(&bytes, 8192).unwrap();
        assert_eq!(
            entry,
            Entry::zstd(Digest([0xaa; 32]), Digest([0xbb; 32]), 0x1234)
        );
        assert_eq!(entry.to_bytes(), bytes);
    }

    #[test]
    fn each_kind_has_its_rules() {
        let (x, y) = (Digest([1; 32]), Digest([2; 32]));
        let check = |entry: Entry| Entry::parse(&entry.to_bytes(), 4096);
        for good in [
            Entry::zero(x),
            Entry::raw(x, 4096),
            Entry::zstd(x, y, 1),
            Entry::zstd(x, y, 4095),
        ] {
            assert_eq!(check(good), Ok(good));
        }
        let length = |stored| {
            Err(EntryError::StoredLength {
                stored,
                block: 4096,
            })
        };
        assert_eq!(check(Entry::raw(x, 4095)), length(4095));
        assert_eq!(check(Entry::zstd(x, y, 4096)), length(4096));
        assert_eq!(check(Entry::zstd(x, y, 0)), length(0));
        assert_eq!(check(Entry::zstd(x, y, u32::MAX)), length(u32::MAX));
        assert_eq!(
            check(Entry {
                stored_len: 1,
                ..Entry::zero(x)
            }),
            length(1)
        );
        assert_eq!(
            check(Entry {
                stored: x,
                ..Entry::zero(x)
            }),
            Err(EntryError::StoredHash)
        );
        assert_eq!(
            check(Entry {
                stored: y,
                ..Entry::raw(x, 4096)
            }),
            Err(EntryError::StoredHash)
        );
        let with = |at: usize, byte: u8| {
            let mut bytes = Entry::raw(x, 4096).to_bytes();
            bytes[at] = byte;
            Entry::parse(&bytes, 4096)
        };
        assert_eq!(with(64, 3), Err(EntryError::Kind(3)));
        assert_eq!(with(64, 4), Err(EntryError::Kind(4)));
        assert_eq!(with(64, 255), Err(EntryError::Kind(255)));
        for at in 65..68 {
            assert_eq!(with(at, 1), Err(EntryError::Padding));
        }
        for at in 72..80 {
            assert_eq!(with(at, 1), Err(EntryError::SourceOffset));
        }
    }

    #[test]
    fn a_table_is_held_to_its_hash_before_its_entries() {
        let entries = [
            Entry::raw(Digest([1; 32]), 4096),
            Entry::zero(Digest([2; 32])),
        ];
        let bytes: Vec<u8> = entries.iter().flat_map(Entry::to_bytes).collect();
        let good = artifact(8192, &bytes);
        let table = Table::parse(&good, &bytes).unwrap();
        assert_eq!((table.blocks(), table.stored_total()), (2, 4096));
        assert_eq!(table.block(1).unwrap().offset, 4096);
        assert_eq!(table.block(1).unwrap().entry, entries[1]);
        assert_eq!(table.block(2), None);

        assert_eq!(
            Table::parse(&good, &bytes[..80]).unwrap_err(),
            TableError::Length {
                have: 80,
                need: 160
            }
        );
        let mut bad = bytes.clone();
        bad[144] = 9;
        assert!(matches!(
            Table::parse(&good, &bad),
            Err(TableError::Hash { .. })
        ));
        assert_eq!(
            Table::parse(&artifact(8192, &bad), &bad).unwrap_err(),
            TableError::Entry {
                block: 1,
                error: EntryError::Kind(9)
            }
        );
    }

    proptest! {
        #[test]
        fn entries_round_trip_or_are_refused(bytes: [u8; 32], more: [u8; 32], tail: [u8; 16], block_len: u32) {
            let mut entry = [0; ENTRY_LEN];
            entry[..32].copy_from_slice(&bytes);
            entry[32..64].copy_from_slice(&more);
            entry[64..].copy_from_slice(&tail);
            if let Ok(parsed) = Entry::parse(&entry, block_len) {
                prop_assert_eq!(parsed.to_bytes(), entry);
            }
        }

        #[test]
        fn hostile_tables_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), size: u64) {
            let artifact = artifact(size, &bytes);
            if let Ok(table) = Table::parse(&artifact, &bytes) {
                prop_assert_eq!(table.iter().count() as u64, table.blocks());
            }
        }
    }
}
