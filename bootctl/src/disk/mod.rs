//! Disks and images of disks, reached past the page cache.

mod buf;
mod error;
mod partition;
mod raw;
pub(crate) mod sysfs;
#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

pub use buf::{ALIGNMENT, AlignedBuf};
pub use error::DiskError;
pub use partition::PartitionIo;
pub use sysfs::DeviceNumber;

use self::raw::RawIo;
use crate::{BlockIo, SectorSize, ioctl};

/// How long [`Disk::lock`] waits for other programs when nobody says otherwise.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What a disk is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// A whole disk, or a plain file that holds an image of one.
///
/// Transfers bypass the page cache; buffers that are not aligned as [`AlignedBuf`] is are copied on the way. Where the
/// filesystem of an image refuses that, a flush also drops the cache, so that what is read afterwards comes from the
/// medium. A plain file that does not end with a whole sector is used up to its last whole one.
pub struct Disk {
    raw: RawIo,
    device: Option<DeviceNumber>,
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.raw.path)
            .field("device", &self.device)
            .field("sector", &self.raw.sector)
            .field("sectors", &self.raw.sectors)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens a block device or a plain file. The sector size of a plain file is where its partition table is found,
    /// 512 bytes if nowhere.
    ///
    /// # Errors
    /// The path can't be opened, is something else, or has sectors of another size.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self, DiskError> {
        Self::open_with(path.as_ref(), access, None)
    }

    /// Opens a plain file whose sector size is known, say because it holds no table yet; for a block device the size
    /// must be the device's.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn open_sized(
        path: impl AsRef<Path>,
        access: Access,
        sector: SectorSize,
    ) -> Result<Self, DiskError> {
        Self::open_with(path.as_ref(), access, Some(sector))
    }

    fn open_with(
        path: &Path,
        access: Access,
        wanted: Option<SectorSize>,
    ) -> Result<Self, DiskError> {
        let failed = |cause| DiskError::Open {
            path: path.to_owned(),
            cause,
        };
        // A fifo would block until somebody opens its other end.
        let (mut file, direct) = raw::open(path, access, OFlag::O_NONBLOCK).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let kind = metadata.file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err(DiskError::NotADisk {
                path: path.to_owned(),
            });
        }
        let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let device = kind
            .is_block_device()
            .then(|| DeviceNumber::from_raw(metadata.rdev()));
        let mut sector = wanted.unwrap_or(SectorSize::B512);
        if device.is_some() {
            let bytes = ioctl::logical_sector_size(&file).map_err(failed)?;
            let found = SectorSize::new(bytes).filter(|found| wanted.is_none_or(|w| w == *found));
            sector = found.ok_or(DiskError::SectorSize {
                path: path.to_owned(),
                bytes,
            })?;
        }
        let mut raw = RawIo::new(path, file, direct, access, sector);
        raw.sectors = length / sector.bytes();
        if device.is_none() && wanted.is_none() {
            sector = detect_sector_size(&mut raw)?;
            raw.sector = sector;
            raw.sectors = length / sector.bytes();
        }
        Ok(Self { raw, device })
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.raw.path
    }

    /// What it was opened for.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.raw.access
    }

    /// Number of the block device; `None` for a plain file.
    #[must_use]
    pub const fn device(&self) -> Option<DeviceNumber> {
        self.device
    }

    /// Transfers bypass the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.raw.is_direct()
    }

    /// The open file, for the requests in [`ioctl`].
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.raw.file
    }

    /// Locks the whole disk with `flock`, as udev and partitioning tools do, for as long as the guard lives; waits up
    /// to `patience` ([`LOCK_PATIENCE`]). Held only around a commit.
    ///
    /// # Errors
    /// Somebody else held the lock all the time: `cause` is of the kind `WouldBlock`.
    pub fn lock(&self, patience: Duration) -> Result<FlockGuard, DiskError> {
        let failed = |cause| DiskError::Lock {
            path: self.raw.path.clone(),
            cause,
        };
        let file = self.raw.file.try_clone().map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(FlockGuard { file }),
                Err(TryLockError::Error(cause)) if cause.kind() != io::ErrorKind::Interrupted => {
                    return Err(failed(cause));
                }
                Err(_) if start.elapsed() >= patience => {
                    let text = format!("another program held it for {} s", patience.as_secs());
                    return Err(failed(io::Error::new(io::ErrorKind::WouldBlock, text)));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl BlockIo for Disk {
    type Error = DiskError;

    fn sector_size(&self) -> SectorSize {
        self.raw.sector
    }

    fn sector_count(&self) -> u64 {
        self.raw.sectors
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        self.raw.read(lba, buf)
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        self.raw.write(lba, data)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        self.raw.flush()
    }
}

/// Keeps the whole disk locked; unlocks it when dropped.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct FlockGuard {
    /// The disk's own open file, which the lock belongs to.
    file: File,
}

impl Drop for FlockGuard {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            log::warn!("unlock disk: {error}");
        }
    }
}

/// Looks for the signature of a partition table where either sector size puts it: at the start, then at the end.
fn detect_sector_size(raw: &mut RawIo) -> Result<SectorSize, DiskError> {
    const SIGNATURE: &[u8] = b"EFI PART";
    let length = raw.sectors.saturating_mul(raw.sector.bytes());
    let last = |size: u64| (length / size).checked_sub(1).map(|lba| lba * size);
    for (offset, size) in [
        (Some(512), SectorSize::B512),
        (Some(4096), SectorSize::B4096),
        (last(512), SectorSize::B512),
        (last(4096), SectorSize::B4096),
    ] {
        let Some(lba) = offset.map(|at| at / 512).filter(|lba| *lba < raw.sectors) else {
            continue;
        };
        let mut buf = [0; 512];
        raw.read(lba, &mut buf)?;
        if buf.starts_with(SIGNATURE) {
            return Ok(size);
        }
    }
    Ok(SectorSize::B512)
}
