//! Blocks whose bytes have been compared with their hashes.

use crate::signature::{BlockMismatch, Verified};
use crate::table::Block;

/// Consecutive blocks with the bytes of all of them.
pub trait Run {
    /// The blocks, in order.
    fn blocks(&self) -> &[Verified<Block>];
    /// Their bytes, one block after the other.
    fn bytes(&self) -> &[u8];

    /// Keeps the first `count` blocks with their bytes.
    fn truncate(&mut self, count: usize);

    /// Each block with as many bytes as it has; the last ones get fewer where bytes are missing.
    fn iter(&self) -> impl Iterator<Item = (&Verified<Block>, &[u8])> {
        let mut rest = self.bytes();
        self.blocks().iter().map(move |block| {
            let len = rest.len().min(block.len as usize);
            let (bytes, later) = rest.split_at(len);
            rest = later;
            (block, bytes)
        })
    }
}

/// Blocks with bytes that have their hashes, ready to be written.
#[derive(Debug)]
pub struct Unpacked<R>(R);

impl<R: Run> Unpacked<R> {
    /// # Errors
    /// The bytes do not have the hash of their block.
    pub fn new(run: R) -> Result<Self, BlockMismatch> {
        for (block, bytes) in run.iter() {
            block.check_unpacked(bytes)?;
        }
        Ok(Self(run))
    }

    /// The first blocks, up to one whose bytes do not have its hash.
    pub fn leading(mut run: R) -> Self {
        let good = run
            .iter()
            .map_while(|(block, bytes)| block.check_unpacked(bytes).ok());
        let count = good.count();
        run.truncate(count);
        Self(run)
    }

    /// The blocks and their bytes.
    pub fn run(&self) -> &R {
        &self.0
    }

    /// Gives the memory back.
    pub fn into_run(self) -> R {
        self.0
    }
}
