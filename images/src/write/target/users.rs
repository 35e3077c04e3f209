//! What is mounted from a disk.

use std::fs;
use std::path::Path;

use super::read_line;

/// `sdb1 is mounted at /media/x` for the disk whose folder in sysfs is `sys` and for its partitions.
pub fn mounted(sys: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut devices = vec![sys.to_owned()];
    for entry in fs::read_dir(sys).into_iter().flatten().flatten() {
        if entry.path().join("partition").exists() {
            devices.push(entry.path());
        }
    }
    devices.sort();
    devices
        .iter()
        .flat_map(|folder| {
            let number = read_line(&folder.join("dev")).unwrap_or_default();
            let name = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            let places = places(&mounts, &number).into_iter();
            let lines = places.map(|place| format!("{name} is mounted at {place}"));
            lines.collect::<Vec<_>>()
        })
        .collect()
}

/// Where the device with that number, `8:1`, is mounted (Linux: proc(5), mountinfo).
fn places(mounts: &str, number: &str) -> Vec<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            let found = fields.next()?;
            let place = fields.nth(1)?;
            (found == number).then(|| place.replace("\\040", " "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_the_number_of_the_device() {
        let mounts = "22 1 8:17 / /media/my\\040stick rw - vfat /dev/sdb1 rw\n\
                      23 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      24 22 8:17 /sub /srv rw - vfat /dev/sdb1 rw\n\nbroken\n";
        assert_eq!(places(mounts, "8:17"), ["/media/my stick", "/srv"]);
        assert_eq!(places(mounts, "8:1"), ["/"]);
        assert!(places(mounts, "").is_empty() && places(mounts, "8:2").is_empty());
    }
}
