//! A disk in memory.

use bootctl::{BlockIo, SectorSize};

#[derive(Clone, Debug)]
pub struct Memory {
    pub sector: SectorSize,
    pub bytes: Vec<u8>,
}

impl Memory {
    fn range(&self, lba: u64, len: usize) -> Result<std::ops::Range<usize>, String> {
        let out = || format!("{len} bytes at sector {lba} of {}", self.sector_count());
        let start = lba.checked_mul(self.sector.bytes()).ok_or_else(out)?;
        let start = usize::try_from(start).map_err(|_| out())?;
        let end = start
            .checked_add(len)
            .filter(|end| *end <= self.bytes.len());
        let whole = len.is_multiple_of(self.sector.len());
        end.filter(|_| whole).map(|end| start..end).ok_or_else(out)
    }
}

impl BlockIo for Memory {
    type Error = String;

    fn sector_size(&self) -> SectorSize {
        self.sector
    }

    fn sector_count(&self) -> u64 {
        self.bytes.len() as u64 / self.sector.bytes()
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), String> {
        let range = self.range(lba, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), String> {
        let range = self.range(lba, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}
