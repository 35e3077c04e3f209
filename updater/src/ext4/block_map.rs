//! From a block of a file to the block of the file system that holds it.

use bootctl::BlockIo;

use super::inode::Inode;
use super::{Ext4, Ext4Error, u16_at, u32_at};

/// Deepest extent tree that Linux makes.
const MAX_DEPTH: u16 = 5;
const MAGIC: u16 = 0xf30a;
/// Length of a node's header, and of each entry.
const ENTRY: usize = 12;
/// Longer extents are reserved but not written; this much is taken off their length.
const WRITTEN_MAX: u16 = 32_768;
/// Blocks whose numbers stand in the inode itself, where there are no extents.
const DIRECT: u32 = 12;

const DAMAGED: Ext4Error = Ext4Error::Damaged("the blocks of a file");

/// `None` for a block that was never written. Reads at most [`MAX_DEPTH`] blocks.
pub(super) fn find<B: BlockIo>(
    fs: &mut Ext4<B>,
    inode: &Inode,
    index: u32,
) -> Result<Option<u64>, Ext4Error> {
    match inode.has_extents() {
        true => by_extents(fs, inode.area(), index),
        false => by_numbers(fs, inode.area(), index),
    }
}

fn by_extents<B: BlockIo>(
    fs: &mut Ext4<B>,
    root: &[u8],
    index: u32,
) -> Result<Option<u64>, Ext4Error> {
    let mut node = root.to_vec();
    let mut depth = depth_of(&node)?;
    if depth > MAX_DEPTH {
        return Err(DAMAGED);
    }
    // The last entry that starts at or before the block is the only one that can have it.
    while let Some(entry) = last_before(&node, index)? {
        let short = |at| u16_at(&entry, at).map(u64::from).ok_or(DAMAGED);
        let number = |at| u32_at(&entry, at).map(u64::from).ok_or(DAMAGED);
        if depth == 0 {
            let within = u64::from(index).saturating_sub(number(0)?);
            let start = short(6)? << 32 | number(8)?;
            let written = short(4)? <= WRITTEN_MAX.into();
            let has = written && within < short(4)?;
            return Ok(has.then(|| start.saturating_add(within)));
        }
        let child = short(8)? << 32 | number(4)?;
        node = fs.block();
        fs.read_block(child, &mut node)?;
        // Strictly downwards, so that it ends.
        depth = depth.saturating_sub(1);
        if depth_of(&node)? != depth {
            return Err(DAMAGED);
        }
    }
    Ok(None)
}

fn depth_of(node: &[u8]) -> Result<u16, Ext4Error> {
    if u16_at(node, 0) != Some(MAGIC) {
        return Err(DAMAGED);
    }
    u16_at(node, 6).ok_or(DAMAGED)
}

fn last_before(node: &[u8], index: u32) -> Result<Option<[u8; ENTRY]>, Ext4Error> {
    let count = usize::from(u16_at(node, 2).ok_or(DAMAGED)?);
    let (entries, _) = node.as_chunks::<ENTRY>();
    let entries = entries.get(1..=count).ok_or(DAMAGED)?;
    let starts = |entry: &&[u8; ENTRY]| u32_at(*entry, 0).is_some_and(|first| first <= index);
    Ok(entries.iter().take_while(starts).last().copied())
}

fn by_numbers<B: BlockIo>(
    fs: &mut Ext4<B>,
    area: &[u8],
    index: u32,
) -> Result<Option<u64>, Ext4Error> {
    let in_area = |index: u32| u32_at(area, index as usize * 4).ok_or(DAMAGED);
    let number = match index.checked_sub(DIRECT) {
        None => in_area(index)?,
        Some(index) => {
            let indirect = in_area(DIRECT)?;
            if indirect == 0 {
                return Ok(None);
            }
            let mut block = fs.block();
            fs.read_block(indirect.into(), &mut block)?;
            let at = usize::try_from(index)
                .unwrap_or(usize::MAX)
                .saturating_mul(4);
            u32_at(&block, at).ok_or(Ext4Error::Unsupported("large files without extents"))?
        }
    };
    Ok((number != 0).then_some(number.into()))
}
