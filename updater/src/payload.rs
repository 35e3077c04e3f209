//! Payload format 1: the header, and what stands before the tables.
//!
//! ```text
//! 0    8   "TANDEM\0\1"
//! 8    4   manifest length, u32 (1..=16384)
//! 12   2   signatures, u16 (1..=4)
//! 14   2   zero
//! 16   n × 96   key id (32), Ed25519 signature of the manifest bytes (64)
//! …    manifest · block tables, in manifest order · block data, in table order
//! ```
//! All numbers are little-endian. The first [`MAX_PREFIX`] bytes always hold header, signatures and manifest.

use crate::Digest;

/// The first eight bytes; the last of them is the format.
pub const MAGIC: [u8; 8] = *b"TANDEM\0\x01";
/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 16;
/// Length of a signature record, in bytes: key id and signature.
pub const SIGNATURE_RECORD_LEN: usize = 96;
/// Longest manifest, in bytes.
pub const MAX_MANIFEST: usize = 16384;
/// Most signatures.
pub const MAX_SIGNATURES: usize = 4;
/// Longest header with signatures and manifest, in bytes.
pub const MAX_PREFIX: usize = HEADER_LEN + MAX_SIGNATURES * SIGNATURE_RECORD_LEN + MAX_MANIFEST;
/// Most bytes of header, signatures, manifest and tables together: what a slot record holds after its own header.
pub const MAX_RECORD_BODY: usize = 4 * 1024 * 1024 - 512;
/// Most bytes of all tables together, so that they fit a slot record whatever the header and the manifest take.
pub const MAX_TABLES: usize = MAX_RECORD_BODY - MAX_PREFIX;

mod field {
    use core::ops::Range;

    pub const MAGIC: Range<usize> = 0..8;
    pub const MANIFEST_LEN: Range<usize> = 8..12;
    pub const SIGNATURES: Range<usize> = 12..14;
    pub const ZERO: Range<usize> = 14..16;
}

/// Why the first bytes are not a payload's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it ends after {have} of {need} bytes of header, signatures and manifest")]
    Truncated { have: usize, need: usize },
    #[error("it does not start with a payload's magic")]
    Magic,
    #[error("it has payload format {0}, this program reads 1")]
    Format(u8),
    #[error("its manifest of {0} bytes is not within 1 to 16384")]
    ManifestLength(u32),
    #[error("it has {0} signatures, not 1 to 4")]
    Signatures(u16),
    #[error("its header has non-zero padding")]
    Padding,
}

/// The first 16 bytes, within their bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    manifest_len: usize,
    signatures: usize,
}

impl Header {
    /// # Errors
    /// [`HeaderError::ManifestLength`], [`HeaderError::Signatures`]
    pub fn new(manifest_len: usize, signatures: usize) -> Result<Self, HeaderError> {
        let header = Self {
            manifest_len,
            signatures,
        };
        Self::parse(&header.to_bytes()).and_then(|parsed| match parsed == header {
            true => Ok(header),
            // Wrapped around on the way through the narrower fields.
            false => Err(HeaderError::ManifestLength(u32::MAX)),
        })
    }

    /// The header of a payload without signatures, which no device accepts.
    ///
    /// # Errors
    /// [`HeaderError::ManifestLength`]
    pub fn draft(manifest_len: usize) -> Result<Self, HeaderError> {
        Ok(Self {
            signatures: 0,
            ..Self::new(manifest_len, 1)?
        })
    }

    /// # Errors
    /// All but [`HeaderError::Truncated`].
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let header = Self::parse_draft(bytes)?;
        match header.signatures {
            0 => Err(HeaderError::Signatures(0)),
            _ => Ok(header),
        }
    }

    /// Like [`parse`](Self::parse), but takes a payload that waits for its signatures, and the copy of one in the record
    /// of a slot that was filled when the disk was built.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_draft(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let magic = array::<8>(bytes, field::MAGIC);
        if magic != MAGIC {
            let [head @ .., format] = magic;
            return Err(match MAGIC.starts_with(&head) {
                true => HeaderError::Format(format),
                false => HeaderError::Magic,
            });
        }
        let manifest_len = u32::from_le_bytes(array(bytes, field::MANIFEST_LEN));
        let signatures = u16::from_le_bytes(array(bytes, field::SIGNATURES));
        if array(bytes, field::ZERO) != [0; 2] {
            return Err(HeaderError::Padding);
        }
        let header = Self {
            manifest_len: usize::try_from(manifest_len).unwrap_or(usize::MAX),
            signatures: usize::from(signatures),
        };
        if !(1..=MAX_MANIFEST).contains(&header.manifest_len) {
            return Err(HeaderError::ManifestLength(manifest_len));
        }
        if header.signatures > MAX_SIGNATURES {
            return Err(HeaderError::Signatures(signatures));
        }
        Ok(header)
    }

    /// The 16 bytes.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`new` compares what comes back"
    )]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[field::MAGIC].copy_from_slice(&MAGIC);
        bytes[field::MANIFEST_LEN].copy_from_slice(&(self.manifest_len as u32).to_le_bytes());
        bytes[field::SIGNATURES].copy_from_slice(&(self.signatures as u16).to_le_bytes());
        bytes
    }

    /// Length of the manifest in bytes, 1 to [`MAX_MANIFEST`].
    #[must_use]
    pub fn manifest_len(&self) -> usize {
        self.manifest_len
    }

    /// Number of signatures, 1 to [`MAX_SIGNATURES`].
    #[must_use]
    pub fn signatures(&self) -> usize {
        self.signatures
    }

    /// Where the manifest starts, in bytes from the start of the payload.
    #[must_use]
    pub fn manifest_offset(&self) -> usize {
        HEADER_LEN + self.signatures * SIGNATURE_RECORD_LEN
    }

    /// Length of header, signatures and manifest in bytes, at most [`MAX_PREFIX`]. The tables start here.
    #[must_use]
    pub fn prefix_len(&self) -> usize {
        self.manifest_offset() + self.manifest_len
    }
}

fn array<const N: usize>(bytes: &[u8], range: core::ops::Range<usize>) -> [u8; N] {
    bytes
        .get(range)
        .and_then(|bytes| bytes.try_into().ok())
        .unwrap_or([0; N])
}

/// One signature of a payload, not yet checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureRecord {
    /// BLAKE3 of the raw public key.
    pub key_id: Digest,
    /// Ed25519 signature of the manifest bytes.
    pub signature: [u8; 64],
}

impl SignatureRecord {
    /// Any 96 bytes are one.
    #[must_use]
    pub fn parse(bytes: &[u8; SIGNATURE_RECORD_LEN]) -> Self {
        Self {
            key_id: Digest(array(bytes, 0..32)),
            signature: array(bytes, 32..96),
        }
    }

    /// The 96 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SIGNATURE_RECORD_LEN] {
        let mut bytes = [0; SIGNATURE_RECORD_LEN];
        bytes[..32].copy_from_slice(&self.key_id.0);
        bytes[32..].copy_from_slice(&self.signature);
        bytes
    }
}

/// Header, signatures and manifest of a payload, bounded but not verified.
#[derive(Clone, Copy, Debug)]
pub struct Prefix<'a> {
    header: Header,
    bytes: &'a [u8],
}

impl<'a> Prefix<'a> {
    /// Looks at the start of `bytes`; what follows the manifest is ignored.
    ///
    /// # Errors
    /// The header breaks a bound, or `bytes` ends before the manifest does.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        Self::parse_with(bytes, Header::parse)
    }

    /// Like [`parse`](Self::parse), for payloads without signatures too; see [`Header::parse_draft`].
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_draft(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        Self::parse_with(bytes, Header::parse_draft)
    }

    fn parse_with(
        bytes: &'a [u8],
        parse: fn(&[u8; HEADER_LEN]) -> Result<Header, HeaderError>,
    ) -> Result<Self, HeaderError> {
        let truncated = |need| HeaderError::Truncated {
            have: bytes.len(),
            need,
        };
        let head = bytes.first_chunk().ok_or(truncated(HEADER_LEN))?;
        let header = parse(head)?;
        let need = header.prefix_len();
        let bytes = bytes.get(..need).ok_or(truncated(need))?;
        Ok(Self { header, bytes })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The bytes that the signatures cover.
    #[must_use]
    pub fn manifest(&self) -> &'a [u8] {
        self.bytes
            .get(self.header.manifest_offset()..)
            .unwrap_or_default()
    }

    /// The payload's id: BLAKE3 of the manifest bytes.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(self.manifest())
    }

    /// The signatures in the order of the file.
    pub fn signatures(&self) -> impl Iterator<Item = SignatureRecord> + use<'a> {
        let records = self.bytes.get(HEADER_LEN..self.header.manifest_offset());
        let (records, _) = records.unwrap_or_default().as_chunks();
        records.iter().map(SignatureRecord::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LITERAL: [u8; 16] = *b"TANDEM\0\x01\x2c\x01\0\0\x02\0\0\0";

    #[test]
    fn literal_header() {
        let header = Header::parse(&LITERAL).unwrap();
        assert_eq!((header.manifest_len(), header.signatures()), (300, 2));
        assert_eq!((header.manifest_offset(), header.prefix_len()), (208, 508));
        assert_eq!(header.to_bytes(), LITERAL);
        assert_eq!(Header::new(300, 2), Ok(header));
        assert_eq!(MAX_PREFIX, 16784);
    }

    #[test]
    fn a_draft_is_no_payload() {
        let mut bytes = LITERAL;
        bytes[12] = 0;
        assert_eq!(Header::parse(&bytes), Err(HeaderError::Signatures(0)));
        assert_eq!(Header::parse_draft(&bytes), Header::draft(300));
        assert_eq!(Header::draft(300).unwrap().to_bytes(), bytes);
        assert_eq!(Header::draft(300).unwrap().manifest_offset(), 16);
        assert_eq!(Header::parse_draft(&LITERAL), Header::parse(&LITERAL));
        assert!(Header::draft(0).is_err());
        bytes[12] = 5;
        assert_eq!(Header::parse_draft(&bytes), Err(HeaderError::Signatures(5)));
    }

    #[test]
    fn every_bound_has_its_error() {
        let with = |at: usize, byte: u8| {
            let mut bytes = LITERAL;
            bytes[at] = byte;
            Header::parse(&bytes)
        };
        assert_eq!(with(0, b'X'), Err(HeaderError::Magic));
        assert_eq!(with(7, 2), Err(HeaderError::Format(2)));
        assert_eq!(
            with(11, 0xff),
            Err(HeaderError::ManifestLength(0xff00_012c))
        );
        assert_eq!(with(9, 0x40), Err(HeaderError::ManifestLength(0x402c)));
        assert_eq!(with(12, 0), Err(HeaderError::Signatures(0)));
        assert_eq!(with(12, 5), Err(HeaderError::Signatures(5)));
        assert_eq!(with(13, 1), Err(HeaderError::Signatures(258)));
        assert_eq!(with(14, 1), Err(HeaderError::Padding));
        assert_eq!(with(15, 1), Err(HeaderError::Padding));
        assert!(Header::new(0, 1).is_err());
        assert!(Header::new(16385, 1).is_err());
        assert!(Header::new((1 << 32) + 1, 1).is_err());
        assert!(Header::new(1, (1 << 16) + 1).is_err());
        assert!(Header::new(16384, 4).is_ok());
    }

    #[test]
    fn prefix_needs_all_its_bytes() {
        let mut bytes = std::vec![0x55; 600];
        bytes[..16].copy_from_slice(&LITERAL);
        for len in [0, 1, 15, 16, 207, 507] {
            let error = Prefix::parse(&bytes[..len]).unwrap_err();
            let need = if len < 16 { 16 } else { 508 };
            assert_eq!(error, HeaderError::Truncated { have: len, need });
        }
        let prefix = Prefix::parse(&bytes).unwrap();
        assert_eq!(prefix.manifest(), &bytes[208..508]);
        let records: std::vec::Vec<_> = prefix.signatures().collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[1].to_bytes(), bytes[112..208]);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), magic: bool) {
            if magic && bytes.len() > 8 {
                bytes[..8].copy_from_slice(&MAGIC);
            }
            if let Ok(prefix) = Prefix::parse(&bytes) {
                prop_assert_eq!(prefix.signatures().count(), prefix.header().signatures());
                prop_assert_eq!(prefix.manifest().len(), prefix.header().manifest_len());
            }
        }

        #[test]
        fn headers_round_trip(manifest in 1..=MAX_MANIFEST, signatures in 1..=MAX_SIGNATURES) {
            let header = Header::new(manifest, signatures).unwrap();
            prop_assert_eq!(Header::parse(&header.to_bytes()), Ok(header));
        }
    }
}
