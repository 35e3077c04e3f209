//! The image of a slot: which file systems pass, and what one says about itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use boards::{Board, Filesystem};
use bootctl::SectorSize;
use bootctl::disk::{Access, Disk};
use updater::ext4::{Ext4, Ext4Error};

use crate::ext4::superblock::{self, Superblock};
use crate::failure::refuse;
use crate::os_release::{self, OsRelease};
use crate::tools;

/// Longest `lib/os-release`, in bytes; health takes no longer one.
const OS_RELEASE_MAX: u64 = 64 << 10;

/// An image that the boards' loaders read.
#[derive(Debug)]
pub struct Image {
    pub path: PathBuf,
    pub file: File,
    /// In bytes, a multiple of 4096.
    pub size: u64,
    pub filesystem: Filesystem,
}

impl Image {
    /// Opens an image and holds it to the rules of all `boards`.
    ///
    /// # Errors
    /// It can't be read; its size is no multiple of 4096; it is neither a clean ext4 with features that loaders read
    /// nor a squashfs that is compressed in a way that they read.
    pub fn open(path: &Path, boards: &[&Board]) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("open {shown}"))?;
        let meta = file.metadata().with_context(|| format!("open {shown}"))?;
        ensure!(meta.is_file(), "open {shown}: not a plain file");
        let size = meta.len();
        if size == 0 || !size.is_multiple_of(4096) {
            refuse!("take {shown}: its size of {size} bytes is not a multiple of 4096");
        }
        let mut head = [0; 4096];
        file.read_exact_at(&mut head, 0)
            .with_context(|| format!("read {shown}"))?;
        let filesystem = match judge(&head, size) {
            Ok(filesystem) => filesystem,
            Err(cause) => refuse!("take {shown}: {cause}"),
        };
        for board in boards {
            if !board.filesystems.contains(&filesystem) {
                refuse!(
                    "take {shown}: the loader of {} does not read {filesystem:?}",
                    board.name
                );
            }
        }
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            size,
            filesystem,
        })
    }

    /// What `lib/os-release` inside says; `None` if it isn't there.
    ///
    /// # Errors
    /// The file system is damaged, or `unsquashfs` is missing.
    pub fn os_release(&self) -> Result<Option<OsRelease>> {
        const PATH: &str = "lib/os-release";
        let text = match self.filesystem {
            Filesystem::Ext4 => {
                let shown = self.path.display();
                let disk = Disk::open_sized(&self.path, Access::Read, SectorSize::B512)?;
                let read = Ext4::open(disk).and_then(|mut fs| fs.read(PATH, OS_RELEASE_MAX));
                match read {
                    Ok(text) => text,
                    Err(Ext4Error::NotFound) => return Ok(None),
                    Err(e) => return Err(e).with_context(|| format!("read {PATH} in {shown}")),
                }
            }
            _ => {
                let mut command = tools::command("unsquashfs");
                command.arg("-cat").arg(&self.path).arg(PATH);
                match tools::run(&mut command, "squashfs-tools") {
                    Ok(output) if output.stdout.is_empty() => return Ok(None),
                    Ok(output) => output.stdout,
                    Err(e) if e.to_string().contains("not found; it comes") => return Err(e),
                    Err(_) => return Ok(None),
                }
            }
        };
        Ok(Some(OsRelease::parse(&String::from_utf8_lossy(&text))))
    }

    /// `TANDEM_ROLLBACK_INDEX` of the image, 0 if it has none.
    ///
    /// # Errors
    /// It is no number, or the image can't be read.
    pub fn rollback_index(&self) -> Result<u64> {
        let found = self
            .os_release()?
            .and_then(|release| release.rollback_index);
        found.map_or(Ok(0), |text| {
            text.parse().with_context(|| {
                format!(
                    "take {}: TANDEM_ROLLBACK_INDEX={text} is no number",
                    self.path.display()
                )
            })
        })
    }

    /// Refuses an image that says it is another release; the warning of one that says nothing.
    ///
    /// # Errors
    /// Product, version or index differ, or the image can't be read.
    pub fn check_release(
        &self,
        product: &str,
        version: &str,
        index: u64,
    ) -> Result<Option<String>> {
        let shown = self.path.display();
        let Some(release) = self.os_release()? else {
            return Ok(Some(format!(
                "{shown}: no lib/os-release: it will not pass its own first health check"
            )));
        };
        if let Some(difference) = os_release::contradicts(&release, product, version, index) {
            refuse!(
                "take {shown}: its lib/os-release says {difference} (--product, --version, --rollback-index)"
            );
        }
        let missing = os_release::missing(&release);
        Ok((!missing.is_empty()).then(|| {
            format!(
                "{shown}: its lib/os-release lacks {}: it will not pass its own first health check",
                missing.join(", ")
            )
        }))
    }
}

/// Why an image is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("neither ext4 nor squashfs")]
    Unknown,
    #[error("ext4: {0}")]
    Ext4(superblock::Refusal),
    #[error("squashfs: compressed with {0}; loaders read gzip, xz and lzo")]
    Compression(&'static str),
    #[error("squashfs: it has {needed} bytes, the image {given}")]
    CutShort { needed: u64, given: u64 },
}

fn judge(head: &[u8; 4096], size: u64) -> Result<Filesystem, Refusal> {
    if head.starts_with(b"hsqs") {
        return judge_squashfs(head, size);
    }
    let mut block = [0; superblock::LEN];
    block.copy_from_slice(&head[1024..2048]);
    match Superblock::new(&block) {
        Err(_) => Err(Refusal::Unknown),
        Ok(found) => {
            found.check_bootable(size).map_err(Refusal::Ext4)?;
            Ok(Filesystem::Ext4)
        }
    }
}

/// Super block of squashfs 4.0: compression id at 20, bytes used at 40 (Linux: `squashfs_fs.h` describes the layout).
fn judge_squashfs(head: &[u8; 4096], size: u64) -> Result<Filesystem, Refusal> {
    let name = match u16::from_le_bytes([head[20], head[21]]) {
        1 | 3 | 4 => "",
        2 => "lzma",
        5 => "lz4",
        6 => "zstd",
        _ => "an unknown method",
    };
    if !name.is_empty() {
        return Err(Refusal::Compression(name));
    }
    let mut used = [0; 8];
    used.copy_from_slice(&head[40..48]);
    match u64::from_le_bytes(used) {
        needed if needed > size => Err(Refusal::CutShort {
            needed,
            given: size,
        }),
        _ => Ok(Filesystem::Squashfs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squashfs_needs_a_compression_that_loaders_read() {
        let mut head = [0; 4096];
        head[..4].copy_from_slice(b"hsqs");
        head[40..48].copy_from_slice(&8192_u64.to_le_bytes());
        for (id, good) in [
            (0, false),
            (1, true),
            (2, false),
            (3, true),
            (4, true),
            (6, false),
        ] {
            head[20] = id;
            assert_eq!(judge(&head, 8192).is_ok(), good, "{id}");
        }
        head[20] = 4;
        assert!(matches!(judge(&head, 4096), Err(Refusal::CutShort { .. })));
        assert_eq!(judge(&[0; 4096], 4096), Err(Refusal::Unknown));
    }
}
