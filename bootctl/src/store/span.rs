//! Bytes within sectors: read, and changed without touching the other bytes of their sectors.

use core::ops::Range;

use crate::BlockIo;

/// Bytes of a disk that need not fill a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSpan {
    /// From the start of the disk, in bytes.
    pub at: u64,
    /// In bytes.
    pub length: usize,
}

impl ByteSpan {
    /// It lies within one sector of this many bytes, so that a power cut leaves it old or new.
    #[must_use]
    pub fn fits_one_sector(self, sector: u64) -> bool {
        self.at % sector + self.length as u64 <= sector
    }

    /// The sectors of this many bytes that it lies in.
    #[must_use]
    pub const fn sectors(self, sector: u64) -> Range<u64> {
        let end = self.at.saturating_add(self.length as u64);
        self.at / sector..end.div_ceil(sector)
    }
}

const MAX_SECTOR: usize = 4096;

/// The part of one sector that belongs to a span.
struct Piece {
    lba: u64,
    /// Where it starts in the sector.
    from: usize,
    /// Where it starts in the span.
    at: usize,
    length: usize,
}

fn pieces(span: ByteSpan, sector: usize) -> impl Iterator<Item = Piece> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let byte = span.at.checked_add(at as u64)?;
        let from = usize::try_from(byte % sector as u64).ok()?;
        let length = (span.length - at).min(sector - from);
        let piece = Piece {
            lba: byte / sector as u64,
            from,
            at,
            length,
        };
        at += length;
        (length > 0).then_some(piece)
    })
}

/// Reads a span into the start of `buffer` and returns it; shorter if the buffer is.
pub fn read_span<'a, B: BlockIo>(
    io: &mut B,
    span: ByteSpan,
    buffer: &'a mut [u8],
) -> Result<&'a mut [u8], B::Error> {
    let length = span.length.min(buffer.len());
    let span = ByteSpan { length, ..span };
    let size = io.sector_size().len();
    let mut sector = [0; MAX_SECTOR];
    for piece in pieces(span, size) {
        let sector = sector.get_mut(..size).unwrap_or_default();
        io.read_sectors(piece.lba, sector)?;
        let bytes = sector.iter().skip(piece.from).take(piece.length);
        for (place, byte) in buffer.iter_mut().skip(piece.at).zip(bytes) {
            *place = *byte;
        }
    }
    Ok(buffer.get_mut(..length).unwrap_or_default())
}

/// Like [`read_span`], but what the medium does not give is zeros; `false` then. A power cut may leave a sector that can't
/// be read until it is written.
pub fn read_span_or_zeros<'a, B: BlockIo>(
    io: &mut B,
    span: ByteSpan,
    buffer: &'a mut [u8],
) -> (&'a mut [u8], bool) {
    let length = span.length.min(buffer.len());
    let mut complete = true;
    for piece in pieces(ByteSpan { length, ..span }, io.sector_size().len()) {
        let Some(place) = buffer.get_mut(piece.at..piece.at.saturating_add(piece.length)) else {
            continue;
        };
        let span = ByteSpan {
            at: span.at.saturating_add(piece.at as u64),
            length: piece.length,
        };
        if let Err(error) = read_span(io, span, place) {
            log::warn!("read sector {}: {error}", piece.lba);
            place.fill(0);
            complete = false;
        }
    }
    (buffer.get_mut(..length).unwrap_or_default(), complete)
}

/// Writes `bytes` to a span, keeping the other bytes of its first and last sector, and flushes. Other bytes that can't be
/// read are lost already: they become zeros, because only a write makes their sector readable again.
pub fn write_span<B: BlockIo>(io: &mut B, span: ByteSpan, bytes: &[u8]) -> Result<(), B::Error> {
    let size = io.sector_size().len();
    let mut sector = [0; MAX_SECTOR];
    for piece in pieces(span, size) {
        let sector = sector.get_mut(..size).unwrap_or_default();
        if piece.length < size && io.read_sectors(piece.lba, sector).is_err() {
            sector.fill(0);
        }
        let bytes = bytes.iter().skip(piece.at).take(piece.length);
        for (place, byte) in sector.iter_mut().skip(piece.from).zip(bytes) {
            *place = *byte;
        }
        io.write_sectors(piece.lba, sector)?;
    }
    io.flush()
}
