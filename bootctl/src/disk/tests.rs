use std::io::{Read, Seek, Write};

use super::*;
use crate::gpt::LbaRange;

fn file(length: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(length).unwrap();
    file
}

fn contents(file: &tempfile::NamedTempFile) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut file = file.reopen().unwrap();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 253).unwrap())
        .collect()
}

#[test]
fn unaligned_memory_and_a_ragged_end_round_trip() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let file = file(3 * 1024 * 1024 + 777);
        let mut disk = Disk::open_sized(file.path(), Access::Write, sector).unwrap();
        assert_eq!(
            disk.sector_count(),
            (3 * 1024 * 1024 + 777) / sector.bytes()
        );
        let data = pattern(300 * 4096);
        // One byte into a vector is aligned to nothing.
        let mut shifted = vec![0; data.len() + 1];
        shifted[1..].copy_from_slice(&data);
        disk.write_sectors(3, &shifted[1..]).unwrap();
        let mut aligned = AlignedBuf::new(4096);
        aligned.fill(0x5a);
        disk.write_sectors(disk.sector_count() - 4096 / sector.bytes(), &aligned)
            .unwrap();
        disk.flush().unwrap();
        let mut back = vec![0; data.len() + 1];
        disk.read_sectors(3, &mut back[1..]).unwrap();
        assert_eq!(back[1..], data);
        let on_disk = contents(&file);
        assert_eq!(on_disk.len(), 3 * 1024 * 1024 + 777);
        assert_eq!(on_disk[3 * sector.len()..][..data.len()], data);
        assert_eq!(on_disk[..3 * sector.len()], vec![0; 3 * sector.len()]);
    }
}

#[test]
fn ranges_and_rights_are_checked() {
    let file = file(64 * 512);
    let mut disk = Disk::open(file.path(), Access::Read).unwrap();
    let out = |result| {
        assert!(
            matches!(result, Err(DiskError::OutOfRange { .. })),
            "{result:?}"
        )
    };
    out(disk.read_sectors(64, &mut [0; 512]));
    out(disk.read_sectors(63, &mut [0; 1024]));
    out(disk.read_sectors(u64::MAX, &mut [0; 512]));
    out(disk.read_sectors(0, &mut [0; 511]));
    disk.read_sectors(63, &mut [0; 512]).unwrap();
    let written = disk.write_sectors(0, &[0; 512]);
    assert!(matches!(written, Err(DiskError::ReadOnly { .. })));
    assert!(matches!(
        Disk::open("/dev/null", Access::Read),
        Err(DiskError::NotADisk { .. })
    ));
    assert!(matches!(
        Disk::open("/nowhere", Access::Read),
        Err(DiskError::Open { .. })
    ));
}

#[test]
fn a_partition_of_a_file_is_a_window() {
    let file = file(64 * 512);
    let disk = Disk::open(file.path(), Access::Write).unwrap();
    let range = LbaRange { first: 8, last: 15 };
    let mut partition = disk.partition(3, range, Access::Write).unwrap();
    assert_eq!(partition.sector_count(), 8);
    partition.write_sectors(7, &[1; 512]).unwrap();
    assert!(partition.write_sectors(8, &[1; 512]).is_err());
    assert!(partition.write_sectors(7, &[1; 1024]).is_err());
    let mut reader = partition.reader().unwrap();
    partition.flush().unwrap();
    let mut sector = [0; 512];
    reader.read_sectors(7, &mut sector).unwrap();
    assert_eq!(sector, [1; 512]);
    assert!(reader.read_sectors(8, &mut sector).is_err());
    assert!(reader.write_sectors(0, &sector).is_err());
    partition.finish().unwrap();
    let mut expected = vec![0; 64 * 512];
    expected[15 * 512..16 * 512].fill(1);
    assert_eq!(contents(&file), expected);
    let beyond = LbaRange {
        first: 60,
        last: 64,
    };
    assert!(matches!(
        disk.partition(3, beyond, Access::Read),
        Err(DiskError::OutOfRange { .. })
    ));
    let reader = Disk::open(file.path(), Access::Read).unwrap();
    let mut partition = reader.partition(3, range, Access::Write).unwrap();
    assert!(matches!(
        partition.write_sectors(0, &[0; 512]),
        Err(DiskError::ReadOnly { .. })
    ));
}

#[test]
fn the_sector_size_of_a_file_is_where_its_table_is() {
    for (offset, expected) in [
        (512, SectorSize::B512),
        (4096, SectorSize::B4096),
        (64 * 4096 - 512, SectorSize::B512),
        (64 * 4096 - 4096, SectorSize::B4096),
        (1024, SectorSize::B512),
    ] {
        let mut file = file(64 * 4096 + 100);
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(b"EFI PART").unwrap();
        let disk = Disk::open(file.path(), Access::Read).unwrap();
        assert_eq!(disk.sector_size(), expected, "{offset}");
    }
    Disk::open(file(0).path(), Access::Read).unwrap();
    Disk::open(file(700).path(), Access::Read).unwrap();
}

#[test]
fn a_locked_disk_is_busy_until_the_guard_goes() {
    let file = file(4096);
    let one = Disk::open(file.path(), Access::Write).unwrap();
    let other = Disk::open(file.path(), Access::Read).unwrap();
    let guard = one.lock(Duration::ZERO).unwrap();
    match other.lock(Duration::ZERO) {
        Err(DiskError::Lock { cause, .. }) => assert_eq!(cause.kind(), io::ErrorKind::WouldBlock),
        result => panic!("{result:?}"),
    }
    drop(guard);
    drop(other.lock(Duration::ZERO).unwrap());
}
