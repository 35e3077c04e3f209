//! What a commit writes, and in what order.

use super::*;

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
            [true, false, false, true, false, false, true]
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

#[test]
fn partitions_read_as_gptman_wrote_them() {
    for sector in BOTH_SIZES {
        let mut disk = MemDisk::with_table(sector, 512);
        let gpt = Gpt::read(&mut disk).unwrap();
        let numbers: Vec<u32> = gpt.partitions().map(|p| p.number).collect();
        assert_eq!(numbers, [1, 3, USR_B, ROOT]);
        let b = gpt.partition(USR_B).unwrap();
        assert_eq!(
            b.range(),
            LbaRange {
                first: 192,
                last: 255
            }
        );
        assert_eq!((b.type_guid, b.unique_guid), (TYPE_USR, Guid([4; 16])));
        assert_eq!(b.name.to_string(), "something");
        assert_eq!(gpt.disk_guid(), Guid([7; 16]));
        assert_eq!(gpt.boot_state(), Ok(initial()));
        for number in [0, 2, 128, 129, u32::MAX] {
            assert_eq!(gpt.partition(number), None);
        }
    }
}

#[test]
fn gptman_reads_what_a_commit_wrote() {
    for sector in BOTH_SIZES {
        let mut disk = MemDisk::with_table(sector, 512);
        let mut gpt = Gpt::read(&mut disk).unwrap();
        gpt.set_boot_state(staged()).unwrap();
        gpt.set_unique_guid(ROOT, Guid([0xab; 16])).unwrap();
        gpt.set_disk_guid(Guid([0xcd; 16]));
        gpt.grow_last(ROOT, 400).unwrap();
        gpt.commit(&mut disk).unwrap();
        for backup_only in [false, true] {
            if backup_only {
                disk.sector_mut(1).fill(0);
            }
            let mut bytes = std::io::Cursor::new(&disk.bytes);
            let theirs = gptman::GPT::read_from(&mut bytes, sector.bytes()).unwrap();
            assert_eq!(theirs.header.disk_guid, [0xcd; 16]);
            assert_eq!(theirs[4].attribute_bits, 0x8032_0000_0000_0001);
            assert_eq!(theirs[9].unique_partition_guid, [0xab; 16]);
            assert_eq!(theirs[9].ending_lba, 400);
        }
    }
}

#[test]
fn edits_that_make_no_sense_are_refused() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    let mut gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        gpt.grow_last(4, 300),
        Err(EditError::NotLast {
            number: 4,
            follows: 9
        })
    );
    assert_eq!(
        gpt.grow_last(5, 300),
        Err(EditError::NoPartition { number: 5 })
    );
    for last in [318, 479, u64::MAX] {
        let refused = gpt.grow_last(ROOT, last);
        assert!(
            matches!(refused, Err(EditError::Grow { usable: 478, .. })),
            "{refused:?}"
        );
    }
    gpt.grow_last(ROOT, 478).unwrap();
    assert_eq!(
        gpt.set_unique_guid(2, Guid::ZERO),
        Err(EditError::NoPartition { number: 2 })
    );
    // A GUID that two would carry never reaches the disk.
    gpt.set_unique_guid(4, Guid([3; 16])).unwrap();
    let duplicate = Fault::DuplicateGuid {
        first: 3,
        second: 4,
        guid: Guid([3; 16]),
    };
    match gpt.commit(&mut disk) {
        Err(GptError::Edit(EditError::Invalid(fault))) => assert_eq!(fault, duplicate),
        result => panic!("{result:?}"),
    }
    assert_eq!(disk.log, []);
}

#[test]
fn boot_bits_of_another_type_are_not_touched() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    for copy in [1, 511] {
        disk.edit_table(copy, |table| {
            table[3 * 128..][..16].copy_from_slice(&TYPE_LINUX.0)
        });
    }
    let mut gpt = Gpt::read(&mut disk).unwrap();
    let refused = EditError::NotUsr {
        number: 4,
        found: TYPE_LINUX,
    };
    assert_eq!(gpt.boot_state(), Err(refused));
    assert_eq!(gpt.set_boot_state(staged()), Err(refused));
    assert!(!gpt.commit(&mut disk).unwrap());
}

#[test]
fn bytes_of_the_header_that_no_field_covers_survive() {
    for sector in BOTH_SIZES {
        let mut disk = MemDisk::with_table(sector, 512);
        for (copy, tail) in [(1, 0x11), (511, 0x22)] {
            disk.edit_header(copy, |header| {
                header[12..16].copy_from_slice(&200_u32.to_le_bytes());
                header[20..24].fill(0x77);
                header[92..200].fill(0x55);
                header[200..].fill(tail);
            });
        }
        let mut gpt = Gpt::read(&mut disk).unwrap();
        assert_eq!(gpt.copies(), Copies::Both);
        gpt.set_boot_state(staged()).unwrap();
        gpt.commit(&mut disk).unwrap();
        for (copy, tail) in [(1, 0x11), (511, 0x22)] {
            let header = disk.sector_mut(copy);
            assert_eq!(header[20..24], [0x77; 4]);
            assert!(header[92..200].iter().all(|&b| b == 0x55));
            assert!(header[200..].iter().all(|&b| b == tail));
        }
        assert_eq!(Gpt::read(&mut disk).unwrap().boot_state(), Ok(staged()));
    }
}

#[test]
fn a_table_that_ends_within_a_sector_leaves_the_rest_of_it_alone() {
    for sector in BOTH_SIZES {
        let mut disk = MemDisk::with_table(sector, 512);
        for (copy, tail) in [(1, 0x11), (511, 0x22)] {
            disk.edit_header(copy, |header| {
                header[80..84].copy_from_slice(&9_u32.to_le_bytes())
            });
            disk.edit_table(copy, |table| table[9 * 128..].fill(tail));
        }
        let before = disk.bytes.clone();
        let mut gpt = Gpt::read(&mut disk).unwrap();
        assert_eq!((gpt.copies(), gpt.entry_count()), (Copies::Both, 9));
        gpt.set_boot_state(staged()).unwrap();
        gpt.grow_last(ROOT, 400).unwrap();
        gpt.commit(&mut disk).unwrap();
        let (now, old) = (disk.table(1), &before[2 * sector.len()..][..16384]);
        assert_eq!(now[9 * 128..], old[9 * 128..]);
        assert_eq!(disk.table(511)[9 * 128..2048], [0x22; 2048 - 9 * 128]);
        // Rebuilt, it gets the other one's tail.
        disk.sector_mut(1).fill(0);
        let mut gpt = Gpt::read(&mut disk).unwrap();
        gpt.commit(&mut disk).unwrap();
        assert_eq!(Gpt::read(&mut disk).unwrap().copies(), Copies::Both);
    }
}

#[test]
fn a_failed_commit_stops_and_asks_for_another_read() {
    let steps = 7;
    for budget in 0..steps {
        let mut disk = MemDisk::with_table(SectorSize::B512, 512);
        let mut gpt = Gpt::read(&mut disk).unwrap();
        gpt.set_boot_state(staged()).unwrap();
        disk.budget = budget;
        assert!(
            matches!(gpt.commit(&mut disk), Err(GptError::Io(_))),
            "{budget}"
        );
        assert_eq!(disk.log.len(), budget, "nothing follows a failure");
        disk.budget = usize::MAX;
        let again = gpt.commit(&mut disk);
        assert!(matches!(again, Err(GptError::Edit(EditError::MustReread))));
        let state = Gpt::read(&mut disk).unwrap().boot_state().unwrap();
        // Up to the first write to the primary it holds the old state and wins; torn, it leaves the word to the backup.
        assert_eq!(
            state,
            if budget <= 4 { initial() } else { staged() },
            "{budget}"
        );
    }
}

#[test]
fn unflushed_writes_of_a_failed_commit_do_not_get_lost_together_with_the_backup() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    let mut gpt = Gpt::read(&mut disk).unwrap();
    gpt.set_boot_state(staged()).unwrap();
    // The primary's entries are written, its header is not: they may still be in the device's cache.
    disk.budget = 5;
    gpt.commit(&mut disk).unwrap_err();
    disk.budget = usize::MAX;
    disk.log.clear();
    let mut gpt = Gpt::read(&mut disk).unwrap();
    gpt.set_boot_state(initial()).unwrap();
    gpt.commit(&mut disk).unwrap();
    assert_eq!(disk.log[0], None, "a flush comes before the first write");
}

#[test]
fn a_disk_that_changed_its_size_is_refused() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    let mut gpt = Gpt::read(&mut disk).unwrap();
    disk.grow(1);
    let refused = gpt.commit(&mut disk);
    let expected = EditError::DiskChanged {
        read: 512,
        found: 513,
    };
    assert!(matches!(refused, Err(GptError::Edit(e)) if e == expected));
}
