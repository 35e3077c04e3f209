//! What the kernel knows about block devices: which disk a partition belongs to, and where it lies.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::stat;

/// Number of a block device. Displayed as `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    pub major: u64,
    pub minor: u64,
}

impl DeviceNumber {
    /// From `st_rdev` or `st_dev`.
    #[must_use]
    pub fn from_raw(dev: u64) -> Self {
        Self {
            major: stat::major(dev),
            minor: stat::minor(dev),
        }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The text is not `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device number is `major:minor`")]
pub struct NotADeviceNumber;

impl FromStr for DeviceNumber {
    type Err = NotADeviceNumber;

    fn from_str(text: &str) -> Result<Self, NotADeviceNumber> {
        let (major, minor) = text.split_once(':').ok_or(NotADeviceNumber)?;
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits
                .parse()
                .ok()
                .filter(|_| plain)
                .ok_or(NotADeviceNumber)
        };
        Ok(Self {
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

/// A partition as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPartition {
    pub disk: DeviceNumber,
    pub number: u32,
    pub device: DeviceNumber,
    /// In bytes from the start of the disk.
    pub start: u64,
    /// In bytes.
    pub length: u64,
    /// Name of the node below `/dev`.
    pub node: String,
}

/// `/sys`, or a model of it.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self {
            root: "/sys".into(),
        }
    }
}

impl Sysfs {
    /// A tree somewhere else.
    #[cfg(test)]
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder of a block device.
    pub fn folder(&self, device: DeviceNumber) -> io::Result<PathBuf> {
        fs::canonicalize(self.root.join("dev/block").join(device.to_string()))
    }

    /// The partition that a device number stands for; `None` if it is none, but a whole disk, say.
    pub fn partition(&self, device: DeviceNumber) -> io::Result<Option<KernelPartition>> {
        let folder = self.folder(device)?;
        if !folder.join("partition").exists() {
            return Ok(None);
        }
        let disk = folder
            .parent()
            .ok_or_else(|| strange(&folder, "has no parent"))?;
        let disk = read_parsed(&disk.join("dev"))?;
        read_partition(&folder, disk).map(Some)
    }

    /// The partition of a disk with this number.
    pub fn partition_of(&self, disk: DeviceNumber, number: u32) -> io::Result<KernelPartition> {
        for entry in fs::read_dir(self.folder(disk)?)? {
            let folder = entry?.path();
            if folder.join("partition").exists() {
                let found = read_partition(&folder, disk)?;
                if found.number == number {
                    return Ok(found);
                }
            }
        }
        Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the kernel does not know it",
        ))
    }

    /// The devices that a mapped device lies on.
    pub fn slaves(&self, device: DeviceNumber) -> io::Result<Vec<DeviceNumber>> {
        match fs::read_dir(self.folder(device)?.join("slaves")) {
            Ok(entries) => entries
                .map(|entry| read_parsed(&entry?.path().join("dev")))
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The file behind a loop device.
    pub fn backing_file(&self, device: DeviceNumber) -> io::Result<Option<PathBuf>> {
        match fs::read_to_string(self.folder(device)?.join("loop/backing_file")) {
            Ok(text) => Ok(Some(text.trim_end_matches('\n').into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Name of a device's node below `/dev`.
    pub fn node(&self, device: DeviceNumber) -> io::Result<String> {
        node_name(&self.folder(device)?)
    }
}

fn read_partition(folder: &Path, disk: DeviceNumber) -> io::Result<KernelPartition> {
    // Both are in units of 512 bytes whatever the sector size is.
    let bytes = |name: &str| {
        let path = folder.join(name);
        let units: u64 = read_parsed(&path)?;
        units
            .checked_mul(512)
            .ok_or_else(|| strange(&path, "is too large"))
    };
    Ok(KernelPartition {
        disk,
        number: read_parsed(&folder.join("partition"))?,
        device: read_parsed(&folder.join("dev"))?,
        start: bytes("start")?,
        length: bytes("size")?,
        node: node_name(folder)?,
    })
}

fn node_name(folder: &Path) -> io::Result<String> {
    let path = folder.join("uevent");
    let text = fs::read_to_string(&path)?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map(str::to_owned)
        .ok_or_else(|| strange(&path, "has no DEVNAME"))
}

fn read_parsed<T: FromStr>(path: &Path) -> io::Result<T> {
    let text = fs::read_to_string(path)?;
    text.trim()
        .parse()
        .map_err(|_| strange(path, "can't be understood"))
}

fn strange(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} {what}", path.display()),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    pub(crate) const DISK: DeviceNumber = DeviceNumber {
        major: 254,
        minor: 0,
    };
    pub(crate) const MAPPED: DeviceNumber = DeviceNumber {
        major: 253,
        minor: 1,
    };
    pub(crate) const LOOP: DeviceNumber = DeviceNumber { major: 7, minor: 5 };

    /// A disk with partitions 3, 4 and 12, a device mapped onto partition 4, a loop device with partition 3.
    pub(crate) fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let block = root.join("dev/block");
        fs::create_dir_all(&block).unwrap();
        let device = |folder: &str, number: &str, node: &str, files: &[(&str, &str)]| {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("dev"), format!("{number}\n")).unwrap();
            fs::write(folder.join("uevent"), format!("MAJOR=9\nDEVNAME={node}\n")).unwrap();
            for (name, text) in files {
                fs::write(folder.join(name), text).unwrap();
            }
            symlink(&folder, block.join(number)).unwrap();
        };
        let part = |number, start, size| [("partition", number), ("start", start), ("size", size)];
        device("devices/vda", "254:0", "vda", &[]);
        device(
            "devices/vda/vda3",
            "254:3",
            "vda3",
            &part("3\n", "8192\n", "4096\n"),
        );
        device(
            "devices/vda/vda4",
            "254:4",
            "vda4",
            &part("4\n", "12288\n", "4096\n"),
        );
        device(
            "devices/vda/vda12",
            "254:12",
            "vda12",
            &part("12\n", "16384\n", "8\n"),
        );
        device("devices/dm-1", "253:1", "dm-1", &[]);
        device("devices/loop5", "7:5", "loop5", &[]);
        device(
            "devices/loop5/loop5p3",
            "259:7",
            "loop5p3",
            &part("3\n", "8192\n", "4096\n"),
        );
        fs::create_dir_all(root.join("devices/dm-1/slaves")).unwrap();
        symlink(
            root.join("devices/vda/vda4"),
            root.join("devices/dm-1/slaves/vda4"),
        )
        .unwrap();
        fs::create_dir_all(root.join("devices/loop5/loop")).unwrap();
        fs::write(
            root.join("devices/loop5/loop/backing_file"),
            "/images/disk 1.img\n",
        )
        .unwrap();
        tree
    }

    #[test]
    fn partitions_are_found_by_number_and_not_by_name() {
        let tree = tree();
        let sysfs = Sysfs::at(tree.path());
        let twelve = sysfs.partition_of(DISK, 12).unwrap();
        assert_eq!(
            twelve,
            KernelPartition {
                disk: DISK,
                number: 12,
                device: DeviceNumber {
                    major: 254,
                    minor: 12
                },
                start: 16384 * 512,
                length: 8 * 512,
                node: "vda12".into(),
            }
        );
        assert_eq!(sysfs.partition(twelve.device).unwrap(), Some(twelve));
        assert_eq!(sysfs.partition(DISK).unwrap(), None);
        let missing = sysfs.partition_of(DISK, 1).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn device_numbers_are_two_decimals() {
        assert_eq!(
            "254:12".parse(),
            Ok(DeviceNumber {
                major: 254,
                minor: 12
            })
        );
        for text in [
            "",
            "254",
            ":",
            "254:",
            "+1:2",
            "1:-2",
            "1:2:3",
            "99999999999999999999:1",
        ] {
            assert_eq!(
                text.parse::<DeviceNumber>(),
                Err(NotADeviceNumber),
                "{text}"
            );
        }
    }
}
