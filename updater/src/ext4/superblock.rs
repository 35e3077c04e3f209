//! The superblock, and where it says that inodes are.

use super::{Ext4Error, u16_at, u32_at};

/// Where it starts, in bytes.
const OFFSET: usize = 1024;
const MAGIC: u16 = 0xef53;
const FILETYPE: u32 = 0x2;
const RECOVER: u32 = 0x4;
const EXTENTS: u32 = 0x40;
const BIT_64: u32 = 0x80;
const FLEX_BG: u32 = 0x200;
const CSUM_SEED: u32 = 0x2000;
/// Incompatible features that make no difference to this reader, or that it knows.
const KNOWN: u32 = FILETYPE | EXTENTS | BIT_64 | FLEX_BG | CSUM_SEED;

/// What of it matters, within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    block_size: u32,
    blocks: u64,
    /// First block of the table of group descriptors.
    descriptors: u64,
    descriptor_size: u32,
    inode_size: u32,
    inodes: u32,
    inodes_per_group: u32,
}

impl Superblock {
    /// `head` are the first bytes of a partition of `bytes` bytes.
    pub fn parse(head: &[u8; 4096], bytes: u64) -> Result<Self, Ext4Error> {
        let raw = head.get(OFFSET..).unwrap_or_default();
        let number = |at| u32_at(raw, at).unwrap_or_default();
        let short = |at| u16_at(raw, at).unwrap_or_default();
        if short(0x38) != MAGIC {
            return Err(Ext4Error::NotExt4);
        }
        let features = number(0x60);
        if features & RECOVER != 0 {
            return Err(Ext4Error::NeedsRecovery);
        }
        if features & !KNOWN != 0 || features & FILETYPE == 0 {
            return Err(Ext4Error::Unsupported("other features"));
        }
        let block_size = match number(0x18) {
            log @ 0..=2 => 1024_u32 << log,
            _ => return Err(Ext4Error::Unsupported("blocks of more than 4096 bytes")),
        };
        let wide = features & BIT_64 != 0;
        let high = if wide { number(0x150) } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(number(0x4));
        if blocks
            .checked_mul(block_size.into())
            .is_none_or(|end| end > bytes)
        {
            return Err(Ext4Error::Damaged("it is larger than its partition"));
        }
        let inode_size = match number(0x4c) {
            0 => 128,
            _ => u32::from(short(0x58)),
        };
        let descriptor_size = if wide { u32::from(short(0xfe)) } else { 32 };
        // Powers of two, so that neither crosses the end of a block.
        let fits =
            |size: u32, least| size.is_power_of_two() && (least..=block_size).contains(&size);
        if !fits(inode_size, 128) || !fits(descriptor_size, if wide { 64 } else { 32 }) {
            return Err(Ext4Error::Damaged("the size of inodes or groups"));
        }
        let inodes_per_group = number(0x28);
        if inodes_per_group == 0 {
            return Err(Ext4Error::Damaged("its groups have no inodes"));
        }
        Ok(Self {
            block_size,
            blocks,
            descriptors: u64::from(number(0x14)).saturating_add(1),
            descriptor_size,
            inode_size,
            inodes: number(0x0),
            inodes_per_group,
        })
    }

    /// Size of a block in bytes, 1024 to 4096.
    pub const fn block_size(&self) -> usize {
        self.block_size as usize
    }

    /// Number of blocks; all of them are within the partition.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The group of an inode, and its index there.
    pub fn group_of(&self, inode: u32) -> Result<(u32, u32), Ext4Error> {
        match inode.checked_sub(1) {
            Some(index) if index < self.inodes => {
                Ok((index / self.inodes_per_group, index % self.inodes_per_group))
            }
            _ => Err(Ext4Error::Damaged("an inode number is out of range")),
        }
    }

    /// Block of a group's descriptor, and where it starts there.
    pub fn descriptor_of(&self, group: u32) -> (u64, usize) {
        let (block, within) = self.place(u64::from(group), self.descriptor_size);
        (self.descriptors.saturating_add(block), within)
    }

    /// Block of an inode, and where it starts there.
    pub fn inode_in(&self, descriptor: &[u8], index: u32) -> Result<(u64, usize), Ext4Error> {
        let low = u32_at(descriptor, 0x8).unwrap_or_default();
        let high = match self.descriptor_size {
            32 => 0,
            _ => u32_at(descriptor, 0x28).unwrap_or_default(),
        };
        let table = u64::from(high) << 32 | u64::from(low);
        if table == 0 {
            return Err(Ext4Error::Damaged("a group has no inodes"));
        }
        let (block, within) = self.place(index.into(), self.inode_size);
        Ok((table.saturating_add(block), within))
    }

    /// Block and byte of an item in a table of items of `size` bytes.
    fn place(&self, index: u64, size: u32) -> (u64, usize) {
        let at = index.saturating_mul(size.into());
        let block_size = u64::from(self.block_size);
        let within = usize::try_from(at % block_size).unwrap_or_default();
        (at / block_size, within)
    }
}
