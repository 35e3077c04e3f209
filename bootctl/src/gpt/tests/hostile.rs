//! Tables that lie. Each is refused with the numbers, whatever its checksums say.

use proptest::prelude::*;

use super::*;
use crate::BlockIo;

/// Reads a disk whose primary header was changed and sealed, and whose backup is gone.
fn fault_of_header(edit: impl FnOnce(&mut [u8])) -> Fault {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.edit_header(1, edit);
    disk.sector_mut(511).fill(0);
    primary_fault(disk)
}

/// The same with the entries.
fn fault_of_table(edit: impl FnOnce(&mut [u8])) -> Fault {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.edit_table(1, edit);
    disk.sector_mut(511).fill(0);
    primary_fault(disk)
}

fn primary_fault(mut disk: MemDisk) -> Fault {
    match Gpt::read(&mut disk) {
        Err(GptError::NoValidCopy { primary, .. }) => primary,
        result => panic!("{result:?}"),
    }
}

fn put32(at: usize, value: u32) -> impl FnOnce(&mut [u8]) {
    move |bytes| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes())
}

fn put64(at: usize, value: u64) -> impl FnOnce(&mut [u8]) {
    move |bytes| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes())
}

#[test]
fn headers_are_refused_with_their_numbers() {
    let signature = fault_of_header(|header| header[0] = b'e');
    assert_eq!(signature, Fault::NoSignature { lba: 1 });
    assert_eq!(
        fault_of_header(put32(8, 0x2_0000)),
        Fault::Revision { revision: 0x2_0000 }
    );
    for size in [0, 91, 513, 4096, u32::MAX] {
        let expected = Fault::HeaderSize { size, sector: 512 };
        assert_eq!(fault_of_header(put32(12, size)), expected);
    }
    assert_eq!(
        fault_of_header(put64(24, 5)),
        Fault::MyLba {
            claimed: 5,
            found: 1
        }
    );
    for size in [0, 1, 64, 127, 129, 256, u32::MAX] {
        assert_eq!(fault_of_header(put32(84, size)), Fault::EntrySize { size });
    }
    for count in [0, 129, 1_000_000_000, u32::MAX] {
        assert_eq!(
            fault_of_header(put32(80, count)),
            Fault::EntryCount { count }
        );
    }
    for lba in [0, 1, 3, 64, 300, 511, 512, u64::MAX - 1, u64::MAX] {
        let fault = fault_of_header(put64(72, lba));
        assert!(
            matches!(fault, Fault::EntriesPlace { .. }),
            "{lba}: {fault}"
        );
    }
    for lba in [0, 1, 100, 478] {
        assert_eq!(
            fault_of_header(put64(32, lba)),
            Fault::AlternateLba { lba, last: 478 }
        );
    }
    for (at, lba) in [
        (40, 479),
        (40, u64::MAX),
        (48, 0),
        (48, 33),
        (48, 512),
        (48, u64::MAX),
    ] {
        let fault = fault_of_header(put64(at, lba));
        assert!(
            matches!(fault, Fault::UsableRange { sectors: 512, .. }),
            "{lba}: {fault}"
        );
    }
    for first in [0, 1, 2, 33] {
        let fault = fault_of_header(put64(40, first));
        assert!(
            matches!(fault, Fault::EntriesPlace { .. }),
            "{first}: {fault}"
        );
    }
    // The alternate may lie outside the disk; then there is no backup.
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.edit_header(1, put64(32, u64::MAX));
    let gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        gpt.backup_fault(),
        Some(Fault::OutsideDisk {
            lba: u64::MAX,
            sectors: 512
        })
    );
    assert_eq!(
        (gpt.copies(), gpt.backup_at_end()),
        (Copies::PrimaryOnly, false)
    );
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.sector_mut(511).fill(0);
    let mut torn = disk.clone();
    torn.sector_mut(1)[60] ^= 1;
    assert!(matches!(primary_fault(torn), Fault::HeaderCrc { .. }));
    disk.sector_mut(20)[3] ^= 1;
    assert!(matches!(primary_fault(disk), Fault::EntriesCrc { .. }));
}

#[test]
fn partitions_are_refused_with_their_numbers() {
    let third = 2 * 128;
    for (first, last) in [
        (128, 127),
        (33, 40),
        (300, 479),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        let fault = fault_of_table(|table| {
            put64(third + 32, first)(table);
            put64(third + 40, last)(table);
        });
        let expected = Fault::PartitionRange {
            number: 3,
            first,
            last,
            usable_first: 34,
            usable_last: 478,
        };
        assert_eq!(fault, expected);
    }
    for (first, last, lba) in [
        (255, 256, 256),
        (319, 400, 319),
        (200, 300, 256),
        (256, 319, 256),
    ] {
        // Partition 9 against partition 4 moved out of the way of all others but that one.
        let fault = fault_of_table(|table| {
            put64(3 * 128 + 32, first)(table);
            put64(3 * 128 + 40, last)(table);
        });
        let overlap = Fault::Overlap {
            first: 4,
            second: 9,
            lba,
        };
        assert_eq!(fault, overlap);
    }
    let twice = fault_of_table(|table| table[8 * 128 + 16..][..16].fill(3));
    assert_eq!(
        twice,
        Fault::DuplicateGuid {
            first: 3,
            second: 9,
            guid: Guid([3; 16])
        }
    );
}

#[test]
fn the_backup_is_held_to_its_own_rules() {
    let edits: [(usize, u64); 5] = [(24, 510), (32, 2), (72, 2), (72, 478), (72, 480)];
    for (at, value) in edits {
        let mut disk = MemDisk::with_table(SectorSize::B512, 512);
        disk.sector_mut(1).fill(0);
        disk.edit_header(511, put64(at, value));
        let refused = Gpt::read(&mut disk);
        assert!(
            matches!(refused, Err(GptError::NoValidCopy { .. })),
            "{at} {value}: {refused:?}"
        );
    }
}

#[test]
fn disks_too_small_for_a_table_are_refused() {
    for sectors in 0..8 {
        let mut disk = MemDisk::new(SectorSize::B512, sectors);
        assert!(
            matches!(Gpt::read(&mut disk), Err(GptError::NoValidCopy { .. })),
            "{sectors}"
        );
    }
}

#[test]
fn an_unreadable_copy_counts_as_damaged_unless_it_is_the_last() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    for (bad, copies) in [
        (1, Copies::BackupOnly),
        (5, Copies::BackupOnly),
        (480, Copies::PrimaryOnly),
        (511, Copies::PrimaryOnly),
    ] {
        disk.bad_sector = Some(bad);
        assert_eq!(
            Gpt::read(&mut disk).unwrap().copies(),
            copies,
            "sector {bad}"
        );
    }
    disk.sector_mut(511).fill(0);
    disk.bad_sector = Some(1);
    assert!(matches!(Gpt::read(&mut disk), Err(GptError::Io(_))));
}

#[test]
fn sector_sizes_are_not_mixed_up() {
    let mut disk = MemDisk::with_table(SectorSize::B512, 512);
    disk.sector = SectorSize::B4096;
    assert!(matches!(
        Gpt::read(&mut disk),
        Err(GptError::NoValidCopy { .. })
    ));
}

/// A number that is likely to matter somewhere.
fn interesting() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..600,
        Just(u64::MAX),
        Just(u64::MAX - 33),
        Just(1 << 63),
        Just(u64::from(u32::MAX)),
        any::<u64>(),
    ]
}

proptest! {
    /// Whatever a sealed header and its entries say: no panic, and what is accepted keeps every promise and can be
    /// committed without leaving its place.
    #[test]
    fn sealed_nonsense_is_refused_or_sane(
        big in any::<bool>(),
        grown in 0_u64..50,
        header in prop::collection::vec((prop::sample::select(vec![12_usize, 24, 32, 40, 48, 72, 80, 84]), interesting()), 0..3),
        entries in prop::collection::vec((0_usize..12, prop::sample::select(vec![0_usize, 16, 32, 40, 48]), interesting()), 0..3),
        lost in prop::option::of(prop::sample::select(vec![1_u64, 2, 511])),
    ) {
        let sector = if big { SectorSize::B4096 } else { SectorSize::B512 };
        let mut disk = MemDisk::with_table(sector, 512);
        for (number, at, value) in entries {
            disk.edit_table(1, put64(number * 128 + at, value));
        }
        for (at, value) in header {
            let bytes = if matches!(at, 12 | 80 | 84) { 4 } else { 8 };
            disk.edit_header(1, |h| h[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]));
        }
        if let Some(lba) = lost {
            disk.sector_mut(lba).fill(0x5a);
        }
        if grown > 0 {
            disk.grow(grown);
        }
        let before = disk.bytes.clone();
        if let Ok(mut gpt) = Gpt::read(&mut disk) {
            let usable = gpt.usable();
            prop_assert!(usable.last < disk.sector_count());
            let all: Vec<_> = gpt.partitions().collect();
            for p in &all {
                prop_assert!(usable.first <= p.first_lba && p.first_lba <= p.last_lba && p.last_lba <= usable.last);
            }
            let _ = gpt.set_boot_state(staged());
            if gpt.commit(&mut disk).is_ok() {
                for p in &all {
                    let bytes = usize::try_from(p.first_lba * sector.bytes()).unwrap()
                        ..usize::try_from((p.last_lba + 1) * sector.bytes()).unwrap();
                    prop_assert!(disk.bytes[bytes.clone()] == before[bytes], "partition {} was written", p.number);
                }
                prop_assert!(disk.bytes[..sector.len()] == before[..sector.len()], "sector 0 was written");
                let again = Gpt::read(&mut disk).unwrap();
                prop_assert_eq!(again.copies(), Copies::Both);
                prop_assert!(again.backup_at_end());
            } else {
                prop_assert_eq!(disk.bytes, before);
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(seed in prop::collection::vec(any::<u8>(), 0..2048), big in any::<bool>(), signed in any::<bool>()) {
        let sector = if big { SectorSize::B4096 } else { SectorSize::B512 };
        let mut disk = MemDisk::new(sector, 64);
        let start = sector.len();
        disk.bytes[start..start + seed.len()].copy_from_slice(&seed);
        if signed {
            disk.edit_header(1, |header| header[..8].copy_from_slice(b"EFI PART"));
        }
        let _ = Gpt::read(&mut disk);
    }
}
