//! Damaged and different copies, disks that grew or shrank.

use super::*;
use crate::BlockIo;

#[test]
fn the_damaged_copy_is_rebuilt_and_only_that() {
    for sector in BOTH_SIZES {
        let mut whole = MemDisk::with_table(sector, 512);
        for copy in [1, 511] {
            whole.sector_mut(copy)[92..].fill(0);
        }
        let table = if sector == SectorSize::B512 { 32 } else { 4 };
        for (lost, copies) in [
            (1, Copies::BackupOnly),
            (3, Copies::BackupOnly),
            (511 - table, Copies::PrimaryOnly),
            (511, Copies::PrimaryOnly),
        ] {
            let mut disk = whole.clone();
            disk.sector_mut(lost).fill(0xa5);
            let mut gpt = Gpt::read(&mut disk).unwrap();
            assert_eq!(gpt.copies(), copies);
            assert!(gpt.commit(&mut disk).unwrap());
            let other = if copies == Copies::BackupOnly {
                256..512
            } else {
                0..256
            };
            assert!(
                disk.writes().iter().all(|(lba, _)| !other.contains(lba)),
                "sector {lost}"
            );
            assert_eq!(Gpt::read(&mut disk).unwrap().copies(), Copies::Both);
            assert!(disk.bytes == whole.bytes, "sector {lost}");
        }
    }
}

#[test]
fn of_torn_entries_only_the_torn_sector_is_written() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.sector_mut(4)[9] ^= 0x10;
    let mut gpt = Gpt::read(&mut disk).unwrap();
    gpt.commit(&mut disk).unwrap();
    assert_eq!(disk.writes(), [(4, 1)]);
}

#[test]
fn a_change_on_a_damaged_primary_restores_it_before_the_backup_is_touched() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.sector_mut(1).fill(0);
    let mut gpt = Gpt::read(&mut disk).unwrap();
    gpt.set_boot_state(staged()).unwrap();
    gpt.commit(&mut disk).unwrap();
    assert_eq!(
        disk.writes(),
        [(2, 32), (1, 1), (479, 1), (511, 1), (2, 1), (1, 1)]
    );
    let again = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        (again.copies(), again.boot_state()),
        (Copies::Both, Ok(staged()))
    );
}

#[test]
fn the_primary_wins_when_both_are_valid_but_differ() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.edit_table(511, |table| table[3 * 128 + 54] = 0x32);
    let mut gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        (gpt.copies(), gpt.boot_state()),
        (Copies::Differ, Ok(initial()))
    );
    assert!(gpt.commit(&mut disk).unwrap());
    assert_eq!(disk.writes(), [(479, 1), (511, 1)]);
    // Different headers count too.
    disk.edit_header(511, |header| header[56] ^= 1);
    assert_eq!(Gpt::read(&mut disk).unwrap().copies(), Copies::Differ);
}

#[test]
fn on_a_larger_disk_the_backup_moves_to_the_end_and_root_grows() {
    for sector in BOTH_SIZES {
        for growth in [1, 3, 33, 100] {
            let mut disk = MemDisk::with_table(sector, 512);
            disk.grow(growth);
            let mut gpt = Gpt::read(&mut disk).unwrap();
            assert_eq!((gpt.copies(), gpt.backup_at_end()), (Copies::Both, false));
            assert!(gpt.relocate_backup().unwrap());
            assert!(!gpt.relocate_backup().unwrap());
            let last = gpt.usable().last;
            assert_eq!(last, 512 + growth - 2 - gpt.header.table_sectors(sector));
            gpt.grow_last(ROOT, last).unwrap();
            assert!(gpt.commit(&mut disk).unwrap());
            let backup = disk.writes()[0].0;
            assert_eq!(backup, last + 1, "the backup first");
            let mut again = Gpt::read(&mut disk).unwrap();
            assert_eq!(
                (again.copies(), again.backup_at_end()),
                (Copies::Both, true)
            );
            assert_eq!(again.partition(ROOT).unwrap().last_lba, last);
            assert!(!again.commit(&mut disk).unwrap());
            disk.sector_mut(1).fill(0);
            assert_eq!(Gpt::read(&mut disk).unwrap().copies(), Copies::BackupOnly);
        }
    }
}

#[test]
fn on_a_larger_disk_only_a_validated_header_leads_to_the_backup() {
    // Entries torn, header good: it says where the backup is.
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.grow(100);
    disk.sector_mut(2)[0] ^= 1;
    let mut gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        (gpt.copies(), gpt.backup_at_end()),
        (Copies::BackupOnly, false)
    );
    gpt.set_boot_state(staged()).unwrap();
    gpt.commit(&mut disk).unwrap();
    let again = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        (again.copies(), again.backup_at_end()),
        (Copies::Both, true)
    );
    assert_eq!(again.boot_state(), Ok(staged()));
    // Header torn: nobody knows, and nothing is written.
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.grow(100);
    disk.sector_mut(1)[60] ^= 1;
    assert!(matches!(
        Gpt::read(&mut disk),
        Err(GptError::NoValidCopy { .. })
    ));
}

/// A growth was cut: the primary's entries are torn, its old header leads to the backup's old place, and the new backup at
/// the end is what the kernel finds. It must not be the next thing that is written.
#[test]
fn a_growth_cut_in_the_primary_restores_the_primary_before_the_new_backup_is_written_again() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.grow(100);
    let mut grown = disk.clone();
    let mut gpt = Gpt::read(&mut grown).unwrap();
    gpt.relocate_backup().unwrap();
    gpt.grow_last(ROOT, gpt.usable().last).unwrap();
    gpt.commit(&mut grown).unwrap();
    let backup: Vec<_> = grown.log[1..]
        .split(Option::is_none)
        .next()
        .unwrap()
        .to_vec();
    for (lba, data) in backup.into_iter().flatten() {
        disk.write_sectors(lba, &data).unwrap();
    }
    disk.sector_mut(4)[0] ^= 1;
    disk.log.clear();
    let mut gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(gpt.copies(), Copies::BackupOnly);
    gpt.commit(&mut disk).unwrap();
    assert_eq!(disk.writes()[0], (4, 1), "the primary first");
    assert_eq!(disk.log[2], None, "and flushed");
    assert!(Gpt::read(&mut disk).unwrap().backup_at_end());
}

#[test]
fn on_a_smaller_disk_the_table_shrinks_if_no_partition_is_in_the_way() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.edit_header(1, |header| {
        header[48..56].copy_from_slice(&330_u64.to_le_bytes())
    });
    let whole = disk.clone();
    disk.bytes.truncate(400 * 512);
    let mut gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(gpt.copies(), Copies::PrimaryOnly);
    gpt.commit(&mut disk).unwrap();
    let again = Gpt::read(&mut disk).unwrap();
    assert_eq!((again.copies(), again.usable().last), (Copies::Both, 366));

    let mut disk = whole;
    disk.bytes.truncate(340 * 512);
    let before = disk.bytes.clone();
    let refused = Gpt::read(&mut disk).unwrap().commit(&mut disk);
    let expected = EditError::BackupDoesNotFit {
        number: 9,
        last: 319,
        sectors: 340,
    };
    assert!(
        matches!(refused, Err(GptError::Edit(e)) if e == expected),
        "{refused:?}"
    );
    assert!(disk.bytes == before);
}
