//! From stored bytes to chunks of blocks.

use super::EngineError;
use super::chunk::Chunk;
use crate::decode::Decoder;
use crate::signature::Verified;
use crate::source::Source;
use crate::table::Table;

/// Reads stored blocks, compares them with their hash and unpacks them.
pub(super) struct Unpacker<'a> {
    source: &'a mut Source,
    table: Verified<Table<'a>>,
    decoder: Decoder,
    stored: Vec<u8>,
    next: u64,
}

impl<'a> Unpacker<'a> {
    pub fn new(source: &'a mut Source, table: Verified<Table<'a>>) -> Result<Self, EngineError> {
        Ok(Self {
            source,
            table,
            decoder: Decoder::new().map_err(EngineError::Memory)?,
            stored: Vec::new(),
            next: 0,
        })
    }

    /// Holds a seekable source to the length that the table says.
    pub fn check_len(&self, data_offset: u64) -> Result<(), EngineError> {
        let end = data_offset.saturating_add(self.table.stored_total());
        Ok(self.source.check_len(end)?)
    }

    /// Fills a chunk with the next blocks; `false` after the last. The bytes are still to be compared with the hashes of
    /// the blocks.
    pub fn fill(&mut self, chunk: &mut Chunk) -> Result<bool, EngineError> {
        chunk.plan(&self.table, self.next..self.table.blocks());
        if chunk.is_empty() {
            return Ok(false);
        }
        self.next = chunk.end();
        let (blocks, mut rest) = chunk.parts_mut();
        for block in blocks {
            let Some((out, later)) = rest.split_at_mut_checked(block.len as usize) else {
                break;
            };
            rest = later;
            self.stored.resize(block.entry.stored_len() as usize, 0);
            self.source.read_exact(&mut self.stored)?;
            block.check_stored(&self.stored)?;
            self.decoder.unpack(block, &self.stored, out)?;
        }
        Ok(true)
    }

    /// Makes sure that nothing follows the last block.
    pub fn finish(self) -> Result<(), EngineError> {
        Ok(self.source.expect_end()?)
    }
}
