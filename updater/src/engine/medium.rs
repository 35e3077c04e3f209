//! The slot's partition, in bytes of the image.

use bootctl::BlockIo;
use bootctl::disk::AlignedBuf;

use super::EngineError;
use super::unpack::Chunk;
use crate::install::Unpacked;

/// A block whose first bytes differ from the medium's is not compared further.
const PROBE: usize = 4096;

pub(super) struct Medium<'a, P> {
    io: &'a mut P,
    sector: u64,
    /// A block as the medium holds it.
    old: AlignedBuf,
}

impl<'a, P: BlockIo> Medium<'a, P> {
    pub fn new(io: &'a mut P, block_size: u32) -> Self {
        Self {
            sector: io.sector_size().bytes(),
            io,
            old: AlignedBuf::new(block_size as usize),
        }
    }

    /// Writes consecutive blocks, whose bytes are `bytes`, but for those that the medium holds already; returns how many
    /// of these there are. Neighbours are written together.
    pub fn write(&mut self, bytes: &[u8], blocks: &[Unpacked<&[u8]>]) -> Result<u64, EngineError> {
        let mut unchanged = 0;
        // Bytes before `start` are done, those from there to `at` are still to be written.
        let (mut start, mut at) = (0, 0);
        let offset = blocks.first().map_or(0, |block| block.block().offset);
        for block in blocks {
            let end = at + block.bytes().len();
            if self.holds(block) {
                self.write_at(offset, bytes, start, at)?;
                start = end;
                unchanged += 1;
            }
            at = end;
        }
        self.write_at(offset, bytes, start, at)?;
        Ok(unchanged)
    }

    fn write_at(
        &mut self,
        offset: u64,
        bytes: &[u8],
        start: usize,
        end: usize,
    ) -> Result<(), EngineError> {
        let Some(piece) = bytes.get(start..end).filter(|piece| !piece.is_empty()) else {
            return Ok(());
        };
        let lba = (offset + start as u64) / self.sector;
        self.io
            .write_sectors(lba, piece)
            .map_err(|cause| EngineError::slot("write slot", &cause))
    }

    /// Whether the medium holds the block already. One that can't be read is written: that may well cure it.
    fn holds(&mut self, block: &Unpacked<&[u8]>) -> bool {
        let (offset, new) = (block.block().offset, block.bytes());
        let probe = PROBE.min(new.len());
        self.matches(offset, new.get(..probe).unwrap_or_default()) && self.matches(offset, new)
    }

    fn matches(&mut self, offset: u64, new: &[u8]) -> bool {
        let Some(old) = self.old.get_mut(..new.len()) else {
            return false;
        };
        self.io.read_sectors(offset / self.sector, old).is_ok() && old == new
    }

    pub fn flush(&mut self) -> Result<(), EngineError> {
        self.io
            .flush()
            .map_err(|cause| EngineError::slot("flush slot", &cause))
    }

    /// Reads the blocks of a planned chunk.
    pub fn read(&mut self, chunk: &mut Chunk) -> Result<(), EngineError> {
        let lba = chunk.offset() / self.sector;
        self.io
            .read_sectors(lba, chunk.bytes_mut())
            .map_err(|cause| EngineError::slot("read slot back", &cause))
    }
}
