//! Reads files of an ext4 file system that nobody has mounted.
//!
//! The file system may be hostile: it belongs to a disk that is not running, and may be of anybody. So nothing is
//! allocated by its numbers, whatever points somewhere is bounded, and all of it together may cost no more than
//! [`MAX_READS`] reads of a block. Checksums are not compared: who forges a file system forges them too, and what is
//! read from it, keys and settings, is held to rules of its own.
//!
//! Layout: Linux kernel documentation, "ext4 Data Structures and Algorithms".

mod block_map;
mod folder;
mod inode;
mod superblock;

use std::collections::VecDeque;

use bootctl::BlockIo;

use inode::{Inode, Kind};
use superblock::Superblock;

/// Most blocks that are read of one file system.
const MAX_READS: u32 = 16_384;
/// Most parts of a path, those of symbolic links included.
const MAX_PARTS: usize = 256;
/// Most symbolic links on one path.
const MAX_LINKS: usize = 16;
/// Longest target of a symbolic link, in bytes.
const MAX_TARGET: u64 = 4095;
const ROOT: u32 = 2;

/// Why a file can't be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ext4Error {
    #[error("{0}")]
    Io(String),
    #[error("it is not ext4")]
    NotExt4,
    #[error("it has {0}, which this program does not read")]
    Unsupported(&'static str),
    #[error("it was not unmounted and its journal waits; mount it once or run e2fsck")]
    NeedsRecovery,
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    #[error("its folders are too large or too deep")]
    TooMuch,
    #[error("there is no such file")]
    NotFound,
    #[error("it is not a plain file")]
    NotAFile,
    #[error("it is not a folder")]
    NotAFolder,
    #[error("it is longer than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("it has more than {limit} entries")]
    TooManyEntries { limit: usize },
}

/// An ext4 file system on anything that has sectors.
#[derive(Debug)]
pub struct Ext4<B> {
    io: B,
    superblock: Superblock,
    /// Reads that are left.
    budget: u32,
}

impl<B: BlockIo> Ext4<B> {
    /// Reads the superblock.
    ///
    /// # Errors
    /// It can't be read, is no ext4 or one with features that this reader does not know, or its journal waits.
    pub fn open(mut io: B) -> Result<Self, Ext4Error> {
        let bytes = io.sector_count().saturating_mul(io.sector_size().bytes());
        let mut head = [0; 4096];
        if bytes < head.len() as u64 {
            return Err(Ext4Error::NotExt4);
        }
        io.read_sectors(0, &mut head)
            .map_err(|error| Ext4Error::Io(error.to_string()))?;
        Ok(Self {
            io,
            superblock: Superblock::parse(&head, bytes)?,
            budget: MAX_READS,
        })
    }

    /// The content of a file, at most `limit` bytes; symbolic links are followed within the file system.
    ///
    /// # Errors
    /// There is none, it is something else or longer, or the file system is damaged.
    pub fn read(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, Ext4Error> {
        let inode = self.find(path)?;
        if inode.kind() != Kind::File {
            return Err(Ext4Error::NotAFile);
        }
        self.content(&inode, limit)
    }

    /// The names in a folder, at most `limit`, without `.` and `..`.
    ///
    /// # Errors
    /// There is none, it is no folder or a larger one, or the file system is damaged.
    pub fn names(&mut self, path: &str, limit: usize) -> Result<Vec<Vec<u8>>, Ext4Error> {
        let inode = self.find(path)?;
        let mut names = Vec::new();
        folder::visit(self, &inode, |name, _| {
            if name == b"." || name == b".." {
                return Ok(false);
            }
            if names.len() >= limit {
                return Err(Ext4Error::TooManyEntries { limit });
            }
            names.push(name.to_vec());
            Ok(false)
        })?;
        Ok(names)
    }

    fn find(&mut self, path: &str) -> Result<Inode, Ext4Error> {
        let mut waiting: VecDeque<Vec<u8>> = parts(path.as_bytes()).collect();
        let mut folders = vec![self.inode(ROOT)?];
        let (mut seen, mut links) = (0_usize, 0_usize);
        while let Some(name) = waiting.pop_front() {
            seen = seen.saturating_add(1);
            if seen > MAX_PARTS || waiting.len() > MAX_PARTS {
                return Err(Ext4Error::TooMuch);
            }
            if name == b".." {
                // The root is its own parent.
                if folders.len() > 1 {
                    folders.pop();
                }
                continue;
            }
            let folder = folders.last().ok_or(Ext4Error::NotFound)?.clone();
            let number = folder::lookup(self, &folder, &name)?;
            let inode = self.inode(number)?;
            if inode.kind() != Kind::Link {
                folders.push(inode);
                continue;
            }
            links = links.saturating_add(1);
            if links > MAX_LINKS {
                return Err(Ext4Error::TooMuch);
            }
            let target = self.target(&inode)?;
            if target.starts_with(b"/") {
                folders.truncate(1);
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                waiting.push_front(part);
            }
        }
        folders.pop().ok_or(Ext4Error::NotFound)
    }

    fn target(&mut self, link: &Inode) -> Result<Vec<u8>, Ext4Error> {
        match link.fast_target() {
            Some(target) => Ok(target.to_vec()),
            None => self.content(link, MAX_TARGET),
        }
    }

    fn content(&mut self, inode: &Inode, limit: u64) -> Result<Vec<u8>, Ext4Error> {
        let too_long = Ext4Error::TooLong { limit };
        if inode.size() > limit {
            return Err(too_long);
        }
        let size = usize::try_from(inode.size()).map_err(|_| too_long)?;
        let mut content = Vec::new();
        let mut block = self.block();
        let mut index = 0_u32;
        while content.len() < size {
            match block_map::find(self, inode, index)? {
                Some(physical) => self.read_block(physical, &mut block)?,
                None => block.fill(0),
            }
            let take = block.len().min(size.saturating_sub(content.len()));
            content.extend_from_slice(block.get(..take).unwrap_or_default());
            index = index.saturating_add(1);
        }
        Ok(content)
    }

    fn inode(&mut self, number: u32) -> Result<Inode, Ext4Error> {
        let (group, index) = self.superblock.group_of(number)?;
        let mut block = self.block();
        let (at, within) = self.superblock.descriptor_of(group);
        self.read_block(at, &mut block)?;
        let descriptor = block.get(within..).unwrap_or_default();
        let (at, within) = self.superblock.inode_in(descriptor, index)?;
        self.read_block(at, &mut block)?;
        Inode::parse(block.get(within..).unwrap_or_default())
    }

    /// Memory for one block.
    fn block(&self) -> Vec<u8> {
        vec![0; self.superblock.block_size()]
    }

    /// Reads a block of the file system into `block`, which has its length.
    fn read_block(&mut self, number: u64, block: &mut [u8]) -> Result<(), Ext4Error> {
        if number == 0 || number >= self.superblock.blocks() {
            return Err(Ext4Error::Damaged("a block number is out of range"));
        }
        self.budget = self.budget.checked_sub(1).ok_or(Ext4Error::TooMuch)?;
        let size = self.io.sector_size().bytes();
        let start = number.saturating_mul(block.len() as u64);
        let mut read = |lba, buf: &mut [u8]| {
            self.io
                .read_sectors(lba, buf)
                .map_err(|error| Ext4Error::Io(error.to_string()))
        };
        if (block.len() as u64).is_multiple_of(size) {
            return read(start / size, block);
        }
        // Blocks smaller than a sector.
        let mut sector = [0; 4096];
        read(start / size, &mut sector)?;
        let skip = usize::try_from(start % size).unwrap_or_default();
        for (place, byte) in block.iter_mut().zip(sector.iter().skip(skip)) {
            *place = *byte;
        }
        Ok(())
    }
}

/// The parts of a path that lead somewhere.
fn parts(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
