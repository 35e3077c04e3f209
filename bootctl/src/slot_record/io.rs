//! Reading and writing a slot record on any [`BlockIo`], given the sectors of its USR partition.

use core::fmt::{Debug, Display};

use super::{HEADER_BYTES, HeaderError, MAX_BODY_BYTES, SLOT_RECORD_BYTES, SlotRecordHeader};
use crate::BlockIo;
use crate::gpt::LbaRange;

/// Sectors are read and written in pieces of this many bytes.
const CHUNK: usize = 16 * 1024;

/// Why a slot record can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError<E: Debug + Display> {
    #[error("{0}")]
    Io(E),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("the slot record's body is damaged (its CRC differs)")]
    BodyCrc,
    #[error("a slot record's body of {length} bytes, expected {expected}")]
    BodyLength { length: usize, expected: u32 },
    #[error("the slot has {sectors} sectors, too few for a slot record")]
    SlotTooSmall { sectors: u64 },
}

/// First sector of the record in a partition.
fn record_start<B: BlockIo>(io: &B, slot: LbaRange) -> Result<u64, RecordError<B::Error>> {
    let record = SLOT_RECORD_BYTES / io.sector_size().bytes();
    let sectors = slot.sectors();
    match sectors.checked_sub(record).filter(|&image| image > 0) {
        Some(image) => Ok(slot.first.saturating_add(image)),
        None => Err(RecordError::SlotTooSmall { sectors }),
    }
}

/// Largest image that a slot takes, in bytes: the partition without its record.
#[must_use]
pub(crate) fn capacity<B: BlockIo>(io: &B, slot: LbaRange) -> u64 {
    let bytes = slot.sectors().saturating_mul(io.sector_size().bytes());
    bytes.saturating_sub(SLOT_RECORD_BYTES)
}

/// Reads and checks the header of the record in `slot`. Reads one sector.
///
/// # Errors
/// I/O; no valid header; an image that is larger than the slot.
pub fn read_header<B: BlockIo>(
    io: &mut B,
    slot: LbaRange,
) -> Result<SlotRecordHeader, RecordError<B::Error>> {
    let start = record_start(io, slot)?;
    let mut buffer = [0; 4096];
    let sector = buffer.get_mut(..io.sector_size().len()).unwrap_or_default();
    io.read_sectors(start, sector).map_err(RecordError::Io)?;
    let bytes = sector
        .first_chunk::<HEADER_BYTES>()
        .ok_or(HeaderError::Absent)?;
    let header = SlotRecordHeader::decode(bytes)?;
    let (size, capacity) = (header.image_size, capacity(io, slot));
    if size > capacity {
        return Err(HeaderError::ImageSize { size, capacity }.into());
    }
    Ok(header)
}

/// Reads the body that belongs to `header` into `body`, whose length must be `header.body_len`, and checks its CRC.
///
/// # Errors
/// I/O; another length; a CRC that differs.
pub fn read_body<B: BlockIo>(
    io: &mut B,
    slot: LbaRange,
    header: &SlotRecordHeader,
    body: &mut [u8],
) -> Result<(), RecordError<B::Error>> {
    let (length, expected) = (body.len(), header.body_len);
    if u32::try_from(length) != Ok(expected) {
        return Err(RecordError::BodyLength { length, expected });
    }
    let mut rest = &mut *body;
    for_body(io, slot, header, |piece| {
        if let Some((place, later)) = core::mem::take(&mut rest).split_at_mut_checked(piece.len()) {
            place.copy_from_slice(piece);
            rest = later;
        }
    })
}

/// Checks the CRC of the body that belongs to `header`. Reads the body in pieces and keeps none of it.
///
/// # Errors
/// I/O; a CRC that differs.
pub fn body_is_intact<B: BlockIo>(
    io: &mut B,
    slot: LbaRange,
    header: &SlotRecordHeader,
) -> Result<(), RecordError<B::Error>> {
    for_body(io, slot, header, |_| ())
}

/// Hands the body to `take`, piece by piece, and then checks its CRC.
fn for_body<B: BlockIo>(
    io: &mut B,
    slot: LbaRange,
    header: &SlotRecordHeader,
    mut take: impl FnMut(&[u8]),
) -> Result<(), RecordError<B::Error>> {
    let start = record_start(io, slot)?;
    let sector = io.sector_size().len();
    let end = HEADER_BYTES.saturating_add(header.body_len.min(MAX_BODY_BYTES) as usize);
    let mut buffer = [0; CHUNK];
    let mut crc = crc32fast::Hasher::new();
    let (mut at, mut lba) = (0_usize, start);
    while at < end {
        let length = (end - at).next_multiple_of(sector).min(CHUNK);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        io.read_sectors(lba, piece).map_err(RecordError::Io)?;
        let skipped = if at == 0 { HEADER_BYTES } else { 0 };
        let bytes = piece.get(skipped..length.min(end - at)).unwrap_or_default();
        crc.update(bytes);
        take(bytes);
        at += length;
        lba += (length / sector) as u64;
    }
    if crc.finalize() == header.body_crc {
        Ok(())
    } else {
        Err(RecordError::BodyCrc)
    }
}

/// Wipes the record's header, so that the slot has none, and flushes. Writes one sector.
///
/// # Errors
/// I/O; the record may be there or not then.
pub fn wipe<B: BlockIo>(io: &mut B, slot: LbaRange) -> Result<(), RecordError<B::Error>> {
    let start = record_start(io, slot)?;
    let zeros = [0; 4096];
    let sector = zeros.get(..io.sector_size().len()).unwrap_or_default();
    io.write_sectors(start, sector).map_err(RecordError::Io)?;
    io.flush().map_err(RecordError::Io)
}

/// Writes a record: the body, a flush, then the sector with the header, a flush. The rest of the area keeps its bytes.
///
/// # Errors
/// I/O; a body that the header does not describe, or an image that is larger than the slot: nothing is written then.
pub fn write<B: BlockIo>(
    io: &mut B,
    slot: LbaRange,
    header: &SlotRecordHeader,
    body: &[u8],
) -> Result<(), RecordError<B::Error>> {
    let start = record_start(io, slot)?;
    check_writable(io, slot, header, body)?;
    let sector = io.sector_size().len();
    let shared = body.len().min(sector - HEADER_BYTES);
    let (first, rest) = body.split_at_checked(shared).unwrap_or_default();
    let mut buffer = [0; CHUNK];
    let mut lba = start + 1;
    for piece in rest.chunks(CHUNK) {
        let length = piece.len().next_multiple_of(sector);
        let sectors = buffer.get_mut(..length).unwrap_or_default();
        sectors.fill(0);
        copy(sectors, 0, piece);
        io.write_sectors(lba, sectors).map_err(RecordError::Io)?;
        lba += (length / sector) as u64;
    }
    io.flush().map_err(RecordError::Io)?;
    let sectors = buffer.get_mut(..sector).unwrap_or_default();
    sectors.fill(0);
    copy(sectors, 0, &header.encode());
    copy(sectors, HEADER_BYTES, first);
    io.write_sectors(start, sectors).map_err(RecordError::Io)?;
    io.flush().map_err(RecordError::Io)
}

fn check_writable<B: BlockIo>(
    io: &B,
    slot: LbaRange,
    header: &SlotRecordHeader,
    body: &[u8],
) -> Result<(), RecordError<B::Error>> {
    let (length, expected) = (body.len(), header.body_len);
    if u32::try_from(length) != Ok(expected) || expected > MAX_BODY_BYTES {
        return Err(RecordError::BodyLength { length, expected });
    }
    if crc32fast::hash(body) != header.body_crc {
        return Err(RecordError::BodyCrc);
    }
    let (size, capacity) = (header.image_size, capacity(io, slot));
    if size > capacity {
        return Err(HeaderError::ImageSize { size, capacity }.into());
    }
    // What we write must be what we accept.
    SlotRecordHeader::decode(&header.encode())?;
    Ok(())
}

fn copy(to: &mut [u8], at: usize, from: &[u8]) {
    for (place, byte) in to.iter_mut().skip(at).zip(from) {
        *place = *byte;
    }
}
