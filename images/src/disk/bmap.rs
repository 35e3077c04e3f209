//! The block map beside an image: which blocks matter, with their SHA-256 (format 2.0 of bmap-tools).
//!
//! `bmaptool copy` writes only those, so everything that must be zero is among them; left out is what no reader looks at:
//! the gaps between the partitions, and of a slot what lies between its image and its record.

use std::fmt::Write;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use bootctl::Slot;
use bootctl::slot_record::SLOT_RECORD_BYTES;
use sha2::{Digest, Sha256};

use super::layout::Layout;

/// Bytes in a block of the map.
const BLOCK: u64 = 4096;
/// The table with its entries, on sectors of 512 and 4096 bytes.
const TABLE: u64 = 6 * 4096;
const CHUNK: usize = 1 << 20;

/// The map of a finished disk image, in which slot `s` holds `used(s)` bytes. `own_environment`: U-Boot keeps one before the
/// first partition, and what is left there of an earlier disk must not count.
///
/// # Errors
/// The image can't be read.
pub fn make(
    disk: &File,
    layout: &Layout,
    own_environment: bool,
    used: impl Fn(Slot) -> u64,
) -> Result<String> {
    let ranges = mapped(layout, own_environment, used);
    let mapped: u64 = ranges.iter().map(|r| r.end - r.start).sum();
    let mut list = String::new();
    for range in &ranges {
        let sum = sha256(disk, range)?;
        let (first, last) = (range.start / BLOCK, range.end / BLOCK - 1);
        writeln!(list, "    <Range chksum=\"{sum}\">{first}-{last}</Range>")?;
    }
    let file = |sum: &str| {
        format!(
            "<?xml version=\"1.0\" ?>\n\
             <bmap version=\"2.0\">\n\
             \x20 <ImageSize>{}</ImageSize>\n\
             \x20 <BlockSize>{BLOCK}</BlockSize>\n\
             \x20 <BlocksCount>{}</BlocksCount>\n\
             \x20 <MappedBlocksCount>{}</MappedBlocksCount>\n\
             \x20 <ChecksumType>sha256</ChecksumType>\n\
             \x20 <BmapFileChecksum>{sum}</BmapFileChecksum>\n\
             \x20 <BlockMap>\n{list}  </BlockMap>\n\
             </bmap>\n",
            layout.total,
            layout.total / BLOCK,
            mapped / BLOCK,
        )
    };
    // The file's own sum is taken while zeros stand in its place.
    let blank = file(&"0".repeat(64));
    Ok(file(&hex(Sha256::digest(blank.as_bytes()).as_slice())))
}

/// What matters, in order, on whole blocks, neighbours joined.
fn mapped(layout: &Layout, own_environment: bool, used: impl Fn(Slot) -> u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    ranges.push(match own_environment {
        true => 0..layout.esp.start,
        false => 0..TABLE,
    });
    for (_, _, _, span) in layout.partitions() {
        let end = span.start + span.len;
        match Slot::ALL.into_iter().find(|&s| layout.usr(s) == span) {
            Some(slot) => {
                ranges.push(span.start..span.start + used(slot));
                ranges.push(end - SLOT_RECORD_BYTES..end);
            }
            None => ranges.push(span.start..end),
        }
    }
    ranges.push(layout.total - TABLE..layout.total);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges.into_iter().filter(|r| !r.is_empty()) {
        let range = range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK);
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

fn sha256(disk: &File, range: &Range<u64>) -> Result<String> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end - at).map_or(CHUNK, |n| n.min(CHUNK));
        let part = &mut buffer[..len];
        disk.read_exact_at(part, at).context("make block map")?;
        sum.update(&*part);
        at += len as u64;
    }
    Ok(hex(sum.finalize().as_slice()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bootctl::SectorSize;

    use super::*;
    use crate::disk::layout::{DEFAULT_ROOT, Wishes};

    #[test]
    fn what_matters_is_mapped_and_the_rest_of_a_slot_is_not() {
        const MIB: u64 = 1 << 20;
        let layout = Layout::plan(&Wishes {
            sector_size: SectorSize::B512,
            image: 10 * MIB,
            slot: Some(64 * MIB),
            root: DEFAULT_ROOT,
            power_of_two: true,
            bios: false,
        })
        .unwrap();
        let used = |slot| if slot == Slot::A { 10 * MIB } else { 0 };
        let (a, b) = (layout.usr_a.start, layout.usr_b.start);
        let root = layout.root.start + layout.root.len;
        assert_eq!(
            mapped(&layout, false, used),
            [
                0..TABLE,
                8 * MIB..a + 10 * MIB,
                a + 60 * MIB..b,
                b + 60 * MIB..root,
                layout.total - TABLE..layout.total,
            ]
        );
        // What U-Boot saved on an earlier disk must go.
        assert_eq!(mapped(&layout, true, used)[0], 0..a + 10 * MIB);
    }
}
