//! `fw_env.config`, the file that tells `fw_printenv` where U-Boot keeps its environment: here the two copies of one that is
//! redundant.
//!
//! A line is `path offset size`, further fields of flash memory behind them; `#` in the first column makes it a comment.
//! Offsets are read as C does (0x for hexadecimal, 0 for octal), sizes are hexadecimal in any case.

use std::path::Path;

use anyhow::{Context, Result};
use bootctl::descriptor::Store;
use bootctl::gpt::format;

use crate::disk::layout::Layout;
use crate::failure::Failure;

/// Longest file that is read, in bytes.
const MAX_BYTES: usize = 4096;

/// Where U-Boot keeps its own environment, in bytes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnEnvironment {
    /// Where the copies start.
    pub offsets: [u64; 2],
    /// Length of each.
    pub size: u64,
}

impl OwnEnvironment {
    /// For the disk's descriptor.
    #[must_use]
    pub const fn store(self) -> Store {
        let [offset, offset2] = self.offsets;
        Store::UbootEnvRedundant {
            offset,
            offset2,
            size: self.size,
        }
    }
}

/// Reads the file.
///
/// # Errors
/// It can't be read, or does not name two copies on one whole disk, at a place that this layout leaves free.
pub fn read(path: &Path, layout: &Layout) -> Result<OwnEnvironment> {
    let bytes = super::loader::read(path)?;
    let text = std::str::from_utf8(&bytes)
        .ok()
        .filter(|t| t.len() <= MAX_BYTES);
    text.ok_or_else(|| "not a short text".to_owned())
        .and_then(parse)
        .and_then(
            |own| match own.store().check_place(table_end(layout), layout.esp.start) {
                Ok(()) => Ok(own),
                Err(error) => Err(error.to_string()),
            },
        )
        .map_err(|why| Failure::Usage(format!("use {}: {why} (--fw-env-config)", path.display())))
        .context("find U-Boot's environment")
}

/// Where the partition table at the start of the disk ends, in bytes.
fn table_end(layout: &Layout) -> u64 {
    let sector = layout.sector_size.bytes();
    let entries = u64::from(format::MAX_ENTRIES) * u64::from(format::ENTRY_SIZE);
    2 * sector + entries.next_multiple_of(sector)
}

fn parse(text: &str) -> Result<OwnEnvironment, String> {
    let lines = text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    let copies = lines.map(copy).collect::<Result<Vec<_>, _>>()?;
    let [first, second] = copies.as_slice() else {
        return Err(format!(
            "it names {} copies, and only an environment in two survives a power cut",
            copies.len()
        ));
    };
    if first.path != second.path {
        return Err(format!(
            "the copies lie on {} and {}, which must be one disk",
            first.path, second.path
        ));
    }
    if first.size != second.size {
        return Err(format!(
            "copies of {} and of {} bytes",
            first.size, second.size
        ));
    }
    if let Some(what) = part_of_a_disk(first.path) {
        return Err(format!(
            "{} is {what}; both copies must be on the disk with the slots, by offsets from its start",
            first.path
        ));
    }
    Ok(OwnEnvironment {
        offsets: [first.offset, second.offset],
        size: first.size,
    })
}

struct Copy<'a> {
    path: &'a str,
    offset: u64,
    size: u64,
}

fn copy(line: &str) -> Result<Copy<'_>, String> {
    let mut words = line.split_whitespace();
    let (Some(path), Some(offset), Some(size)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("the line {line:?} has fewer than three fields"));
    };
    if offset.starts_with('-') {
        return Err(format!(
            "offset {offset} counts from the end of the disk, where the backup partition table is"
        ));
    }
    let number = |digits: &str, radix, text: &str| {
        // from_str_radix would take a sign.
        let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
        let number = u64::from_str_radix(digits, radix).ok().filter(|_| plain);
        number.ok_or_else(|| format!("{text} is no number"))
    };
    let hex = |text: &'_ str| {
        text.strip_prefix("0x")
            .or(text.strip_prefix("0X"))
            .map(str::to_owned)
    };
    let offset = match (hex(offset), offset.strip_prefix('0')) {
        (Some(digits), _) => number(&digits, 16, offset)?,
        (None, Some(digits)) if !digits.is_empty() => number(digits, 8, offset)?,
        (None, _) => number(offset, 10, offset)?,
    };
    let size = number(&hex(size).unwrap_or_else(|| size.to_owned()), 16, size)?;
    Ok(Copy { path, offset, size })
}

/// What a path names that is not a whole disk, as far as its name tells.
fn part_of_a_disk(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends_with_number = |name: &str| name.ends_with(|c: char| c.is_ascii_digit());
    let number_behind_text = |name: &str, text: &str| {
        let parts = name.rsplit_once(text);
        parts.is_some_and(|(disk, number)| {
            ends_with_number(disk)
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
        })
    };
    let in_disk_folder = path.starts_with("/dev/disk/");
    let of_a_file_system =
        path.contains("/by-part") || path.contains("/by-uuid/") || path.contains("/by-label/");
    if name.starts_with("mtd") || name.starts_with("ubi") {
        return Some("flash memory");
    }
    if name.ends_with("boot0") || name.ends_with("boot1") || number_behind_text(name, "gp") {
        return Some("an area of an eMMC");
    }
    let disks_of_letters = ["sd", "vd", "hd", "xvd"]
        .iter()
        .any(|p| name.starts_with(p));
    let partition = disks_of_letters && ends_with_number(name)
        || !in_disk_folder && number_behind_text(name, "p")
        || in_disk_folder && (name.contains("-part") || of_a_file_system);
    partition.then_some("a partition")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_copies_are_found() {
        let text = "# device offset size\n\n/dev/mmcblk0 0x400000 0x4000\n/dev/mmcblk0\t4456448 4000 0x200 1\n";
        let found = OwnEnvironment {
            offsets: [0x40_0000, 0x44_0000],
            size: 0x4000,
        };
        assert_eq!(parse(text), Ok(found));
        let octal = "/dev/sda 020000000 1f000\n/dev/sda 0 1f000";
        let found = OwnEnvironment {
            offsets: [0x40_0000, 0],
            size: 0x1_f000,
        };
        assert_eq!(parse(octal), Ok(found));
    }

    #[test]
    fn what_is_no_redundant_environment_on_the_disk_is_refused() {
        let line = "/dev/mmcblk0 0x400000 0x4000";
        for (text, why) in [
            (String::new(), "names 0 copies"),
            (line.to_owned(), "names 1 copies"),
            (format!("{line}\n{line}\n{line}"), "names 3 copies"),
            (format!("{line}\n/dev/mmcblk1 0 0x4000"), "must be one disk"),
            (
                format!("{line}\n/dev/mmcblk0 0 0x2000"),
                "copies of 16384 and of 8192 bytes",
            ),
            (format!("{line}\n/dev/mmcblk0 0"), "fewer than three fields"),
            (
                format!("{line}\n/dev/mmcblk0 -0x8000 0x4000"),
                "from the end of the disk",
            ),
            (
                format!("{line}\n/dev/mmcblk0 0x+1 0x4000"),
                "0x+1 is no number",
            ),
            (format!("{line}\n/dev/mmcblk0 08 0x4000"), "08 is no number"),
            (
                format!("{line}\n/dev/mmcblk0 0x1ffffffffffffffff 1"),
                "is no number",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        for path in [
            "/dev/mtd1",
            "/dev/ubi0_1",
            "/dev/mmcblk0boot1",
            "/dev/mmcblk0p7",
            "/dev/nvme0n1p2",
            "/dev/sda1",
            "/dev/vdb12",
            "/dev/loop0p1",
            "/dev/mmcblk0gp0",
            "/dev/disk/by-partuuid/5dfbf5f4-2848-4bac-aa5e-0d9a20b745a6",
            "/dev/disk/by-label/ROOT",
            "/dev/disk/by-id/mmc-card_1-part2",
        ] {
            assert!(
                parse(&format!("{path} 0 200\n{path} 200 200")).is_err(),
                "{path}"
            );
        }
        for path in [
            "/dev/mmcblk1",
            "/dev/nvme0n1",
            "/dev/sdab",
            "disk.img",
            "/dev/disk/by-id/mmc-p1",
        ] {
            assert!(
                parse(&format!("{path} 0 200\n{path} 200 200")).is_ok(),
                "{path}"
            );
        }
    }
}
