//! Slot record: what a slot holds, in the last 4 MiB of its USR partition.
//!
//! Little-endian. The header is 512 bytes:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 8 | `TANDEMSR` |
//! | 8 | 4 | format, 1 |
//! | 12 | 4 | CRC-32 of these 512 bytes with this field zero |
//! | 16 | 8 | size of the image in bytes |
//! | 24 | 32 | BLAKE3 of the image |
//! | 56 | 32 | payload id: BLAKE3 of the manifest |
//! | 88 | 4 | length of the body in bytes |
//! | 92 | 4 | CRC-32 of the body |
//! | 96 | 4 | flags, bit 0: put there when the disk was built, signatures not expected |
//! | 104 | 8 | rollback index |
//! | 112 | 1 + 64 | product: length, text, zeros |
//! | 177 | 1 + 64 | version: length, text, zeros |
//!
//! The body follows at 512: the first bytes of the payload as they were (header, signatures, manifest, tables).
//! Everything else is zero when written and ignored when read.

mod io;

use core::ops::Range;
use core::str;

pub(crate) use io::capacity;
pub use io::{RecordError, body_is_intact, read_body, read_header, wipe, write};

pub use crate::descriptor::Name;

/// Length of the area at the end of a USR partition that belongs to the record, in bytes.
pub const SLOT_RECORD_BYTES: u64 = 4 * 1024 * 1024;
/// Length of the header in bytes; the body starts here.
pub const HEADER_BYTES: usize = 512;
/// Largest body in bytes.
pub const MAX_BODY_BYTES: u32 = 4 * 1024 * 1024 - 512;

const MAGIC: &[u8; 8] = b"TANDEMSR";
const FORMAT: u32 = 1;
const FLAG_FLASHED: u32 = 1;

mod field {
    use super::Range;
    pub const MAGIC: Range<usize> = 0..8;
    pub const FORMAT: Range<usize> = 8..12;
    pub const CRC: Range<usize> = 12..16;
    pub const IMAGE_SIZE: Range<usize> = 16..24;
    pub const CONTENT: Range<usize> = 24..56;
    pub const PAYLOAD_ID: Range<usize> = 56..88;
    pub const BODY_LEN: Range<usize> = 88..92;
    pub const BODY_CRC: Range<usize> = 92..96;
    pub const FLAGS: Range<usize> = 96..100;
    pub const ROLLBACK_INDEX: Range<usize> = 104..112;
    pub const PRODUCT: Range<usize> = 112..177;
    pub const VERSION: Range<usize> = 177..242;
}

/// The header of a slot record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRecordHeader {
    /// Size of the image in bytes, a multiple of 4096.
    pub image_size: u64,
    /// BLAKE3 of the image.
    pub content: [u8; 32],
    /// BLAKE3 of the manifest.
    pub payload_id: [u8; 32],
    /// Length of the body in bytes, at most [`MAX_BODY_BYTES`].
    pub body_len: u32,
    /// CRC-32 of the body.
    pub body_crc: u32,
    /// Put there when the disk was built: its body need not carry signatures.
    pub flashed: bool,
    pub rollback_index: u64,
    pub product: Name,
    pub version: Name,
}

/// Why 512 bytes are no valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("there is no slot record")]
    Absent,
    #[error("the slot record's header is damaged (its CRC differs)")]
    BadCrc,
    #[error("slot record format {0}, this program knows 1")]
    Format(u32),
    #[error("the slot record's {0} is malformed")]
    Malformed(&'static str),
    #[error("the slot record tells of an image of {size} bytes, the slot takes {capacity}")]
    ImageSize { size: u64, capacity: u64 },
}

impl SlotRecordHeader {
    /// Fills in length and CRC of the body. `None` if it is longer than [`MAX_BODY_BYTES`].
    #[must_use]
    pub fn for_body(self, body: &[u8]) -> Option<Self> {
        let body_len = u32::try_from(body.len()).ok()?;
        (body_len <= MAX_BODY_BYTES).then(|| Self {
            body_len,
            body_crc: crc32fast::hash(body),
            ..self
        })
    }

    /// Decodes a header. Does not touch the disk.
    ///
    /// # Errors
    /// See [`HeaderError`]; the image's size is checked against the slot by [`read_header`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, HeaderError> {
        if bytes.get(field::MAGIC) != Some(MAGIC) {
            return Err(HeaderError::Absent);
        }
        if u32_at(bytes, field::CRC) != crc(bytes) {
            return Err(HeaderError::BadCrc);
        }
        let format = u32_at(bytes, field::FORMAT);
        if format != FORMAT {
            return Err(HeaderError::Format(format));
        }
        let image_size = u64_at(bytes, field::IMAGE_SIZE);
        if image_size == 0 || !image_size.is_multiple_of(4096) {
            return Err(HeaderError::Malformed("image size"));
        }
        let body_len = u32_at(bytes, field::BODY_LEN);
        if body_len > MAX_BODY_BYTES {
            return Err(HeaderError::Malformed("body length"));
        }
        Ok(Self {
            image_size,
            content: array_at(bytes, field::CONTENT),
            payload_id: array_at(bytes, field::PAYLOAD_ID),
            body_len,
            body_crc: u32_at(bytes, field::BODY_CRC),
            flashed: u32_at(bytes, field::FLAGS) & FLAG_FLASHED != 0,
            rollback_index: u64_at(bytes, field::ROLLBACK_INDEX),
            product: name_at(bytes, field::PRODUCT).ok_or(HeaderError::Malformed("product"))?,
            version: name_at(bytes, field::VERSION).ok_or(HeaderError::Malformed("version"))?,
        })
    }

    /// The header's bytes. Does not touch the disk.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let flags = if self.flashed { FLAG_FLASHED } else { 0 };
        put(&mut bytes, field::MAGIC, MAGIC);
        put(&mut bytes, field::FORMAT, &FORMAT.to_le_bytes());
        put(
            &mut bytes,
            field::IMAGE_SIZE,
            &self.image_size.to_le_bytes(),
        );
        put(&mut bytes, field::CONTENT, &self.content);
        put(&mut bytes, field::PAYLOAD_ID, &self.payload_id);
        put(&mut bytes, field::BODY_LEN, &self.body_len.to_le_bytes());
        put(&mut bytes, field::BODY_CRC, &self.body_crc.to_le_bytes());
        put(&mut bytes, field::FLAGS, &flags.to_le_bytes());
        put(
            &mut bytes,
            field::ROLLBACK_INDEX,
            &self.rollback_index.to_le_bytes(),
        );
        put_name(&mut bytes, field::PRODUCT, &self.product);
        put_name(&mut bytes, field::VERSION, &self.version);
        let crc = crc(&bytes);
        put(&mut bytes, field::CRC, &crc.to_le_bytes());
        bytes
    }
}

/// CRC of a header as if its CRC field were zero.
fn crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(bytes.get(..field::CRC.start).unwrap_or_default());
    hasher.update(&[0; 4]);
    hasher.update(bytes.get(field::CRC.end..).unwrap_or_default());
    hasher.finalize()
}

fn array_at<const N: usize>(bytes: &[u8; HEADER_BYTES], at: Range<usize>) -> [u8; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().zip(bytes.iter().skip(at.start)) {
        *place = *byte;
    }
    array
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: Range<usize>) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: Range<usize>) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn name_at(bytes: &[u8; HEADER_BYTES], at: Range<usize>) -> Option<Name> {
    let (&length, text) = bytes.get(at)?.split_first()?;
    str::from_utf8(text.get(..length.into())?)
        .ok()?
        .parse()
        .ok()
}

fn put(bytes: &mut [u8; HEADER_BYTES], at: Range<usize>, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at.start).zip(value) {
        *place = *byte;
    }
}

fn put_name(bytes: &mut [u8; HEADER_BYTES], at: Range<usize>, name: &Name) {
    let text = name.as_str().as_bytes();
    let length = u8::try_from(text.len()).unwrap_or_default();
    put(bytes, at.start..at.start + 1, &[length]);
    put(bytes, at.start + 1..at.end, text);
}

#[cfg(test)]
mod tests;
