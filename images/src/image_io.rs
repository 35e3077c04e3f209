//! A plain file as a disk, for checks and records while it is built.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bootctl::{BlockIo, SectorSize};

/// A file whose length is a whole number of sectors. Flushing is left to the file's owner.
#[derive(Debug)]
pub struct ImageIo<'a> {
    file: &'a File,
    sector_size: SectorSize,
    sector_count: u64,
}

impl<'a> ImageIo<'a> {
    /// The whole of `file`, `len` bytes.
    #[must_use]
    pub const fn new(file: &'a File, sector_size: SectorSize, len: u64) -> Self {
        Self {
            file,
            sector_size,
            sector_count: len / sector_size.bytes(),
        }
    }

    fn offset(&self, lba: u64, len: usize) -> io::Result<u64> {
        let sectors = (len / self.sector_size.len()) as u64;
        lba.checked_add(sectors)
            .filter(|&end| end <= self.sector_count && len.is_multiple_of(self.sector_size.len()))
            .map(|_| lba * self.sector_size.bytes())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    }
}

impl BlockIo for ImageIo<'_> {
    type Error = io::Error;

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn sector_count(&self) -> u64 {
        self.sector_count
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, self.offset(lba, buf.len())?)
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.offset(lba, data.len())?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
