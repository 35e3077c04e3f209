//! From stored bytes to chunks of blocks.

use bootctl::disk::AlignedBuf;

use super::{CHUNK, EngineError};
use crate::decode::Decoder;
use crate::signature::Verified;
use crate::source::Source;
use crate::table::{Block, Table};

/// Some consecutive blocks in one buffer.
pub(super) struct Chunk {
    buf: AlignedBuf,
    blocks: Vec<Verified<Block>>,
}

impl Chunk {
    pub fn new(table: &Table<'_>) -> Self {
        Self {
            buf: AlignedBuf::new(CHUNK.max(table.block_size() as usize)),
            blocks: Vec::new(),
        }
    }

    pub fn emptied(mut self) -> Self {
        self.blocks.clear();
        self
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Takes as many blocks as fit, from block `next` on, and returns the one after them. Their bytes are not there yet.
    pub fn plan(&mut self, table: &Verified<Table<'_>>, mut next: u64) -> u64 {
        self.blocks.clear();
        let mut room = self.buf.len();
        while let Some(block) = table.verified_block(next) {
            let Some(left) = room.checked_sub(block.len as usize) else {
                break;
            };
            room = left;
            self.blocks.push(block);
            next += 1;
        }
        next
    }

    /// Where the first block starts in the image, in bytes.
    pub fn offset(&self) -> u64 {
        self.blocks.first().map_or(0, |block| block.offset)
    }

    fn used(&self) -> usize {
        self.blocks.iter().map(|block| block.len as usize).sum()
    }

    /// The bytes of all blocks.
    pub fn bytes(&self) -> &[u8] {
        self.buf.get(..self.used()).unwrap_or_default()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let used = self.used();
        self.buf.get_mut(..used).unwrap_or_default()
    }

    /// Each block with its bytes.
    pub fn blocks(&self) -> impl Iterator<Item = (&Verified<Block>, &[u8])> {
        let mut rest = self.bytes();
        self.blocks.iter().map(move |block| {
            let (bytes, later) = rest
                .split_at_checked(block.len as usize)
                .unwrap_or_default();
            rest = later;
            (block, bytes)
        })
    }
}

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

    /// Fills a chunk with the next blocks; `None` after the last. The bytes are still to be compared with the hashes of
    /// the blocks.
    pub fn next(&mut self, mut chunk: Chunk) -> Result<Option<Chunk>, EngineError> {
        self.next = chunk.plan(&self.table, self.next);
        if chunk.len() == 0 {
            return Ok(None);
        }
        let Chunk { buf, blocks } = &mut chunk;
        let mut rest: &mut [u8] = buf;
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
        Ok(Some(chunk))
    }

    /// Makes sure that nothing follows the last block.
    pub fn finish(self) -> Result<(), EngineError> {
        Ok(self.source.expect_end()?)
    }
}
