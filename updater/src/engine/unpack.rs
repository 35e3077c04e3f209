//! From stored bytes to chunks of blocks.

use std::time::Duration;

use super::EngineError;
use super::chunk::Chunk;
use crate::decode::Decoder;
use crate::install::Run;
use crate::signature::Verified;
use crate::source::Source;
use crate::table::{Block, Table};

/// How often somebody who holds complete blocks, and waits for the next, is asked whether they are enough.
const POLL: Duration = Duration::from_millis(50);

/// Reads stored blocks, compares them with their hash and unpacks them.
pub(super) struct Unpacker<'a> {
    source: &'a mut Source,
    table: Verified<Table<'a>>,
    decoder: Decoder,
    stored: Vec<u8>,
    /// Bytes of the next stored block that have come.
    come: usize,
    next: u64,
    /// Went wrong behind the blocks that were given out last.
    failed: Option<EngineError>,
    /// Something was read from the source, so that it can be held to its end.
    begun: bool,
}

impl<'a> Unpacker<'a> {
    pub fn new(source: &'a mut Source, table: Verified<Table<'a>>) -> Result<Self, EngineError> {
        Ok(Self {
            source,
            table,
            decoder: Decoder::new().map_err(EngineError::Memory)?,
            stored: Vec::new(),
            come: 0,
            next: 0,
            failed: None,
            begun: false,
        })
    }

    /// Leaves out the blocks before `next`; the blocks start at byte `data_offset` of the source.
    pub fn skip_to(&mut self, next: u64, data_offset: u64) -> Result<(), EngineError> {
        self.next = next;
        let offset = data_offset.saturating_add(self.table.stored_before(next));
        Ok(self.source.skip_to(offset)?)
    }

    /// Whether the source's bytes come from afar.
    pub fn is_remote(&self) -> bool {
        self.source.is_remote()
    }

    /// Holds a seekable source to the length that the table says.
    pub fn check_len(&self, data_offset: u64) -> Result<(), EngineError> {
        let end = data_offset.saturating_add(self.table.stored_total());
        Ok(self.source.check_len(end)?)
    }

    /// Fills a chunk with the next blocks, or with some of them once `enough` says so after one, also while the next one is
    /// awaited; `false` after the last. The bytes are still to be compared with the hashes of the blocks.
    ///
    /// Where something goes wrong behind the first block, the blocks before it are given out first.
    pub fn fill(
        &mut self,
        chunk: &mut Chunk,
        mut enough: impl FnMut() -> bool,
    ) -> Result<bool, EngineError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        chunk.plan(&self.table, self.next..self.table.blocks());
        if chunk.is_empty() {
            return Ok(false);
        }
        let mut count = 0;
        let (blocks, mut rest) = chunk.parts_mut();
        for block in blocks {
            let Some((out, later)) = rest.split_at_mut_checked(block.len as usize) else {
                break;
            };
            rest = later;
            match self.unpack(block, out, count > 0, &mut enough) {
                Ok(true) => count += 1,
                Ok(false) => break,
                Err(error) if count == 0 => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
            if enough() {
                break;
            }
        }
        self.begun = true;
        chunk.truncate(count);
        self.next = chunk.end();
        Ok(true)
    }

    /// Unpacks the next block; `false` if `enough` ended the wait for the rest of it, who is asked if something is `held`.
    /// Otherwise the source waits as long as it sees fit.
    fn unpack(
        &mut self,
        block: &Verified<Block>,
        out: &mut [u8],
        held: bool,
        mut enough: impl FnMut() -> bool,
    ) -> Result<bool, EngineError> {
        self.stored.resize(block.entry.stored_len() as usize, 0);
        loop {
            let missing = self.stored.get_mut(self.come..).unwrap_or_default();
            if missing.is_empty() {
                break;
            }
            if !held || self.source.is_ready(POLL) {
                self.come += self.source.read_some(missing)?;
            } else if enough() {
                return Ok(false);
            }
        }
        self.come = 0;
        block.check_stored(&self.stored)?;
        self.decoder.unpack(block, &self.stored, out)?;
        Ok(true)
    }

    /// Makes sure that nothing follows the last block. A remote source of which nothing was needed is not asked.
    pub fn finish(self) -> Result<(), EngineError> {
        match self.begun || !self.source.is_remote() {
            true => Ok(self.source.expect_end()?),
            false => Ok(()),
        }
    }
}
