//! One inode.

use super::{Ext4Error, u16_at, u32_at};

const ENCRYPTED: u32 = 0x800;
const EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;
/// Length of the area that holds block numbers, the root of the extent tree or a short link's target.
const AREA: usize = 60;

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    kind: Kind,
    size: u64,
    extents: bool,
    area: [u8; AREA],
}

impl Inode {
    /// `bytes` start where it does.
    pub fn parse(bytes: &[u8]) -> Result<Self, Ext4Error> {
        const CUT: Ext4Error = Ext4Error::Damaged("an inode is cut off");
        let number = |at| u32_at(bytes, at).ok_or(CUT);
        let kind = match u16_at(bytes, 0).ok_or(CUT)? >> 12 {
            0x8 => Kind::File,
            0x4 => Kind::Folder,
            0xa => Kind::Link,
            _ => Kind::Other,
        };
        let flags = number(0x20)?;
        if flags & ENCRYPTED != 0 {
            return Err(Ext4Error::Unsupported("encrypted files"));
        }
        if flags & INLINE_DATA != 0 {
            return Err(Ext4Error::Unsupported("files within inodes"));
        }
        Ok(Self {
            kind,
            size: u64::from(number(0x6c)?) << 32 | u64::from(number(0x4)?),
            extents: flags & EXTENTS != 0,
            area: *bytes.get(0x28..).and_then(|b| b.first_chunk()).ok_or(CUT)?,
        })
    }

    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Claimed size in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its blocks are found by extents.
    pub const fn has_extents(&self) -> bool {
        self.extents
    }

    /// Block numbers, or the root of the extent tree.
    pub const fn area(&self) -> &[u8; AREA] {
        &self.area
    }

    /// The target of a link that is short enough to stand here.
    pub fn fast_target(&self) -> Option<&[u8]> {
        let size = usize::try_from(self.size)
            .ok()
            .filter(|size| *size < AREA)?;
        self.area.get(..size).filter(|_| !self.extents)
    }
}
