//! Mounting: the kernel's filesystems, ROOT, the slot.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use bootctl::ioctl;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount, umount};

use super::say;

/// Mounted in the initramfs and later moved into the new root.
pub const KERNEL_FILESYSTEMS: [(&str, &str); 3] =
    [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")];

/// In the initramfs; statically linked.
const E2FSCK: &str = "/sbin/e2fsck";

/// In the initramfs while that runs.
pub const MENDING: &str = "/.tandem-mending";

/// What a slot's image may be.
const IMAGE_TYPES: [&str; 2] = ["ext4", "squashfs"];

/// Mounts `/proc`, `/sys` and `/dev`.
///
/// # Errors
/// One of them can't be mounted.
pub fn kernel_filesystems() -> Result<()> {
    for (kind, target) in KERNEL_FILESYSTEMS {
        fs::create_dir_all(target).with_context(|| format!("create {target}"))?;
        let flags = match kind {
            "devtmpfs" => MsFlags::MS_NOSUID,
            _ => MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        };
        match mount(Some(kind), target, Some(kind), flags, None::<&str>) {
            // The kernel may have mounted it.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("mount {target}")),
        }
    }
    Ok(())
}

/// Mounts ROOT, and says whether it can be written. ext4 replays its journal by itself; what a torn write left that it
/// refuses is mended by the initramfs' own `e2fsck`, if there is one.
///
/// # Errors
/// It can't be mounted, not even read-only.
pub fn root(node: &Path, target: &Path) -> Result<bool> {
    fs::create_dir_all(target).with_context(|| format!("create {}", target.display()))?;
    let attempt = |flags, options| mount(Some(node), target, Some("ext4"), flags, options);
    let context = || format!("mount ROOT {}", node.display());
    let mut mounted = attempt(MsFlags::empty(), None);
    if let Err(error @ (Errno::EUCLEAN | Errno::EBADMSG | Errno::EINVAL | Errno::EIO)) = mounted {
        say(&format!(
            "mount ROOT {}: {error}; e2fsck mends it",
            node.display()
        ));
        mend(node);
        mounted = attempt(MsFlags::empty(), None);
    }
    match mounted {
        Ok(()) => return Ok(true),
        Err(Errno::EROFS | Errno::EACCES) => {}
        Err(error) => return Err(error).with_context(context),
    }
    say("the disk can't be written, ROOT is read-only");
    // Where the journal would have to be replayed, the filesystem is read as it is.
    attempt(MsFlags::MS_RDONLY, None)
        .or_else(|_| attempt(MsFlags::MS_RDONLY, Some("noload")))
        .with_context(context)?;
    Ok(false)
}

/// Something is mounted there.
pub fn is_mounted(target: &Path) -> bool {
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    let parent = target.parent().and_then(device);
    device(target).is_some_and(|device| Some(device) != parent)
}

/// Takes a ROOT that mounts, and yet is damaged, down, lets `e2fsck` mend it, and mounts it again.
///
/// # Errors
/// It is in use, or can't be mounted any more.
pub fn mend_root(node: &Path, target: &Path) -> Result<()> {
    umount(target).with_context(|| format!("unmount {}", target.display()))?;
    mend(node);
    mount(
        Some(node),
        target,
        Some("ext4"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount ROOT {}", node.display()))
}

/// Lets `e2fsck` mend a filesystem. Whether that helped is for the next mount to say.
fn mend(node: &Path) {
    if let Err(error) = File::create(MENDING) {
        say(&format!("create {MENDING}: {error}"));
    }
    run_e2fsck(node);
    // There is no such file if it could not be made.
    fs::remove_file(MENDING).ok();
}

fn run_e2fsck(node: &Path) {
    match Command::new(E2FSCK).arg("-fy").arg(node).status() {
        Ok(status) => say(&format!("{E2FSCK} -fy {}: {status}", node.display())),
        Err(error) => say(&format!("start {E2FSCK}: {error}")),
    }
}

/// Covers a ROOT that can neither be written nor used with one in memory.
///
/// # Errors
/// It can't be mounted.
pub fn volatile_root(target: &Path) -> Result<()> {
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .with_context(|| format!("mount a tmpfs at {}", target.display()))
}

/// Mounts a slot, read-only.
///
/// # Errors
/// It has no filesystem that a slot may have; the first type's reason is given.
pub fn usr(node: &Path, target: &Path) -> Result<()> {
    let mut reason = None;
    for kind in IMAGE_TYPES {
        match mount(
            Some(node),
            target,
            Some(kind),
            MsFlags::MS_RDONLY,
            None::<&str>,
        ) {
            Ok(()) => return Ok(()),
            Err(error) => {
                reason.get_or_insert(error);
            }
        }
    }
    let reason = reason.map_or_else(|| anyhow!("no type to try"), Into::into);
    Err(reason).with_context(|| format!("mount /usr from {}", node.display()))
}

/// Mounts OEM, read-only and without recovering a journal. Without it a system runs, but misses the maker's keys.
pub fn oem(node: &Path, target: &Path) {
    let mounted = mount(
        Some(node),
        target,
        Some("ext4"),
        MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
        Some("noload"),
    );
    if let Err(error) = mounted {
        say(&format!("mount OEM from {}: {error}", node.display()));
    }
}

/// Lets the filesystem of a mounted ROOT fill its partition. A failure is reported: the system runs in less space.
pub fn grow(node: &Path, mounted: &Path) {
    if let Err(error) = try_grow(node, mounted) {
        say(&format!("grow ROOT: {error:#}"));
    }
}

fn try_grow(node: &Path, mounted: &Path) -> Result<()> {
    let mut device = File::open(node)?;
    let partition = device.seek(SeekFrom::End(0))?;
    let mut superblock = [0; SUPERBLOCK];
    device.seek(SeekFrom::Start(SUPERBLOCK_AT))?;
    device.read_exact(&mut superblock)?;
    let Some(blocks) = growth(&superblock, partition) else {
        return Ok(());
    };
    ioctl::resize_ext4(&File::open(mounted)?, blocks)?;
    say(&format!("ROOT has {blocks} blocks now"));
    Ok(())
}

const SUPERBLOCK_AT: u64 = 1024;
const SUPERBLOCK: usize = 1024;

/// Number of blocks that an ext4 grows to in a partition of so many bytes; `None` if it need not. Fields of the
/// superblock: Linux, `Documentation/filesystems/ext4/super.rst`.
fn growth(superblock: &[u8; SUPERBLOCK], partition: u64) -> Option<u64> {
    let word = |at: usize| -> Option<u32> {
        let bytes = superblock.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
        return None;
    }
    let block_size = 1024_u64
        .checked_shl(word(0x18)?)
        .filter(|s| (1024..=65536).contains(s))?;
    let is_64_bit = word(0x60)? & 0x80 != 0;
    let high = if is_64_bit { word(0x150)? } else { 0 };
    let now = u64::from(high) << 32 | u64::from(word(0x4)?);
    let blocks = partition / block_size;
    (blocks > now).then_some(blocks)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn superblock(size: &str, options: &[&str]) -> [u8; SUPERBLOCK] {
        let file = tempfile::NamedTempFile::new().unwrap();
        let status = Command::new("mke2fs")
            .args(["-q", "-t", "ext4"])
            .args(options)
            .arg(file.path())
            .arg(size)
            .status()
            .unwrap();
        assert!(status.success());
        let image = fs::read(file.path()).unwrap();
        image[1024..2048].try_into().unwrap()
    }

    #[test]
    fn a_filesystem_grows_to_the_whole_blocks_of_its_partition() {
        let four = superblock("8M", &["-b", "4096"]);
        assert_eq!(growth(&four, 8 << 20), None);
        assert_eq!(growth(&four, (8 << 20) + 4095), None);
        assert_eq!(growth(&four, (8 << 20) + 4096), Some(2049));
        assert_eq!(growth(&four, 64 << 20), Some(16384));
        // A partition that is too small is not ours to shrink into.
        assert_eq!(growth(&four, 4 << 20), None);

        let one = superblock("8M", &["-b", "1024", "-O", "^64bit"]);
        assert_eq!(growth(&one, 16 << 20), Some(16384));
    }

    #[test]
    fn what_is_no_ext4_does_not_grow() {
        assert_eq!(growth(&[0; SUPERBLOCK], 1 << 30), None);
        assert_eq!(growth(&[0xff; SUPERBLOCK], 1 << 30), None);
        let mut odd = superblock("8M", &["-b", "4096"]);
        odd[0x18] = 200;
        assert_eq!(growth(&odd, 1 << 30), None);
    }
}
