//! Whole-sector transfers on an open file, past the page cache where the filesystem allows it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, OFlag, PosixFadviseAdvice, fcntl, posix_fadvise};
use nix::libc;

use super::{Access, AlignedBuf, DiskError};
use crate::SectorSize;

/// Unaligned transfers are copied in pieces of this size.
const BOUNCE: usize = 128 * 1024;

/// A window of `sectors` sectors that starts `base` bytes into an open file.
pub(super) struct RawIo {
    pub path: PathBuf,
    pub file: File,
    pub access: Access,
    pub sector: SectorSize,
    pub base: u64,
    pub sectors: u64,
    /// The open file bypasses the page cache; shared by all windows on it.
    pub direct: Arc<AtomicBool>,
    bounce: Option<AlignedBuf>,
}

/// Opens a file past the page cache, or through it where the filesystem refuses that.
pub(super) fn open(path: &Path, access: Access, flags: OFlag) -> io::Result<(File, bool)> {
    let open = |flags: OFlag| {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(access == Access::Write)
            .custom_flags(flags.bits());
        options.open(path)
    };
    match open(flags | OFlag::O_DIRECT) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok((open(flags)?, false)),
        Err(error) => Err(error),
    }
}

impl RawIo {
    pub fn new(path: &Path, file: File, direct: bool, access: Access, sector: SectorSize) -> Self {
        Self {
            path: path.to_owned(),
            file,
            access,
            sector,
            base: 0,
            sectors: 0,
            direct: Arc::new(AtomicBool::new(direct)),
            bounce: None,
        }
    }

    /// Another window on the same open file; `first + sectors` must lie within this one.
    pub fn window(&self, first: u64, sectors: u64, access: Access) -> Result<Self, DiskError> {
        let out = || DiskError::OutOfRange {
            path: self.path.clone(),
            lba: first,
            length: usize::try_from(sectors).unwrap_or(usize::MAX),
            sectors: self.sectors,
        };
        if first
            .checked_add(sectors)
            .is_none_or(|end| end > self.sectors)
        {
            return Err(out());
        }
        let start = first.checked_mul(self.sector.bytes()).ok_or_else(out)?;
        let file = self.file.try_clone();
        let path = self.path.clone();
        Ok(Self {
            file: file.map_err(|cause| DiskError::Open {
                path: path.clone(),
                cause,
            })?,
            path,
            access: if self.access == Access::Read {
                Access::Read
            } else {
                access
            },
            sector: self.sector,
            base: self.base.checked_add(start).ok_or_else(out)?,
            sectors,
            direct: Arc::clone(&self.direct),
            bounce: None,
        })
    }

    pub fn read(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), DiskError> {
        let offset = self.offset(lba, buf.len())?;
        let length = buf.len();
        let done = if self.is_direct() && !self.accepts(buf) {
            let mut bounce = self.take_bounce();
            let mut pieces = buf.chunks_mut(bounce.len());
            let done = pieces.try_fold(offset, |at, piece| {
                let through = bounce.get_mut(..piece.len()).unwrap_or_default();
                self.read_fully(at, through)?;
                piece.copy_from_slice(through);
                Ok(at.saturating_add(piece.len() as u64))
            });
            self.bounce = Some(bounce);
            done.map(drop)
        } else {
            self.read_fully(offset, buf)
        };
        done.map_err(|cause| DiskError::Read {
            path: self.path.clone(),
            offset,
            length,
            cause,
        })
    }

    pub fn write(&mut self, lba: u64, data: &[u8]) -> Result<(), DiskError> {
        let offset = self.offset(lba, data.len())?;
        let length = data.len();
        if self.access == Access::Read {
            return Err(DiskError::ReadOnly {
                path: self.path.clone(),
                offset,
                length,
            });
        }
        let done = if self.is_direct() && !self.accepts(data) {
            let mut bounce = self.take_bounce();
            let mut pieces = data.chunks(bounce.len());
            let done = pieces.try_fold(offset, |at, piece| {
                let through = bounce.get_mut(..piece.len()).unwrap_or_default();
                through.copy_from_slice(piece);
                self.write_fully(at, through)?;
                Ok(at.saturating_add(piece.len() as u64))
            });
            self.bounce = Some(bounce);
            done.map(drop)
        } else {
            self.write_fully(offset, data)
        };
        done.map_err(|cause| DiskError::Write {
            path: self.path.clone(),
            offset,
            length,
            cause,
        })
    }

    /// Everything written is on the medium afterwards, and reads come from there.
    pub fn flush(&mut self) -> Result<(), DiskError> {
        let failed = |cause| DiskError::Flush {
            path: self.path.clone(),
            cause,
        };
        self.file.sync_data().map_err(failed)?;
        if !self.is_direct() {
            // Only a hint for the read-back: what the cache keeps nevertheless has just been written out.
            let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        Ok(())
    }

    pub fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    fn offset(&self, lba: u64, length: usize) -> Result<u64, DiskError> {
        let sector = self.sector.bytes();
        let end = (length as u64).div_ceil(sector).checked_add(lba);
        let within =
            length.is_multiple_of(self.sector.len()) && end.is_some_and(|e| e <= self.sectors);
        within
            .then(|| lba.checked_mul(sector)?.checked_add(self.base))
            .flatten()
            .ok_or_else(|| DiskError::OutOfRange {
                path: self.path.clone(),
                lba,
                length,
                sectors: self.sectors,
            })
    }

    /// The device can reach this memory itself.
    fn accepts(&self, memory: &[u8]) -> bool {
        memory.as_ptr().align_offset(self.sector.len()) == 0
    }

    fn take_bounce(&mut self) -> AlignedBuf {
        self.bounce
            .take()
            .unwrap_or_else(|| AlignedBuf::new(BOUNCE))
    }

    fn read_fully(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let length = buf.len();
        transfer(self, length, |done| {
            let rest = buf.get_mut(done..).unwrap_or_default();
            self.file.read_at(rest, offset.saturating_add(done as u64))
        })
    }

    fn write_fully(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        transfer(self, data.len(), |done| {
            let rest = data.get(done..).unwrap_or_default();
            self.file.write_at(rest, offset.saturating_add(done as u64))
        })
    }

    /// Goes on through the page cache, for good. Some filesystems accept `O_DIRECT` and then refuse the transfers.
    fn give_up_direct(&self) -> io::Result<()> {
        let flags = fcntl(&self.file, FcntlArg::F_GETFL)?;
        let flags = OFlag::from_bits_retain(flags) - OFlag::O_DIRECT;
        fcntl(&self.file, FcntlArg::F_SETFL(flags))?;
        self.direct.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// Repeats `step`, which is told how many bytes are done, until `length` are. What a short transfer did to the last
/// sector it touched is not relied on.
fn transfer(
    raw: &RawIo,
    length: usize,
    mut step: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0_usize;
    while done < length {
        match step(done) {
            Ok(0) => {
                let text = format!("nothing more after {done} bytes");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(count) => {
                let whole = count - count % raw.sector.len();
                if whole == 0 && count + done < length {
                    let text = format!("only {count} bytes of a sector after {done} bytes");
                    return Err(io::Error::other(text));
                }
                done = done.saturating_add(whole);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && raw.is_direct() => {
                raw.give_up_direct()?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
