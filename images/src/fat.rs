//! FAT volumes with fixed dates and numbers, inside a disk image.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};

use crate::region::Region;

/// A volume and the files that it holds.
#[derive(Clone, Debug)]
pub struct Volume<'a> {
    /// First byte and length within the file, in bytes.
    pub start: u64,
    pub len: u64,
    /// 512 or 4096.
    pub sector: u16,
    /// At most 11 bytes, upper case.
    pub label: &'a str,
    pub id: u32,
    /// Paths with slashes and contents; folders are made as needed.
    pub files: &'a [(&'a str, &'a [u8])],
}

/// Midnight, 2020-01-01: FAT has local times without a zone.
#[derive(Debug)]
struct FixedTime;

const FIXED_DATE: Date = Date {
    year: 2020,
    month: 1,
    day: 1,
};

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        FIXED_DATE
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time {
            hour: 0,
            min: 0,
            sec: 0,
            millis: 0,
        };
        DateTime {
            date: FIXED_DATE,
            time,
        }
    }
}

/// Formats the volume, whose bytes are zero so far, and writes its files.
///
/// # Errors
/// The files do not fit, or the disk image can't be written.
pub fn make(disk: &File, volume: &Volume) -> Result<()> {
    let mut label = [b' '; 11];
    ensure!(
        volume.label.len() <= label.len(),
        "make FAT: the label {} is longer than 11 bytes",
        volume.label
    );
    label[..volume.label.len()].copy_from_slice(volume.label.as_bytes());
    let sectors = u32::try_from(volume.len / u64::from(volume.sector))
        .context("make FAT: too many sectors")?;
    let options = FormatVolumeOptions::new()
        .bytes_per_sector(volume.sector)
        .bytes_per_cluster(u32::from(volume.sector))
        .total_sectors(sectors)
        .fat_type(fat_type(sectors))
        .volume_id(volume.id)
        .volume_label(label);
    let region = || Region::new(disk, volume.start, volume.len);
    fatfs::format_volume(region(), options).context("format FAT")?;
    let options = FsOptions::new()
        .update_accessed_date(false)
        .time_provider(&FixedTime);
    let fs = FileSystem::new(region(), options).context("open FAT")?;
    for (path, _) in volume.files {
        for (i, _) in path.match_indices('/') {
            fs.root_dir()
                .create_dir(&path[..i])
                .with_context(|| format!("create {} in FAT", &path[..i]))?;
        }
    }
    fs.unmount().context("close FAT")?;
    repair_dots(disk, volume, sectors)?;

    let fs = FileSystem::new(region(), options).context("open FAT")?;
    for (path, content) in volume.files {
        let mut file = fs
            .root_dir()
            .create_file(path)
            .with_context(|| format!("create {path} in FAT"))?;
        file.write_all(content)
            .and_then(|()| file.flush())
            .with_context(|| format!("write {} bytes to {path} in FAT", content.len()))?;
    }
    // Counts what is free, for FAT32's summary of it.
    fs.stats().context("count free clusters of FAT")?;
    fs.unmount().context("close FAT")
}

/// Takes away the long names that fatfs 0.3 gives to `.` and `..`, which must be the first two entries of a folder, and
/// the number of FAT32's root folder, which `..` must call 0.
///
/// Called while the volume holds nothing but folders, each shorter than a sector.
fn repair_dots(disk: &File, volume: &Volume, sectors: u32) -> Result<()> {
    const ENTRY: usize = 32;
    const LONG_NAME: u8 = 0x0F;
    const ROOT_CLUSTER: [u8; 2] = [2, 0];
    let is_fat32 = matches!(fat_type(sectors), FatType::Fat32);
    let mut sector = vec![0; usize::from(volume.sector)];
    let step = u64::from(volume.sector);
    for at in (0..volume.len / step).map(|i| volume.start + i * step) {
        disk.read_exact_at(&mut sector, at).context("read FAT")?;
        let is = |entry: usize, name: &[u8; 11]| sector[entry * ENTRY..].starts_with(name);
        let is_long = |entry: usize| sector[entry * ENTRY + 11] == LONG_NAME;
        if is_long(0) && is(1, b".          ") && is_long(2) && is(3, b"..         ") {
            sector.copy_within(ENTRY..2 * ENTRY, 0);
            sector.copy_within(3 * ENTRY..4 * ENTRY, ENTRY);
            sector.copy_within(4 * ENTRY.., 2 * ENTRY);
            let end = sector.len() - 2 * ENTRY;
            sector[end..].fill(0);
            let (high, low) = (ENTRY + 20..ENTRY + 22, ENTRY + 26..ENTRY + 28);
            if is_fat32 && sector[high] == [0, 0] && sector[low.clone()] == ROOT_CLUSTER {
                sector[low].fill(0);
            }
            disk.write_all_at(&sector, at).context("write FAT")?;
        }
    }
    Ok(())
}

/// The type that the number of clusters, one sector each, stands for; readers go by the number alone.
const fn fat_type(sectors: u32) -> FatType {
    // Well away from the limits of 4085 and 65525 clusters, whatever the tables take.
    match sectors {
        0..4085 => FatType::Fat12,
        4085..67000 => FatType::Fat16,
        _ => FatType::Fat32,
    }
}

/// The offset within the volume, in bytes, of the one sector that begins with `content`.
///
/// # Errors
/// No sector begins so, or several do.
pub fn find_sector(disk: &File, volume: &Volume, content: &[u8; 512]) -> Result<u64> {
    let mut sector = [0; 512];
    let step = u64::from(volume.sector);
    let mut found = None;
    for offset in (0..volume.len / step).map(|i| i * step) {
        disk.read_exact_at(&mut sector, volume.start + offset)
            .context("read FAT")?;
        if sector == *content {
            if found.is_some() {
                bail!("find a file in FAT: its content stands there twice");
            }
            found = Some(offset);
        }
    }
    found.context("find a file in FAT: its content is not there")
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::tools;

    fn image(sector: u16, len: u64) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len + 8192).unwrap();
        let mut block = [b'#'; 512];
        block[..4].copy_from_slice(b"head");
        let volume = Volume {
            start: 4096,
            len,
            sector,
            label: "TEST",
            id: 0x1234_5678,
            files: &[("EFI/BOOT/BOOTX64.EFI", &[7; 9000]), ("grubenv", &block)],
        };
        make(file.as_file(), &volume).unwrap();
        let offset = find_sector(file.as_file(), &volume, &block).unwrap();
        let mut found = [0; 512];
        file.as_file()
            .read_exact_at(&mut found, 4096 + offset)
            .unwrap();
        assert_eq!(found, block);
        assert!(find_sector(file.as_file(), &volume, &[9; 512]).is_err());
        file
    }

    #[test]
    fn both_sector_sizes_are_clean_for_the_tool_and_always_the_same() {
        for (sector, len) in [
            (512, 15 << 20),
            (512, 64 << 20),
            (4096, 15 << 20),
            (4096, 64 << 20),
        ] {
            let (one, two) = (image(sector, len), image(sector, len));
            let (mut a, mut b) = (Vec::new(), Vec::new());
            one.as_file().read_to_end(&mut a).unwrap();
            two.as_file().read_to_end(&mut b).unwrap();
            // Reading starts where writing at offsets left the position: at 0.
            assert_eq!(a.len() as u64, len + 8192);
            assert!(a == b);
            let volume = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(
                volume.path(),
                &a[4096..4096 + usize::try_from(len).unwrap()],
            )
            .unwrap();
            let mut fsck = tools::command("fsck.vfat");
            tools::run(fsck.arg("-n").arg(volume.path()), "dosfstools").unwrap();
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let volume = Volume {
            start: 0,
            len: 1 << 20,
            sector: 512,
            label: "TEST",
            id: 1,
            files: &[("big", &[1; 2 << 20])],
        };
        assert!(make(&file, &volume).is_err());
    }
}
