//! What a commit writes, and in what order.

use super::*;

const BOTH_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

/// A state unlike the one that the table starts with.
fn staged() -> BootState {
    BootState {
        a: Attributes::from_gpt(1 << 48 | 1 << 56),
        b: Attributes::from_gpt(0x32 << 48),
    }
}

#[test]
fn an_attribute_change_writes_one_sector_of_entries_and_one_header_per_copy() {
    for sector in BOTH_SIZES {
        let mut disk = MemDisk::with_table(sector, 512);
        let before = disk.bytes.clone();
        let mut gpt = Gpt::read(&mut disk).unwrap();
        assert_eq!(gpt.copies(), Copies::Both);
        gpt.set_boot_state(staged()).unwrap();
        assert!(gpt.commit(&mut disk).unwrap());
        let table = gpt.header.table_sectors(sector);
        let backup = (511 - table, 1);
        assert_eq!(disk.writes(), [backup, (511, 1), (2, 1), (1, 1)]);
        assert_eq!(
            disk.log.iter().map(Option::is_none).collect::<Vec<_>>(),
            [false, false, true, false, false, true]
        );

        // Foreign attribute bits, and every byte but the words and the checksums.
        let b = gpt.partition(USR_B).unwrap().attributes;
        assert_eq!(b, 0x8032_0000_0000_0001);
        let changed = before
            .iter()
            .zip(&disk.bytes)
            .filter(|(x, y)| x != y)
            .count();
        assert!(changed <= 2 * (1 + 8), "{changed} bytes differ");

        disk.log.clear();
        assert!(!gpt.commit(&mut disk).unwrap());
        let mut again = Gpt::read(&mut disk).unwrap();
        again.set_boot_state(staged()).unwrap();
        assert!(!again.commit(&mut disk).unwrap());
        assert_eq!(disk.log, []);
    }
}
