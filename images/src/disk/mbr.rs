//! LBA 0 of a card for firmware that knows no GPT: the first partition stands in the MBR too.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use boards::raspberry_pi::FAT_TYPE;

use super::layout::Layout;

/// What everything reads that knows a GPT: "the rest of the disk is not yours" (UEFI 2.10, 5.2.3).
const PROTECTIVE: u8 = 0xEE;
/// Where the four entries begin, and how long each is.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// In place of cylinder, head and sector, which nobody counts any more.
const NO_CHS: [u8; 3] = [0xFE, 0xFF, 0xFF];

/// Makes the protective MBR a hybrid one: entry 1 is the first partition, entry 2 protects the table before it.
///
/// The ROM of a Pi 3 looks at the first entry alone. The protective entry starts at LBA 1 exactly, which is how Linux
/// and U-Boot tell a disk with a GPT.
///
/// # Errors
/// The disk can't be written.
pub fn write(disk: &File, layout: &Layout) -> Result<()> {
    let (first, count) = (layout.lba(layout.esp), layout.sectors(layout.esp));
    let entries = [
        entry(FAT_TYPE, first, count)?,
        entry(PROTECTIVE, 1, first - 1)?,
    ];
    let mut table = [0; 4 * ENTRY];
    for (place, entry) in table.chunks_exact_mut(ENTRY).zip(entries) {
        place.copy_from_slice(&entry);
    }
    disk.write_all_at(&table, ENTRIES as u64)
        .context("write hybrid MBR")
}

fn entry(kind: u8, first: u64, count: u64) -> Result<[u8; ENTRY]> {
    let number = |n: u64| u32::try_from(n).context("write hybrid MBR: a sector behind 2 TiB");
    let mut entry = [0; ENTRY];
    entry[1..4].copy_from_slice(&NO_CHS);
    entry[4] = kind;
    entry[5..8].copy_from_slice(&NO_CHS);
    entry[8..12].copy_from_slice(&number(first)?.to_le_bytes());
    entry[12..].copy_from_slice(&number(count)?.to_le_bytes());
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_literally_these() {
        assert_eq!(
            entry(0x0C, 16384, 131_072).unwrap(),
            [
                0, 0xFE, 0xFF, 0xFF, 0x0C, 0xFE, 0xFF, 0xFF, 0, 0x40, 0, 0, 0, 0, 2, 0
            ]
        );
        assert!(entry(0xEE, 1, 1 << 32).is_err());
    }
}
