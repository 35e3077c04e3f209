//! A disk's partitions as the kernel knows them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::{Gpt, ROOT};
use bootctl::ioctl;

use super::disks::Chosen;

/// The kernel's unit in sysfs, whatever the disk's sectors are.
const SYSFS_SECTOR: u64 = 512;

/// Place of a partition in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    number: u32,
    start: u64,
    length: u64,
}

/// What the kernel must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Nothing,
    /// Only ROOT has become longer.
    Resize(Place),
    Everything,
}

/// The node of a partition.
///
/// # Errors
/// The kernel knows no such partition of the disk.
pub fn node(disk: &Chosen, number: u32) -> Result<PathBuf> {
    let name = known(disk)
        .into_iter()
        .find_map(|(name, place)| (place.number == number).then_some(name))
        .with_context(|| {
            format!(
                "find partition {number} of {}: the kernel has none",
                disk.name
            )
        })?;
    Ok(Path::new("/dev").join(name.replace('!', "/")))
}

/// Makes the kernel's view follow the table, if it differs.
///
/// # Errors
/// The table can't be read, or the kernel refuses.
pub fn refresh(chosen: &Chosen) -> Result<()> {
    let mut disk = Disk::open(chosen.node(), Access::Read)?;
    let gpt = Gpt::read(&mut disk)?;
    let bytes = gpt.sector_size().bytes();
    let table: Vec<_> = gpt
        .partitions()
        .map(|p| Place {
            number: p.number,
            start: p.first_lba.saturating_mul(bytes),
            length: p
                .last_lba
                .saturating_sub(p.first_lba)
                .saturating_add(1)
                .saturating_mul(bytes),
        })
        .collect();
    let kernel: Vec<_> = known(chosen).into_iter().map(|(_, place)| place).collect();
    match compare(&table, &kernel) {
        Telling::Nothing => Ok(()),
        Telling::Resize(p) => resize(disk.file(), p),
        Telling::Everything => ioctl::reread_partitions(disk.file())
            .context("make the kernel read the partition table again"),
    }
}

fn resize(disk: &File, place: Place) -> Result<()> {
    ioctl::resize_partition(disk, place.number, place.start, place.length)
        .with_context(|| format!("tell the kernel the size of partition {}", place.number))
}

fn compare(table: &[Place], kernel: &[Place]) -> Telling {
    let differing: Vec<_> = table.iter().filter(|p| !kernel.contains(p)).collect();
    match differing.as_slice() {
        [] if kernel.len() == table.len() => Telling::Nothing,
        [only] if only.number == ROOT && same_but_longer(only, kernel) => Telling::Resize(**only),
        _ => Telling::Everything,
    }
}

fn same_but_longer(new: &Place, kernel: &[Place]) -> bool {
    kernel
        .iter()
        .any(|old| old.number == new.number && old.start == new.start && old.length < new.length)
}

/// Name and place of each partition that the kernel knows.
fn known(disk: &Chosen) -> Vec<(String, Place)> {
    let folder = Path::new("/sys/block").join(&disk.name);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((name, place(&entry.path()).ok()?))
        })
        .collect()
}

fn place(folder: &Path) -> Result<Place> {
    let number = |name: &str| -> Result<u64> {
        let text = fs::read_to_string(folder.join(name))?;
        text.trim().parse().context(name.to_owned())
    };
    let bytes = |sectors: u64| match sectors.checked_mul(SYSFS_SECTOR) {
        Some(bytes) => Ok(bytes),
        None => bail!("{sectors} sectors"),
    };
    Ok(Place {
        number: u32::try_from(number("partition")?)?,
        start: bytes(number("start")?)?,
        length: bytes(number("size")?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u32, start: u64, length: u64) -> Place {
        Place {
            number,
            start,
            length,
        }
    }

    #[test]
    fn the_kernel_is_told_only_what_it_does_not_know() {
        let table = [at(3, 0, 10), at(9, 20, 50)];
        assert_eq!(compare(&table, &table), Telling::Nothing);
        assert_eq!(
            compare(&table, &[at(9, 20, 50), at(3, 0, 10)]),
            Telling::Nothing
        );
        assert_eq!(
            compare(&table, &[at(3, 0, 10), at(9, 20, 30)]),
            Telling::Resize(at(9, 20, 50))
        );
        for stale in [
            &[][..],
            &[at(3, 0, 10)],
            &[at(3, 0, 10), at(9, 21, 30)],
            &[at(3, 0, 10), at(9, 20, 60)],
            &[at(3, 0, 9), at(9, 20, 30)],
            &[at(3, 0, 10), at(9, 20, 50), at(10, 70, 1)],
        ] {
            assert_eq!(compare(&table, stale), Telling::Everything, "{stale:?}");
        }
    }

    #[test]
    fn a_partition_is_read_from_sysfs() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("partition", "9\n"), ("start", "2048\n"), ("size", "8\n")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(place(folder.path()).unwrap(), at(9, 2048 * 512, 8 * 512));
        fs::write(folder.path().join("size"), format!("{}\n", u64::MAX)).unwrap();
        assert!(place(folder.path()).is_err());
        fs::remove_file(folder.path().join("partition")).unwrap();
        assert!(place(folder.path()).is_err());
    }
}
