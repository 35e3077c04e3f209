//! Bytes that sgdisk 1.0.9 wrote: a disk of 2048 sectors with one partition.

use super::*;

const PRIMARY: &str = "4546492050415254000001005c00000031b8c0e4000000000100000000000000\
    ff070000000000002200000000000000de0700000000000067452301ab89efcd\
    0123456789abcdef02000000000000008000000080000000300e83a1";
const ENTRY_3: &str = "f4f5fb5d4828ac4baa5e0d9a20b745a611111111222233334444555555555555\
    40000000000000007f0000000000000000000000000001115500530052002d004100";
const BACKUP: &str = "4546492050415254000001005c0000003a96b25700000000ff07000000000000\
    01000000000000002200000000000000de0700000000000067452301ab89efcd\
    0123456789abcdefdf070000000000008000000080000000300e83a1";

fn put(disk: &mut MemDisk, at: usize, hex: &str) {
    let digits: Vec<char> = hex.chars().collect();
    for (n, pair) in digits.chunks(2).enumerate() {
        let text: String = pair.iter().collect();
        disk.bytes[at + n] = u8::from_str_radix(&text, 16).unwrap();
    }
}

fn sgdisks() -> MemDisk {
    let mut disk = MemDisk::new(SectorSize::B512, 2048);
    put(&mut disk, 512, PRIMARY);
    put(&mut disk, 1024 + 256, ENTRY_3);
    put(&mut disk, 2015 * 512 + 256, ENTRY_3);
    put(&mut disk, 2047 * 512, BACKUP);
    disk
}

#[test]
fn sgdisks_bytes_are_understood() {
    let gpt = Gpt::read(&mut sgdisks()).unwrap();
    assert_eq!((gpt.copies(), gpt.backup_at_end()), (Copies::Both, true));
    assert_eq!(
        gpt.disk_guid().to_string(),
        "01234567-89ab-cdef-0123-456789abcdef"
    );
    assert_eq!(
        gpt.usable(),
        LbaRange {
            first: 34,
            last: 2014
        }
    );
    let a = gpt.partition(USR_A).unwrap();
    assert_eq!(a.type_guid, TYPE_USR);
    assert_eq!(
        a.unique_guid.to_string(),
        "11111111-2222-3333-4444-555555555555"
    );
    assert_eq!(
        a.range(),
        LbaRange {
            first: 64,
            last: 127
        }
    );
    assert_eq!(a.attributes, 0x1101_0000_0000_0000);
    assert_eq!(a.name.to_string(), "USR-A");
    assert_eq!(gpt.partitions().count(), 1);
}

#[test]
fn rebuilt_copies_are_sgdisks_bytes_again() {
    let whole = sgdisks();
    for lost in [1, 2, 2015, 2047] {
        let mut disk = whole.clone();
        disk.sector_mut(lost).fill(0xa5);
        let mut gpt = Gpt::read(&mut disk).unwrap();
        assert!(gpt.needs_repair());
        gpt.commit(&mut disk).unwrap();
        let same = disk.bytes[512..] == whole.bytes[512..];
        assert!(same, "sector {lost}");
    }
}
