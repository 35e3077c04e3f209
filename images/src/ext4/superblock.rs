//! What a super block says about an image, and which images a board's loader and kernel can boot from.
//!
//! Field offsets: Linux kernel documentation, "ext4 Data Structures and Algorithms", chapter "Super Block".

use std::fmt;

/// Where the super block starts in the file system, in bytes.
pub const OFFSET: u64 = 1024;
/// Its length in bytes.
pub const LEN: usize = 1024;

/// Why an ext4 image is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not an ext4 file system")]
    NotExt4,
    #[error("blocks of {0} bytes instead of 4096")]
    BlockSize(u64),
    #[error("feature {0} is not allowed")]
    Feature(&'static str),
    #[error("unknown features {0:#x}")]
    Unknown(u32),
    #[error("{0}")]
    Unclean(&'static str),
    #[error("the file system has {needed} bytes, the image {given}")]
    CutShort { needed: u64, given: u64 },
    #[error("the super block's checksum is wrong")]
    Checksum,
}

/// The fields that decide.
#[derive(Clone, Copy)]
pub struct Superblock<'a>(&'a [u8; LEN]);

impl fmt::Debug for Superblock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Superblock({} blocks)", self.blocks())
    }
}

const NEEDS_RECOVERY: u32 = 0x4;
/// Incompatible features that loaders and kernels read: filetype, extents, 64bit, flex_bg.
const INCOMPAT_ALLOWED: u32 = 0x2 | 0x40 | 0x80 | 0x200;
const INCOMPAT_NAMES: [(u32, &str); 9] = [
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x10, "meta_bg"),
    (0x100, "mmp"),
    (0x400, "ea_inode"),
    (0x2000, "metadata_csum_seed"),
    (0x8000, "inline_data"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];
const COMPAT_NAMES: [(u32, &str); 2] = [(0x4, "has_journal"), (0x1000, "orphan_file")];
/// Features that do not keep a reader from reading: sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink,
/// extra_isize, quota, metadata_csum, read-only, project, shared_blocks, verity.
const RO_COMPAT_ALLOWED: u32 =
    0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x400 | 0x1000 | 0x2000 | 0x4000 | 0x8000;
const RO_COMPAT_NAMES: [(u32, &str); 3] = [
    (0x80, "has_snapshot"),
    (0x200, "bigalloc"),
    (0x1_0000, "orphan_present"),
];
const METADATA_CSUM: u32 = 0x400;

impl<'a> Superblock<'a> {
    /// A view of the bytes at [`OFFSET`].
    ///
    /// # Errors
    /// They are not an ext2, 3 or 4 super block.
    pub fn new(bytes: &'a [u8; LEN]) -> Result<Self, Refusal> {
        let this = Self(bytes);
        if this.u16(0x38) == 0xEF53 {
            Ok(this)
        } else {
            Err(Refusal::NotExt4)
        }
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Size of the file system in blocks.
    #[must_use]
    pub fn blocks(self) -> u64 {
        let high = if self.u32(0x60) & 0x80 != 0 {
            self.u32(0x150)
        } else {
            0
        };
        u64::from(high) << 32 | u64::from(self.u32(0x4))
    }

    /// Size of the file system in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.blocks().saturating_mul(self.block_size())
    }

    /// Bytes in a block, 0 if that is not a number.
    #[must_use]
    pub fn block_size(self) -> u64 {
        1024_u64.checked_shl(self.u32(0x18)).unwrap_or(0)
    }

    /// Refuses what a loader can't read, what has something to recover, and what is longer than its image of `len`
    /// bytes.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_bootable(self, len: u64) -> Result<(), Refusal> {
        if self.u32(0x4C) < 1 {
            return Err(Refusal::Unclean("revision 0 of ext2"));
        }
        if self.block_size() != 4096 {
            return Err(Refusal::BlockSize(self.block_size()));
        }
        let (compat, incompat, ro_compat) = (self.u32(0x5C), self.u32(0x60), self.u32(0x64));
        if incompat & NEEDS_RECOVERY != 0 {
            return Err(Refusal::Unclean("its journal has something to recover"));
        }
        named(compat, &COMPAT_NAMES)?;
        named(incompat, &INCOMPAT_NAMES)?;
        named(ro_compat, &RO_COMPAT_NAMES)?;
        for unknown in [incompat & !INCOMPAT_ALLOWED, ro_compat & !RO_COMPAT_ALLOWED] {
            if unknown != 0 {
                return Err(Refusal::Unknown(unknown));
            }
        }
        if ro_compat & METADATA_CSUM != 0 && crc32c(&self.0[..0x3FC]) != self.u32(0x3FC) {
            return Err(Refusal::Checksum);
        }
        // Bit 0: unmounted cleanly, bit 1: errors seen, bit 2: orphans being recovered.
        if self.u16(0x3A) != 1 || self.u32(0xE8) != 0 {
            return Err(Refusal::Unclean(
                "it is mounted, was not unmounted cleanly or has errors",
            ));
        }
        if self.bytes() > len {
            return Err(Refusal::CutShort {
                needed: self.bytes(),
                given: len,
            });
        }
        Ok(())
    }
}

fn named(features: u32, names: &[(u32, &'static str)]) -> Result<(), Refusal> {
    match names.iter().find(|(bit, _)| features & bit != 0) {
        Some((_, name)) => Err(Refusal::Feature(name)),
        None => Ok(()),
    }
}

/// CRC-32C as ext4 has it: started with all ones, not inverted at the end.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| {
            if c & 1 == 1 {
                c >> 1 ^ 0x82F6_3B78
            } else {
                c >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1024 blocks of 4096 bytes, clean, extents and filetype.
    fn sample() -> [u8; LEN] {
        let mut b = [0; LEN];
        b[0x5] = 4;
        b[0x18] = 2;
        b[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
        b[0x3A] = 1;
        b[0x4C] = 1;
        b[0x60] = 0x42;
        b
    }

    fn check(b: &[u8; LEN]) -> Result<(), Refusal> {
        Superblock::new(b)?.check_bootable(4 << 20)
    }

    #[test]
    fn a_plain_file_system_passes_and_each_rule_refuses() {
        assert_eq!(check(&sample()), Ok(()));
        assert_eq!(Superblock::new(&sample()).unwrap().bytes(), 4 << 20);
        let with = |at: usize, value: u8| {
            let mut b = sample();
            b[at] |= value;
            check(&b)
        };
        assert_eq!(with(0x61, 0x80), Err(Refusal::Feature("inline_data")));
        assert_eq!(with(0x61, 0x04), Err(Refusal::Feature("ea_inode")));
        assert_eq!(with(0x62, 0x01), Err(Refusal::Feature("encrypt")));
        assert_eq!(with(0x62, 0x02), Err(Refusal::Feature("casefold")));
        assert_eq!(with(0x65, 0x02), Err(Refusal::Feature("bigalloc")));
        assert_eq!(with(0x5C, 0x04), Err(Refusal::Feature("has_journal")));
        assert_eq!(with(0x63, 0x10), Err(Refusal::Unknown(0x1000_0000)));
        assert!(matches!(with(0x60, 0x04), Err(Refusal::Unclean(_))));
        assert!(matches!(with(0x3A, 0x02), Err(Refusal::Unclean(_))));
        assert!(matches!(with(0xE8, 0x0B), Err(Refusal::Unclean(_))));
        assert!(matches!(with(0x06, 1), Err(Refusal::CutShort { .. })));
        assert_eq!(with(0x65, 0x04), Err(Refusal::Checksum));
        assert_eq!(with(0x18, 1), Err(Refusal::BlockSize(8192)));
        let mut b = sample();
        b[0x38] = 0;
        assert_eq!(check(&b), Err(Refusal::NotExt4));
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(!crc32c(b"123456789"), 0xE306_9283);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_panic(bytes: Vec<u8>, fill: u8) {
            let mut b = [fill; LEN];
            let n = bytes.len().min(LEN);
            b[..n].copy_from_slice(&bytes[..n]);
            b[0x38..0x3A].copy_from_slice(&[0x53, 0xEF]);
            let sb = Superblock::new(&b).unwrap();
            let _ = (sb.bytes(), sb.check_bootable(4096));
        }
    }
}
