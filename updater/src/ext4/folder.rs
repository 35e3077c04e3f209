//! The entries of a folder. One with an index is read like any other: the index hides in entries that name nothing.

use bootctl::BlockIo;

use super::inode::{Inode, Kind};
use super::{Ext4, Ext4Error, block_map, u16_at, u32_at};

/// Length of an entry without its name.
const HEAD: usize = 8;

const DAMAGED: Ext4Error = Ext4Error::Damaged("the entries of a folder");

/// The inode of a name.
pub(super) fn lookup<B: BlockIo>(
    fs: &mut Ext4<B>,
    folder: &Inode,
    wanted: &[u8],
) -> Result<u32, Ext4Error> {
    let mut found = None;
    visit(fs, folder, |name, inode| {
        if name == wanted {
            found = Some(inode);
        }
        Ok(found.is_some())
    })?;
    found.ok_or(Ext4Error::NotFound)
}

/// Shows every entry to `see` until that returns `true`.
pub(super) fn visit<B: BlockIo>(
    fs: &mut Ext4<B>,
    folder: &Inode,
    mut see: impl FnMut(&[u8], u32) -> Result<bool, Ext4Error>,
) -> Result<(), Ext4Error> {
    if folder.kind() != Kind::Folder {
        return Err(Ext4Error::NotAFolder);
    }
    let mut block = fs.block();
    let blocks = folder.size().div_ceil(block.len() as u64);
    for index in 0..blocks {
        let index = u32::try_from(index).map_err(|_| DAMAGED)?;
        // A folder has no holes, so that one of any claimed size ends where its blocks or the reads do.
        let physical = block_map::find(fs, folder, index)?.ok_or(DAMAGED)?;
        fs.read_block(physical, &mut block)?;
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            let (name, inode, later) = split(rest)?;
            if inode != 0 && see(name, inode)? {
                return Ok(());
            }
            rest = later;
        }
    }
    Ok(())
}

/// The first entry's name and inode, and what follows it.
fn split(bytes: &[u8]) -> Result<(&[u8], u32, &[u8]), Ext4Error> {
    let inode = u32_at(bytes, 0).ok_or(DAMAGED)?;
    let length = usize::from(u16_at(bytes, 4).ok_or(DAMAGED)?);
    if length < HEAD || !length.is_multiple_of(4) {
        return Err(DAMAGED);
    }
    let (entry, later) = bytes.split_at_checked(length).ok_or(DAMAGED)?;
    let name_length = usize::from(*entry.get(6).ok_or(DAMAGED)?);
    let name = entry.get(HEAD..).and_then(|tail| tail.get(..name_length));
    Ok((name.ok_or(DAMAGED)?, inode, later))
}
