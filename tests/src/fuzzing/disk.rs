//! Partition table and file system.

use bootctl::gpt::Gpt;
use bootctl::{Attributes, BootState, Priority, SectorSize, Tries};
use updater::ext4::Ext4;

use super::memory::Memory;

/// Sectors of the disk.
const SECTORS: usize = 512;
/// Sectors that a table and its header take: LBA 0 and 33 more at the start, 33 at the end.
const START: usize = 34;
const END: usize = 33;
const HEADER_LEN: usize = 92;
/// Boot attributes in an entry.
const BOOT_BITS: u64 = 0x1ff << 48;

/// A byte, then the first 34 sectors of a disk of 512, then its last 33. Bit 0 of the byte says that the CRCs of the
/// first table stay as they are, bit 1 those of the second. What is accepted can be changed without harm to others.
pub fn gpt(data: &[u8]) -> bool {
    let Some((&options, data)) = data.split_first() else {
        return false;
    };
    let mut bytes = vec![0; SECTORS * 512];
    let (start, end) = data.split_at(data.len().min(START * 512));
    bytes[..start.len()].copy_from_slice(start);
    let at = (SECTORS - END) * 512;
    let end = &end[..end.len().min(END * 512)];
    bytes[at..at + end.len()].copy_from_slice(end);
    if options & 1 == 0 {
        true_crcs(&mut bytes, 512, 1024);
    }
    if options & 2 == 0 {
        true_crcs(&mut bytes, (SECTORS - 1) * 512, at);
    }
    let sector = SectorSize::B512;
    let mut disk = Memory { sector, bytes };
    let before = disk.bytes.clone();
    let Ok(mut table) = Gpt::read(&mut disk) else {
        return false;
    };
    assert!(disk.bytes == before);
    check_partitions(&table);
    let attributes = |priority| Attributes {
        priority: Priority::new(priority).unwrap(),
        tries: Tries::new(u8::from(priority == 2) * 3).unwrap(),
        successful: priority == 1,
    };
    let state = BootState {
        a: attributes(1),
        b: attributes(2),
    };
    if table.set_boot_state(state).is_err() {
        return true;
    }
    let others = |table: &Gpt| -> Vec<_> {
        let facts = table.partitions().map(|p| {
            let usr = p.number == 3 || p.number == 4;
            let kept = if usr {
                p.attributes & !BOOT_BITS
            } else {
                p.attributes
            };
            (p.number, p.type_guid, p.unique_guid, p.range(), kept)
        });
        facts.collect()
    };
    let kept = others(&table);
    if table.commit(&mut disk).is_ok() {
        let after = Gpt::read(&mut disk).unwrap();
        assert_eq!(after.boot_state().unwrap(), state);
        assert!(!after.needs_repair());
        assert_eq!(others(&after), kept);
        assert!(disk.bytes[..512] == before[..512]);
        for partition in after.partitions() {
            let range = partition.range();
            let lba = usize::try_from(range.first).unwrap() * 512;
            let end = (usize::try_from(range.last).unwrap() + 1) * 512;
            assert!(disk.bytes[lba..end] == before[lba..end]);
        }
    }
    true
}

fn check_partitions(table: &Gpt) {
    let mut ranges: Vec<_> = table.partitions().map(|p| p.range()).collect();
    ranges.sort_by_key(|range| range.first);
    let mut free = table.usable().first;
    for range in ranges {
        assert!(range.first >= free && range.last >= range.first);
        free = range.last + 1;
    }
    assert!(free <= table.usable().last + 1 && table.usable().last < SECTORS as u64);
}

/// Makes the CRC of the entries, as far as they are where they should be, and then that of the header true.
fn true_crcs(disk: &mut [u8], header: usize, entries: usize) {
    let number = |disk: &[u8], at: usize| {
        let bytes = disk[header + at..].first_chunk().unwrap();
        u32::from_le_bytes(*bytes) as usize
    };
    let len = number(disk, 80).saturating_mul(number(disk, 84));
    let len = len.min(32 * 512);
    let crc = super::crc32(&disk[entries..entries + len]);
    disk[header + 88..header + 92].copy_from_slice(&crc.to_le_bytes());
    let size = match number(disk, 12) {
        size @ HEADER_LEN..=512 => size,
        _ => HEADER_LEN,
    };
    disk[header + 16..header + 20].fill(0);
    let crc = super::crc32(&disk[header..header + size]);
    disk[header + 16..header + 20].copy_from_slice(&crc.to_le_bytes());
}

/// The first bytes of a file system of 64 KiB. No path costs more than its bounds.
pub fn ext4(data: &[u8]) -> bool {
    let mut bytes = vec![0; 64 << 10];
    let data = &data[..data.len().min(bytes.len())];
    bytes[..data.len()].copy_from_slice(data);
    let sector = SectorSize::B512;
    let Ok(mut fs) = Ext4::open(Memory { sector, bytes }) else {
        return false;
    };
    let found = fs.read("/f", 4096);
    assert!(found.as_ref().map_or(0, Vec::len) <= 4096);
    let names = fs.names("/", 16).unwrap_or_default();
    assert!(names.len() <= 16);
    for name in names {
        if let Ok(name) = std::str::from_utf8(&name) {
            assert!(fs.read(name, 100).map_or(0, |text| text.len()) <= 100);
        }
    }
    found.is_ok()
}
