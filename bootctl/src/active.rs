//! Which slot is running, and which partitions of a disk are in use, as the kernel's mount table tells it.
//!
//! The running slot is what lies under `/usr`: the bottom block-device mount there, by device number. Extensions that
//! are merged above it (overlays) do not count, nor do labels and UUIDs, of which there may be two.

mod mountinfo;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

pub use mountinfo::{Mount, bottom_block_mount, mounts};

use crate::Slot;
use crate::disk::sysfs::Sysfs;
use crate::disk::{DeviceNumber, Disk};

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Mapped devices lie on each other no deeper than this.
const DEPTH: u32 = 8;

/// Why the running slot can't be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ActiveError {
    #[error("read {path}: {cause}")]
    Read { path: PathBuf, cause: io::Error },
    #[error("find the running slot: no block device is mounted at /usr")]
    NoUsrMount,
    #[error("find the running slot: device {device} at /usr is not a partition of a disk")]
    NotAPartition { device: DeviceNumber },
    #[error("find device {device}: {cause}")]
    Device {
        device: DeviceNumber,
        cause: io::Error,
    },
}

/// The partition that is mounted at `/usr`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveUsr {
    /// The disk it belongs to.
    pub disk: DeviceNumber,
    /// The disk's node, say `/dev/vda`.
    pub disk_path: PathBuf,
    /// Number in the disk's partition table.
    pub partition: u32,
}

impl ActiveUsr {
    /// The slot, if it is one of the two USR partitions.
    #[must_use]
    pub const fn slot(&self) -> Option<Slot> {
        Slot::from_partition_number(self.partition)
    }
}

/// Finds what is mounted at `/usr` in this process's view of the filesystem.
///
/// # Errors
/// No block device is mounted there, or it is not a partition.
pub fn active_usr() -> Result<ActiveUsr, ActiveError> {
    active_usr_in(&read_mountinfo()?, &Sysfs::default())
}

/// The slot that runs from this disk; `None` if the machine runs from another one, or from none.
///
/// # Errors
/// The mount table or the kernel's device tree can't be read.
pub fn active_slot(disk: &Disk) -> Result<Option<Slot>, ActiveError> {
    let Some(device) = disk.device() else {
        return Ok(None);
    };
    match active_usr() {
        Ok(usr) if usr.disk == device => Ok(usr.slot()),
        Ok(_) | Err(ActiveError::NoUsrMount | ActiveError::NotAPartition { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Numbers of the partitions of this disk that are mounted, directly or through mapped devices, sorted; 0 stands for
/// the disk as a whole. For a plain file those of the loop devices on it.
///
/// # Errors
/// The mount table or the kernel's device tree can't be read.
pub fn mounted_partitions(disk: &Disk) -> Result<Vec<u32>, ActiveError> {
    let file = fs::canonicalize(disk.path()).map_err(|cause| ActiveError::Read {
        path: disk.path().to_owned(),
        cause,
    })?;
    let target = disk.device().map_or(Target::Image(&file), Target::Device);
    mounted_partitions_in(&read_mountinfo()?, &Sysfs::default(), target)
}

/// The disk whose mounts are looked for.
#[derive(Clone, Copy)]
enum Target<'a> {
    Device(DeviceNumber),
    Image(&'a Path),
}

fn read_mountinfo() -> Result<String, ActiveError> {
    // Paths need not be Unicode; what isn't becomes something that is not `/usr`.
    let bytes = fs::read(MOUNTINFO).map_err(|cause| ActiveError::Read {
        path: MOUNTINFO.into(),
        cause,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn active_usr_in(mountinfo: &str, sysfs: &Sysfs) -> Result<ActiveUsr, ActiveError> {
    let mounted = bottom_block_mount(mountinfo, "/usr").ok_or(ActiveError::NoUsrMount)?;
    let mut device = mounted.device;
    let failed = |device| move |cause| ActiveError::Device { device, cause };
    for _ in 0..DEPTH {
        if let Some(partition) = sysfs.partition(device).map_err(failed(device))? {
            let node = sysfs.node(partition.disk).map_err(failed(partition.disk))?;
            return Ok(ActiveUsr {
                disk: partition.disk,
                disk_path: Path::new("/dev").join(node),
                partition: partition.number,
            });
        }
        match sysfs.slaves(device).map_err(failed(device))?.as_slice() {
            [only] => device = *only,
            _ => break,
        }
    }
    Err(ActiveError::NotAPartition { device })
}

fn mounted_partitions_in(
    mountinfo: &str,
    sysfs: &Sysfs,
    target: Target<'_>,
) -> Result<Vec<u32>, ActiveError> {
    let mut found = Vec::new();
    for mount in mounts(mountinfo) {
        if let Some(device) = block_device(&mount) {
            collect(sysfs, device, target, DEPTH, &mut found)
                .map_err(|cause| ActiveError::Device { device, cause })?;
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The block device of a mount. Some filesystems (btrfs) show a number of their own and the device as their source.
fn block_device(mount: &Mount<'_>) -> Option<DeviceNumber> {
    if mount.device.major != 0 {
        return Some(mount.device);
    }
    if !mount.source.starts_with("/dev/") {
        return None;
    }
    let metadata = fs::metadata(mount.source).ok()?;
    let block = metadata.file_type().is_block_device();
    block.then(|| DeviceNumber::from_raw(metadata.rdev()))
}

/// Adds the partition of `target` that `device` is, or those it lies on.
fn collect(
    sysfs: &Sysfs,
    device: DeviceNumber,
    target: Target<'_>,
    depth: u32,
    found: &mut Vec<u32>,
) -> io::Result<()> {
    let partition = match sysfs.partition(device) {
        Ok(partition) => partition,
        // Not a block device, or gone since the mount table was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let disk = partition.as_ref().map_or(device, |p| p.disk);
    let same = match target {
        Target::Device(wanted) => disk == wanted,
        Target::Image(wanted) => sysfs.backing_file(disk)?.is_some_and(|file| file == wanted),
    };
    if same {
        found.push(partition.map_or(0, |p| p.number));
    } else if let Some(depth) = depth.checked_sub(1) {
        for below in sysfs.slaves(device)? {
            collect(sysfs, below, target, depth, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sysfs::tests::{DISK, LOOP, MAPPED, tree};

    fn usr(device: &str) -> String {
        format!("30 1 {device} / /usr ro - ext4 /dev/something ro\n")
    }

    #[test]
    fn the_running_slot_is_found_by_device_number() {
        let tree = tree();
        let sysfs = Sysfs::at(tree.path());
        let expected = |partition| ActiveUsr {
            disk: DISK,
            disk_path: "/dev/vda".into(),
            partition,
        };
        assert_eq!(active_usr_in(&usr("254:3"), &sysfs).unwrap(), expected(3));
        assert_eq!(
            active_usr_in(&usr("254:3"), &sysfs).unwrap().slot(),
            Some(Slot::A)
        );
        // A mapped device stands for the one partition below it.
        assert_eq!(
            active_usr_in(&usr(&MAPPED.to_string()), &sysfs).unwrap(),
            expected(4)
        );
        assert_eq!(active_usr_in(&usr("254:12"), &sysfs).unwrap().slot(), None);
        let whole = active_usr_in(&usr("254:0"), &sysfs);
        assert!(matches!(
            whole,
            Err(ActiveError::NotAPartition { device: DISK })
        ));
        let none = active_usr_in("30 1 254:3 / / ro - ext4 /dev/vda3 ro\n", &sysfs);
        assert!(matches!(none, Err(ActiveError::NoUsrMount)));
        assert!(matches!(
            active_usr_in(&usr("8:1"), &sysfs),
            Err(ActiveError::Device { .. })
        ));
    }

    #[test]
    fn mounted_partitions_are_those_of_this_disk() {
        let tree = tree();
        let sysfs = Sysfs::at(tree.path());
        let text = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 254:12 / /a rw - ext4 /dev/vda12 rw\n\
            3 1 253:1 / /b rw - ext4 /dev/mapper/b rw\n\
            4 1 253:1 / /c rw - ext4 /dev/mapper/b rw\n\
            5 1 0:25 / /proc rw - proc proc rw\n\
            6 1 259:7 / /mnt rw - ext4 /dev/loop5p3 rw\n";
        let mounted = |target| mounted_partitions_in(text, &sysfs, target).unwrap();
        assert_eq!(mounted(Target::Device(DISK)), [4, 12]);
        assert_eq!(mounted(Target::Device(LOOP)), [3]);
        assert_eq!(mounted(Target::Image(Path::new("/images/disk 1.img"))), [3]);
        assert_eq!(
            mounted(Target::Image(Path::new("/images/disk 2.img"))),
            [0_u32; 0]
        );
    }
}
