//! The disk or file that is written to.

mod users;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Advice, FallocateFlags};

use super::Source;
use crate::failure::refuse;
use crate::output::Output;

/// A disk that nobody else uses, or a plain file.
#[derive(Debug)]
pub struct Target {
    pub(super) file: File,
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Maker's name, of a real disk that tells it.
    pub model: Option<String>,
    /// Bytes in a sector of a real disk.
    sector: Option<u64>,
    /// A file that is not there before it is written.
    new: Option<Output>,
}

/// In the kernel's `fcntl.h`: on a block device, nobody else may claim it or a partition of it.
const O_EXCL: i32 = 0o200;

impl Target {
    /// Opens a disk exclusively, or a file. A file that does not exist will be `size` bytes long, and is there once it
    /// has been written.
    ///
    /// # Errors
    /// The disk or a partition of it is mounted or used otherwise; it is a partition; it can't be opened.
    pub fn open(path: &Path, size: u64) -> Result<Self> {
        let name = path.display().to_string();
        let failed = || format!("open {name}");
        match path.metadata() {
            Ok(meta) if meta.file_type().is_block_device() => Self::open_disk(path, name),
            Ok(meta) if meta.is_file() => {
                let file = OpenOptions::new().read(true).write(true).open(path);
                Self::plain(file.with_context(failed)?, name)
            }
            Ok(_) => bail!("open {name}: neither a disk nor a plain file"),
            Err(e) if e.kind() == io::ErrorKind::NotFound && !path.starts_with("/dev") => {
                let new = Output::create_new(path, 0o644)?;
                let file = new.file().try_clone().with_context(failed)?;
                file.set_len(size).with_context(failed)?;
                let mut target = Self::plain(file, name)?;
                target.new = Some(new);
                Ok(target)
            }
            Err(e) => Err(e).with_context(failed),
        }
    }

    fn plain(mut file: File, name: String) -> Result<Self> {
        let size = file
            .seek(SeekFrom::End(0))
            .with_context(|| format!("open {name}"))?;
        Ok(Self {
            file,
            name,
            size,
            model: None,
            sector: None,
            new: None,
        })
    }

    fn open_disk(path: &Path, name: String) -> Result<Self> {
        let failed = || format!("open {name}");
        let sys = sys_folder(path).with_context(failed)?;
        if sys.join("partition").exists() {
            refuse!("write {name}: it is a partition, not a disk");
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(O_EXCL);
        let file = match options.open(path) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                let mounted = users::mounted(&sys);
                if mounted.is_empty() {
                    refuse!("write {name}: it is in use: swap, or a part of another device");
                }
                refuse!("write {name}: it is in use: {}", mounted.join(", "));
            }
            result => result.with_context(failed)?,
        };
        let model = ["device/model", "device/name"]
            .iter()
            .find_map(|file| read_line(&sys.join(file)));
        let sector = read_line(&sys.join("queue/logical_block_size"));
        Ok(Self {
            model,
            sector: sector.and_then(|s| s.parse().ok()),
            ..Self::plain(file, name)?
        })
    }

    /// Whether `source` can go there. Writes nothing.
    ///
    /// # Errors
    /// It is the image itself, too small, or has other sectors.
    pub fn check(&self, source: &Source) -> Result<()> {
        let meta = |file: &File| {
            file.metadata()
                .with_context(|| format!("look at {}", self.name))
        };
        let (ours, theirs) = (meta(&self.file)?, meta(&source.file)?);
        if (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()) {
            refuse!("write {}: it is the image itself", self.name);
        }
        if self.size < source.size {
            refuse!(
                "write {}: it has {} bytes, the image {}",
                self.name,
                self.size,
                source.size
            );
        }
        let wanted = source.sector_size.bytes();
        match self.sector {
            Some(sector) if sector != wanted => refuse!(
                "write {}: its sectors have {sector} bytes, the image is for {wanted} (build --sector-size)",
                self.name
            ),
            _ if !self.size.is_multiple_of(wanted) => refuse!(
                "write {}: its {} bytes are not whole sectors of {wanted}",
                self.name,
                self.size
            ),
            _ => Ok(()),
        }
    }

    /// The last step: a new file gets its name.
    pub(super) fn finish(self) -> Result<()> {
        self.new.map_or(Ok(()), Output::commit)
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file
            .write_all_at(bytes, at)
            .with_context(|| format!("write {} bytes at {at} of {}", bytes.len(), self.name))
    }

    pub(super) fn read(&self, buf: &mut [u8], at: u64) -> Result<()> {
        self.file
            .read_exact_at(buf, at)
            .with_context(|| format!("read {} bytes at {at} of {}", buf.len(), self.name))
    }

    /// Makes a range read as zeros, as cheaply as the disk allows.
    pub(super) fn zero(&self, at: u64, len: u64) -> Result<()> {
        let flags = match self.sector {
            Some(_) => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            None => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        };
        if len == 0 || rustix::fs::fallocate(&self.file, flags, at, len).is_ok() {
            return Ok(());
        }
        let zeros = vec![0; 1 << 20];
        let mut done = 0;
        while done < len {
            let part = usize::try_from(len - done).map_or(zeros.len(), |n| n.min(zeros.len()));
            self.write(&zeros[..part], at + done)?;
            done += part as u64;
        }
        Ok(())
    }

    /// Everything on the medium, and later reads from there.
    pub(super) fn flush(&self) -> Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("flush {}", self.name))?;
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed)
            .map_err(io::Error::from)
            .with_context(|| format!("drop cached bytes of {}", self.name))
    }
}

fn sys_folder(path: &Path) -> io::Result<PathBuf> {
    let number = path.metadata()?.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    Ok(PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
}

fn read_line(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
