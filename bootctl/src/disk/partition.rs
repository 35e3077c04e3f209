//! One partition of a disk, held exclusively while it is written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::libc;

use super::raw::{self, RawIo};
use super::sysfs::{DeviceNumber, Sysfs};
use super::{Access, Disk, DiskError};
use crate::gpt::LbaRange;
use crate::{BlockIo, SectorSize, ioctl};

/// A partition, sector 0 being its first.
///
/// On a block device it is the partition's own node. Open for writing it is held exclusively, so that nobody can mount
/// it, and its read-only flag, if init had set it, is lifted until it is closed. On a plain file it is a window.
pub struct PartitionIo {
    raw: RawIo,
    /// The read-only flag was set and has to be set again.
    was_read_only: bool,
}

impl std::fmt::Debug for PartitionIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionIo")
            .field("path", &self.raw.path)
            .field("base", &self.raw.base)
            .field("sectors", &self.raw.sectors)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// Opens a partition whose range was taken from the disk's table.
    ///
    /// # Errors
    /// It lies outside the disk, the kernel does not know it or knows another range, or, for writing, it is in use or
    /// can't be made writable.
    pub fn partition(
        &self,
        number: u32,
        range: LbaRange,
        access: Access,
    ) -> Result<PartitionIo, DiskError> {
        let window = self.raw.window(range.first, range.sectors(), access)?;
        match self.device {
            Some(device) => self.partition_node(device, number, range, access),
            None => Ok(PartitionIo {
                raw: window,
                was_read_only: false,
            }),
        }
    }

    fn partition_node(
        &self,
        disk: DeviceNumber,
        number: u32,
        range: LbaRange,
        access: Access,
    ) -> Result<PartitionIo, DiskError> {
        let path = self.path().to_owned();
        let kernel = Sysfs::default()
            .partition_of(disk, number)
            .map_err(|cause| DiskError::FindPartition {
                path: path.clone(),
                number,
                cause,
            })?;
        let sector = self.sector_size();
        let (start, length) = (kernel.start, kernel.length);
        let bytes = |sectors: u64| sectors.checked_mul(sector.bytes());
        if bytes(range.first) != Some(start) || bytes(range.sectors()) != Some(length) {
            return Err(DiskError::KernelDisagrees {
                path,
                number,
                table: range,
                start,
                length,
            });
        }
        let node = Path::new("/dev").join(&kernel.node);
        let was_read_only = match access {
            Access::Write => lift_read_only(&node, kernel.device)?,
            Access::Read => false,
        };
        let opened = open_node(&node, kernel.device, access);
        if opened.is_err() && was_read_only {
            restore_read_only(&node, kernel.device)?;
        }
        let (file, direct) = opened?;
        let mut raw = RawIo::new(&node, file, direct, access, sector);
        raw.sectors = range.sectors();
        Ok(PartitionIo { raw, was_read_only })
    }
}

impl PartitionIo {
    /// Path of the partition's node, or of the plain file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.raw.path
    }

    /// Transfers bypass the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.raw.is_direct()
    }

    /// Another view of the same open partition, for reading on another thread. The partition stays held exclusively until
    /// it is closed too.
    ///
    /// # Errors
    /// The operating system has no more open files.
    pub fn reader(&self) -> Result<Self, DiskError> {
        let raw = self.raw.window(0, self.raw.sectors, Access::Read)?;
        Ok(Self {
            raw,
            was_read_only: false,
        })
    }

    /// Flushes, makes the partition read-only again if it was, and closes it. Only this reports whether everything
    /// arrived; dropping it instead does not.
    ///
    /// # Errors
    /// The flush failed, or the partition stays writable.
    pub fn finish(mut self) -> Result<(), DiskError> {
        self.raw.flush()?;
        self.close()
    }

    fn close(&mut self) -> Result<(), DiskError> {
        if !std::mem::take(&mut self.was_read_only) {
            return Ok(());
        }
        let path = &self.raw.path;
        ioctl::set_read_only(&self.raw.file, true).map_err(|cause| DiskError::MakeReadOnly {
            path: path.clone(),
            cause,
        })
    }
}

impl Drop for PartitionIo {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            log::warn!("{error}");
        }
    }
}

impl BlockIo for PartitionIo {
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

/// Opens a node, for writing exclusively, and makes sure that it is the device that sysfs spoke of.
fn open_node(node: &Path, device: DeviceNumber, access: Access) -> Result<(File, bool), DiskError> {
    let path = || node.to_owned();
    let flags = if access == Access::Write {
        OFlag::O_EXCL
    } else {
        OFlag::empty()
    };
    let (file, direct) = raw::open(node, access, flags).map_err(|cause| {
        if cause.raw_os_error() == Some(libc::EBUSY) {
            DiskError::InUse { path: path() }
        } else {
            DiskError::Open {
                path: path(),
                cause,
            }
        }
    })?;
    let metadata = file.metadata().map_err(|cause| DiskError::Open {
        path: path(),
        cause,
    })?;
    let found = DeviceNumber::from_raw(metadata.rdev());
    if found != device {
        let cause = io::Error::other(format!("it is device {found}, not {device}"));
        return Err(DiskError::Open {
            path: path(),
            cause,
        });
    }
    Ok((file, direct))
}

/// Clears the read-only flag; a device that has it can't be opened for writing. Returns whether it was set.
fn lift_read_only(node: &Path, device: DeviceNumber) -> Result<bool, DiskError> {
    let failed = |cause| DiskError::MakeWritable {
        path: node.to_owned(),
        cause,
    };
    let (file, _) = open_node(node, device, Access::Read)?;
    if !ioctl::is_read_only(&file).map_err(failed)? {
        return Ok(false);
    }
    // A mounted slot keeps its flag.
    drop(open_exclusively(node)?);
    ioctl::set_read_only(&file, false).map_err(failed)?;
    Ok(true)
}

fn open_exclusively(node: &Path) -> Result<File, DiskError> {
    let opened = raw::open(node, Access::Read, OFlag::O_EXCL);
    opened
        .map(|(file, _)| file)
        .map_err(|cause| match cause.raw_os_error() {
            Some(libc::EBUSY) => DiskError::InUse {
                path: node.to_owned(),
            },
            _ => DiskError::Open {
                path: node.to_owned(),
                cause,
            },
        })
}

fn restore_read_only(node: &Path, device: DeviceNumber) -> Result<(), DiskError> {
    let (file, _) = open_node(node, device, Access::Read)?;
    ioctl::set_read_only(&file, true).map_err(|cause| DiskError::MakeReadOnly {
        path: node.to_owned(),
        cause,
    })
}
