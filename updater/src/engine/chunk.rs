//! Some consecutive blocks in one buffer.

use bootctl::disk::AlignedBuf;

use crate::install::Run;
use crate::signature::Verified;
use crate::table::{Block, Table};

/// Consecutive blocks, and memory for their bytes.
pub(super) struct Chunk {
    buf: AlignedBuf,
    blocks: Vec<Verified<Block>>,
    used: usize,
}

impl Chunk {
    /// Of `bytes`, or one block if that is larger.
    pub fn new(table: &Table<'_>, bytes: usize) -> Self {
        Self {
            buf: AlignedBuf::new(bytes.max(table.block_size() as usize)),
            blocks: Vec::new(),
            used: 0,
        }
    }

    /// Takes as many blocks of `from..end` as fit; none if there are no more. Their bytes are not there yet.
    pub fn plan(&mut self, table: &Verified<Table<'_>>, blocks: std::ops::Range<u64>) {
        self.blocks.clear();
        self.used = 0;
        for index in blocks {
            let Some(block) = table.verified_block(index) else {
                break;
            };
            let used = self.used.saturating_add(block.len as usize);
            if used > self.buf.len() {
                break;
            }
            self.used = used;
            self.blocks.push(block);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Where the first block starts in the image, in bytes.
    pub fn offset(&self) -> u64 {
        self.blocks.first().map_or(0, |block| block.offset)
    }

    /// The block after the last.
    pub fn end(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.index + 1)
    }

    /// The blocks, and memory for all their bytes.
    pub fn parts_mut(&mut self) -> (&[Verified<Block>], &mut [u8]) {
        let bytes = self.buf.get_mut(..self.used).unwrap_or_default();
        (&self.blocks, bytes)
    }
}

impl Run for Chunk {
    fn blocks(&self) -> &[Verified<Block>] {
        &self.blocks
    }

    fn bytes(&self) -> &[u8] {
        self.buf.get(..self.used).unwrap_or_default()
    }

    fn truncate(&mut self, count: usize) {
        self.blocks.truncate(count);
        self.used = self.blocks.iter().map(|block| block.len as usize).sum();
    }
}
