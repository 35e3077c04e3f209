//! What goes wrong with disks.

use std::io;
use std::path::PathBuf;

use crate::gpt::LbaRange;

/// Why a disk, an image of one, or a partition can't be used. The text holds the operating system's reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    #[error("open {path}: {cause}")]
    Open { path: PathBuf, cause: io::Error },
    #[error("open {path}: neither a block device nor a plain file")]
    NotADisk { path: PathBuf },
    #[error("open {path}: it is mounted or otherwise in use")]
    InUse { path: PathBuf },
    #[error("open {path}: sectors of {bytes} bytes are not supported, only 512 and 4096")]
    SectorSize { path: PathBuf, bytes: u64 },
    #[error("read {length} bytes of {path} at byte {offset}: {cause}")]
    Read {
        path: PathBuf,
        offset: u64,
        length: usize,
        cause: io::Error,
    },
    #[error("write {length} bytes to {path} at byte {offset}: {cause}")]
    Write {
        path: PathBuf,
        offset: u64,
        length: usize,
        cause: io::Error,
    },
    #[error("write {length} bytes to {path} at byte {offset}: it is open for reading only")]
    ReadOnly {
        path: PathBuf,
        offset: u64,
        length: usize,
    },
    #[error("flush {path}: {cause}")]
    Flush { path: PathBuf, cause: io::Error },
    #[error(
        "access {path}: {length} bytes at sector {lba} are not whole sectors within its {sectors} sectors"
    )]
    OutOfRange {
        path: PathBuf,
        lba: u64,
        length: usize,
        sectors: u64,
    },
    #[error("find partition {number} of {path}: {cause}")]
    FindPartition {
        path: PathBuf,
        number: u32,
        cause: io::Error,
    },
    #[error("open partition {number} of {path}: the table says sectors {} to {}, the kernel {length} bytes at byte {start}", .table.first, .table.last)]
    KernelDisagrees {
        path: PathBuf,
        number: u32,
        table: LbaRange,
        start: u64,
        length: u64,
    },
    #[error("make {path} writable: {cause}")]
    MakeWritable { path: PathBuf, cause: io::Error },
    #[error("make {path} read-only again: {cause}")]
    MakeReadOnly { path: PathBuf, cause: io::Error },
    #[error("lock {path}: {cause}")]
    Lock { path: PathBuf, cause: io::Error },
}
