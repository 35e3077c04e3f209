//! Disk descriptor, slot record, settings.

use bootctl::SectorSize;
use bootctl::descriptor::{DESCRIPTOR_BYTES, Descriptor};
use bootctl::gpt::LbaRange;
use bootctl::slot_record::{self, HEADER_BYTES, SLOT_RECORD_BYTES, SlotRecordHeader};
use updater::settings::Settings;

use super::memory::Memory;

const OEM_CONFIG: u64 = 16 << 20;

/// A descriptor that is accepted lies within OEM-CONFIG and comes back from what it is written as.
pub fn descriptor(data: &[u8]) -> bool {
    let mut record = [0; DESCRIPTOR_BYTES];
    for (place, byte) in record.iter_mut().zip(data) {
        *place = *byte;
    }
    let Ok(descriptor) = Descriptor::decode(&record, OEM_CONFIG) else {
        return false;
    };
    let again = descriptor.encode(OEM_CONFIG).unwrap();
    assert_eq!(Descriptor::decode(&again, OEM_CONFIG), Ok(descriptor));
    true
}

/// A slot record's header, its CRC made true unless its first byte is not a T, and the start of its body.
pub fn slot_record(data: &[u8]) -> bool {
    let mut area = vec![0; usize::try_from(2 * SLOT_RECORD_BYTES).unwrap()];
    let start = area.len() / 2;
    let data = &data[..data.len().min(start)];
    area[start..start + data.len()].copy_from_slice(data);
    let header = &mut area[start..start + HEADER_BYTES];
    if header[0] == b'T' {
        header[12..16].fill(0);
        let crc = super::crc32(header);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    let mut io = Memory {
        sector: SectorSize::B512,
        bytes: area,
    };
    let last = io.bytes.len() as u64 / 512 - 1;
    let slot = LbaRange { first: 0, last };
    let Ok(header) = slot_record::read_header(&mut io, slot) else {
        return false;
    };
    assert!(header.image_size <= SLOT_RECORD_BYTES);
    assert_eq!(
        SlotRecordHeader::decode(&header.encode()).as_ref(),
        Ok(&header)
    );
    let mut body = vec![0; header.body_len as usize];
    let read = slot_record::read_body(&mut io, slot, &header, &mut body);
    assert_eq!(
        read.is_ok(),
        slot_record::body_is_intact(&mut io, slot, &header).is_ok()
    );
    assert_eq!(read.is_ok(), super::crc32(&body) == header.body_crc);
    let header = header.for_body(&body).unwrap();
    slot_record::write(&mut io, slot, &header, &body).unwrap();
    assert_eq!(slot_record::read_header(&mut io, slot).unwrap(), header);
    slot_record::body_is_intact(&mut io, slot, &header).unwrap();
    slot_record::wipe(&mut io, slot).unwrap();
    assert!(slot_record::read_header(&mut io, slot).is_err());
    true
}

/// `/usr` up to the first zero byte, `/etc` after it. Nothing leaves its range, and `/etc` lowers nothing.
pub fn settings(data: &[u8]) -> bool {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let usr = parts.next().unwrap_or_default();
    let etc = parts.next().unwrap_or_default();
    let mut problems = 0;
    let settings = Settings::parse(usr, etc, &mut |problem| {
        problems += 1;
        assert!(!problem.to_string().is_empty());
    });
    assert!((1..=9).contains(&settings.tries));
    let required: Vec<u8> = (0..6)
        .map(|keys| settings.required_signatures(keys).get())
        .collect();
    assert!(required.iter().all(|count| (1..=4).contains(count)));
    assert!((1..=86_400).contains(&settings.health_timeout));
    let release = Settings::parse(usr, &[], &mut |_| ());
    assert!(settings.tries >= release.tries);
    for (keys, required) in required.into_iter().enumerate() {
        assert!(required >= release.required_signatures(keys).get());
        assert!(required >= settings.trial_signatures(keys).get());
    }
    assert!(settings.may_act_alone() || problems > 0);
    problems == 0
}
