use proptest::prelude::*;

use super::*;
use crate::SectorSize;
use crate::gpt::LbaRange;
use crate::gpt::tests::disk::MemDisk;

fn header(body: &[u8]) -> SlotRecordHeader {
    SlotRecordHeader {
        image_size: 4096,
        content: [0x11; 32],
        payload_id: [0x22; 32],
        body_len: 0,
        body_crc: 0,
        flashed: true,
        rollback_index: 7,
        product: "demo".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
    }
    .for_body(body)
    .unwrap()
}

/// A slot of 4 MiB and one sector more than 4096 bytes, somewhere on a disk.
fn disk(sector: SectorSize) -> (MemDisk, LbaRange) {
    let sectors = (SLOT_RECORD_BYTES + 4096) / sector.bytes();
    let slot = LbaRange {
        first: 5,
        last: 5 + sectors - 1,
    };
    (MemDisk::new(sector, sectors + 10), slot)
}

#[test]
fn literal_header() {
    let mut expected = [0; HEADER_BYTES];
    let mut put = |at: usize, bytes: &[u8]| expected[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"TANDEMSR\x01\0\0\0");
    // CRCs by zlib: of the body b"body", and of this header.
    put(12, &0x2578_5c39_u32.to_le_bytes());
    put(16, b"\0\x10\0\0\0\0\0\0");
    put(24, &[0x11; 32]);
    put(56, &[0x22; 32]);
    put(88, b"\x04\0\0\0");
    put(92, &0xdba8_0bb2_u32.to_le_bytes());
    put(96, b"\x01\0\0\0");
    put(104, b"\x07\0\0\0\0\0\0\0");
    put(112, b"\x04demo");
    put(177, b"\x051.0.0");
    assert_eq!(header(b"body").encode(), expected);
    assert_eq!(SlotRecordHeader::decode(&expected), Ok(header(b"body")));
}

#[test]
fn records_round_trip_and_lie_at_the_end() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        for length in [
            0,
            1,
            3584,
            3585,
            16 * 1024,
            100_001,
            MAX_BODY_BYTES as usize,
        ] {
            let (mut disk, slot) = disk(sector);
            let body: Vec<u8> = (0..length)
                .map(|n| u8::try_from(n % 251).unwrap())
                .collect();
            write(&mut disk, slot, &header(&body), &body).unwrap();
            let start = usize::try_from(5 * sector.bytes()).unwrap() + 4096;
            assert_eq!(disk.bytes[start..start + 512], header(&body).encode());
            assert_eq!(disk.bytes[start + 512..start + 512 + length], body);
            let end = usize::try_from((slot.last + 1) * sector.bytes()).unwrap();
            assert!(
                disk.bytes[..start]
                    .iter()
                    .chain(&disk.bytes[end..])
                    .all(|&b| b == 0)
            );
            let found = read_header(&mut disk, slot).unwrap();
            assert_eq!(found, header(&body));
            let mut back = vec![0; length];
            read_body(&mut disk, slot, &found, &mut back).unwrap();
            assert!(back == body);
            wipe(&mut disk, slot).unwrap();
            let wiped = read_header(&mut disk, slot);
            assert!(matches!(
                wiped,
                Err(RecordError::Header(HeaderError::Absent))
            ));
        }
    }
}

#[test]
fn the_header_is_written_last() {
    let (mut disk, slot) = disk(SectorSize::B512);
    let body = [1; 1000];
    write(&mut disk, slot, &header(&body), &body).unwrap();
    let start = 5 + 8;
    let lbas: Vec<_> = disk.log.iter().map(|w| w.as_ref().map(|w| w.0)).collect();
    assert_eq!(lbas, [Some(start + 1), None, Some(start), None]);
}

#[test]
fn damage_is_found() {
    let (mut disk, slot) = disk(SectorSize::B512);
    let body = [7; 1000];
    write(&mut disk, slot, &header(&body), &body).unwrap();
    let start = usize::try_from(13 * 512).unwrap();
    disk.bytes[start + 512 + 999] ^= 1;
    let found = read_header(&mut disk, slot).unwrap();
    assert!(matches!(
        body_is_intact(&mut disk, slot, &found),
        Err(RecordError::BodyCrc)
    ));
    disk.bytes[start + 500] ^= 1;
    let damaged = read_header(&mut disk, slot);
    assert!(matches!(
        damaged,
        Err(RecordError::Header(HeaderError::BadCrc))
    ));
}

#[test]
fn an_image_larger_than_the_slot_is_refused() {
    let (mut disk, slot) = disk(SectorSize::B512);
    let large = SlotRecordHeader {
        image_size: 8192,
        ..header(b"")
    };
    let expected = HeaderError::ImageSize {
        size: 8192,
        capacity: 4096,
    };
    let refused = write(&mut disk, slot, &large, b"");
    assert!(matches!(refused, Err(RecordError::Header(error)) if error == expected));
    assert!(disk.log.is_empty());
    disk.bytes[13 * 512..14 * 512].copy_from_slice(&large.encode());
    let refused = read_header(&mut disk, slot);
    assert!(matches!(refused, Err(RecordError::Header(error)) if error == expected));
    let tiny = LbaRange { first: 5, last: 6 };
    let refused = read_header(&mut disk, tiny);
    assert!(matches!(
        refused,
        Err(RecordError::SlotTooSmall { sectors: 2 })
    ));
}

/// A header with one field overwritten and a CRC that fits.
fn forged(at: usize, bytes: &[u8]) -> Result<SlotRecordHeader, HeaderError> {
    let mut forged = header(b"x").encode();
    forged[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc(&forged);
    forged[12..16].copy_from_slice(&crc.to_le_bytes());
    SlotRecordHeader::decode(&forged)
}

#[test]
fn forged_headers_are_refused() {
    assert_eq!(forged(8, &[2]), Err(HeaderError::Format(2)));
    assert_eq!(
        forged(16, &[0; 8]),
        Err(HeaderError::Malformed("image size"))
    );
    assert_eq!(forged(16, &[1]), Err(HeaderError::Malformed("image size")));
    assert_eq!(
        forged(88, &[0xff; 4]),
        Err(HeaderError::Malformed("body length"))
    );
    assert_eq!(forged(112, &[0]), Err(HeaderError::Malformed("product")));
    assert_eq!(forged(112, &[255]), Err(HeaderError::Malformed("product")));
    assert_eq!(forged(178, b"\xff"), Err(HeaderError::Malformed("version")));
    assert_eq!(forged(178, b"\""), Err(HeaderError::Malformed("version")));
    assert!(forged(242, &[9; 100]).is_ok());
}

proptest! {
    #[test]
    fn hostile_headers_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES)) {
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&bytes);
        header[..12].copy_from_slice(b"TANDEMSR\x01\0\0\0");
        let crc = crc(&header);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        if let Ok(decoded) = SlotRecordHeader::decode(&header) {
            prop_assert!(decoded.body_len <= MAX_BODY_BYTES);
        }
    }
}
