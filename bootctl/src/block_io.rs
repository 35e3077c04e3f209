//! How the core reaches a disk: whole sectors, explicit flushes, nothing else.

use core::fmt;

/// Logical sector size of a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SectorSize {
    B512,
    B4096,
}

impl SectorSize {
    /// `None` unless 512 or 4096.
    #[must_use]
    pub const fn new(bytes: u64) -> Option<Self> {
        match bytes {
            512 => Some(Self::B512),
            4096 => Some(Self::B4096),
            _ => None,
        }
    }

    /// 512 or 4096.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.len() as u64
    }

    /// 512 or 4096, as a buffer length.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a sector is never empty")]
    pub const fn len(self) -> usize {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// A disk, a partition of one, or a model of either.
///
/// Buffers are whole sectors; an implementation refuses others, and access past the end, with an error. A write may
/// stay in a volatile cache until [`flush`](Self::flush) has returned without error, and survives a power cut or not,
/// as a whole or in part, until then. Reads return what was written last, from the medium rather than from a cache
/// where the implementation can arrange it.
pub trait BlockIo {
    /// What went wrong, with the object's name and the operating system's reason.
    type Error: fmt::Debug + fmt::Display;

    /// Logical sector size.
    fn sector_size(&self) -> SectorSize;

    /// Size in sectors.
    fn sector_count(&self) -> u64;

    /// Fills `buf` from the sectors that start at `lba`. Touches the disk.
    ///
    /// # Errors
    /// The medium can't be read, or the range is not within it.
    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `data` to the sectors that start at `lba`, durable only after a flush. Touches the disk.
    ///
    /// # Errors
    /// The medium can't be written, or the range is not within it; how much was written is unknown then.
    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), Self::Error>;

    /// Returns once everything written before is on the medium. Touches the disk.
    ///
    /// # Errors
    /// The device reports that some of it is not; nothing written since the last flush may be relied on.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

impl<T: BlockIo + ?Sized> BlockIo for &mut T {
    type Error = T::Error;

    fn sector_size(&self) -> SectorSize {
        (**self).sector_size()
    }

    fn sector_count(&self) -> u64 {
        (**self).sector_count()
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read_sectors(lba, buf)
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), Self::Error> {
        (**self).write_sectors(lba, data)
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        (**self).flush()
    }
}
