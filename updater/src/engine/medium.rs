//! The slot's partition, in bytes of the image.

use bootctl::BlockIo;
use bootctl::disk::AlignedBuf;

use super::EngineError;
use super::chunk::Chunk;
use crate::install::{Run, Unpacked};

/// A block whose first bytes differ from the medium's is not compared further.
const PROBE: usize = 4096;

/// After so many blocks in a row that differ, only the first of each chunk is probed, until one does not differ: a
/// probe waits for the large transfers before it, and most installations find hardly anything that may stay.
const PATIENCE: usize = 16;

/// Blocks to be written, and which of them the medium holds already.
pub(super) struct Probed {
    pub unpacked: Unpacked<Chunk>,
    held: Vec<bool>,
}

impl Probed {
    /// How many blocks the medium holds already.
    pub fn unchanged(&self) -> u64 {
        self.held.iter().filter(|held| **held).count() as u64
    }

    /// Writes the blocks that the medium does not hold, neighbours together.
    pub fn write(&self, io: &mut impl BlockIo) -> Result<(), EngineError> {
        // Bytes before `start` are done, those from there to `at` are still to be written.
        let (mut start, mut at) = (0, 0);
        for (block, held) in self.unpacked.run().blocks().iter().zip(&self.held) {
            let end = at + block.len as usize;
            if *held {
                self.write_piece(io, start, at)?;
                start = end;
            }
            at = end;
        }
        self.write_piece(io, start, at)
    }

    fn write_piece(
        &self,
        io: &mut impl BlockIo,
        start: usize,
        end: usize,
    ) -> Result<(), EngineError> {
        let chunk = self.unpacked.run();
        let Some(piece) = chunk
            .bytes()
            .get(start..end)
            .filter(|piece| !piece.is_empty())
        else {
            return Ok(());
        };
        let lba = (chunk.offset() + start as u64) / io.sector_size().bytes();
        io.write_sectors(lba, piece)
            .map_err(|cause| EngineError::slot("write slot", &cause))
    }
}

/// Finds out what the medium holds.
pub(super) struct Prober<R> {
    io: R,
    /// A block as the medium holds it.
    old: AlignedBuf,
    /// Blocks since the last one that the medium held.
    misses: usize,
}

impl<R: BlockIo> Prober<R> {
    pub fn new(io: R, block_size: u32) -> Self {
        Self {
            io,
            old: AlignedBuf::new(block_size as usize),
            misses: 0,
        }
    }

    pub fn probe(&mut self, unpacked: Unpacked<Chunk>) -> Probed {
        let mut held = Vec::with_capacity(unpacked.run().blocks().len());
        for (block, new) in unpacked.run().iter() {
            let worth_it = held.is_empty() || self.misses < PATIENCE;
            let holds = worth_it && self.holds(block.offset, new);
            match holds {
                true => self.misses = 0,
                false => self.misses = self.misses.saturating_add(1),
            }
            held.push(holds);
        }
        Probed { held, unpacked }
    }

    /// Whether the medium holds a block already. One that can't be read is written: that may well cure it.
    fn holds(&mut self, offset: u64, new: &[u8]) -> bool {
        let probe = PROBE.min(new.len());
        self.matches(offset, new.get(..probe).unwrap_or_default()) && self.matches(offset, new)
    }

    fn matches(&mut self, offset: u64, new: &[u8]) -> bool {
        let lba = offset / self.io.sector_size().bytes();
        let Some(old) = self.old.get_mut(..new.len()) else {
            return false;
        };
        self.io.read_sectors(lba, old).is_ok() && old == new
    }
}

/// Reads the blocks of a planned chunk.
pub(super) fn read(io: &mut impl BlockIo, chunk: &mut Chunk) -> Result<(), EngineError> {
    let lba = chunk.offset() / io.sector_size().bytes();
    let (_, bytes) = chunk.parts_mut();
    io.read_sectors(lba, bytes)
        .map_err(|cause| EngineError::slot("read slot back", &cause))
}
