//! Unpacking stored blocks: exactly one zstd frame, bounded before and while it is unpacked.

use zstd::bulk::Decompressor;
use zstd::zstd_safe;

use crate::table::{Block, Kind};

/// Why stored bytes with the right hash still are no block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("block {block}: its stored bytes are not one zstd frame")]
    Frame { block: u64 },
    #[error(
        "block {block}: its zstd frame wants a window of {window} bytes, more than the block's {len}"
    )]
    Window { block: u64, window: u64, len: u32 },
    #[error("block {block}: its zstd frame wants a dictionary")]
    Dictionary { block: u64 },
    #[error("block {block}: its zstd frame does not unpack to {len} bytes ({cause})")]
    Unpack { block: u64, len: u32, cause: String },
}

/// Unpacks one block after the other; keeps its working memory.
pub struct Decoder {
    zstd: Decompressor<'static>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Decoder {
    /// # Errors
    /// Not enough memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: Decompressor::new()?,
        })
    }

    /// Unpacks the stored bytes of `block` into `out`, which has the block's length. The caller has compared the stored
    /// bytes with their hash, and compares `out` with the block's.
    ///
    /// # Errors
    /// The stored bytes do not unpack to exactly one block within the bounds.
    pub fn unpack(
        &mut self,
        block: &Block,
        stored: &[u8],
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let failed = |cause: &str| DecodeError::Unpack {
            block: block.index,
            len: block.len,
            cause: cause.to_owned(),
        };
        match block.entry.kind() {
            Kind::Zero => out.fill(0),
            Kind::Raw if stored.len() == out.len() => out.copy_from_slice(stored),
            Kind::Raw => return Err(failed("another length")),
            Kind::Zstd => {
                check_frame(block, stored)?;
                let count = self
                    .zstd
                    .decompress_to_buffer(stored, out)
                    .map_err(|error| failed(&error.to_string()))?;
                if count != out.len() {
                    return Err(failed(&format!("it has {count}")));
                }
            }
        }
        Ok(())
    }
}

fn check_frame(block: &Block, stored: &[u8]) -> Result<(), DecodeError> {
    let (index, len) = (block.index, block.len);
    let frame = DecodeError::Frame { block: index };
    let Some(header) = FrameHeader::parse(stored) else {
        return Err(frame);
    };
    if header.dictionary {
        return Err(DecodeError::Dictionary { block: index });
    }
    if header.window > u64::from(len) && header.window > MIN_WINDOW {
        return Err(DecodeError::Window {
            block: index,
            window: header.window,
            len,
        });
    }
    match zstd_safe::find_frame_compressed_size(stored) {
        Ok(size) if size == stored.len() => Ok(()),
        _ => Err(frame),
    }
}

/// The smallest window that a frame without "single segment" can name; a last block may be shorter than what the
/// encoder was told.
const MIN_WINDOW: u64 = 1024;

/// What the first bytes of a zstd frame say (RFC 8878, section 3.1.1.1).
#[derive(Debug, PartialEq, Eq)]
struct FrameHeader {
    window: u64,
    dictionary: bool,
}

impl FrameHeader {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        // Skippable frames have other magics.
        if *magic != [0x28, 0xb5, 0x2f, 0xfd] {
            return None;
        }
        let (&descriptor, rest) = rest.split_first()?;
        let single_segment = descriptor & 0x20 != 0;
        let dictionary_len = [0, 1, 2, 4][usize::from(descriptor & 3)];
        if descriptor & 0x08 != 0 {
            return None;
        }
        let window = if single_segment {
            let size_len = [1, 2, 4, 8][usize::from(descriptor >> 6)];
            let size = rest.get(dictionary_len..)?.get(..size_len)?;
            let size = size.iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            // Two-byte sizes start at 256.
            size.checked_add(if size_len == 2 { 256 } else { 0 })?
        } else {
            let byte = *rest.first()?;
            let base = 1_u64 << (10 + (byte >> 3));
            base + base / 8 * u64::from(byte & 7)
        };
        Some(Self {
            window,
            dictionary: dictionary_len != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use crate::table::Entry;
    use proptest::prelude::*;
    use std::io::Write;

    fn block(len: u32, stored: &[u8]) -> Block {
        let stored_len = u32::try_from(stored.len()).unwrap();
        Block {
            index: 7,
            offset: 0,
            len,
            entry: Entry::zstd(Digest::default(), Digest::of(stored), stored_len),
        }
    }

    fn unpack(len: u32, stored: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let mut out = vec![0xee; len as usize];
        Decoder::new()
            .unwrap()
            .unpack(&block(len, stored), stored, &mut out)?;
        Ok(out)
    }

    fn frame(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    #[test]
    fn one_frame_of_the_right_length() {
        let bytes = [5; 8192];
        assert_eq!(unpack(8192, &frame(&bytes)).unwrap(), bytes);
        for len in [4096, 12288] {
            let error = unpack(len, &frame(&bytes)).unwrap_err();
            let bounded = matches!(
                error,
                DecodeError::Unpack { .. } | DecodeError::Window { .. }
            );
            assert!(bounded, "{error}");
        }
    }

    #[test]
    fn a_frame_that_unpacks_to_more_than_a_block_is_stopped() {
        // A stream without a content size, so that only unpacking shows how much it holds.
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(12).unwrap();
        for _ in 0..32 {
            encoder.write_all(&[0; 65536]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 8192);
        assert!(matches!(
            unpack(8192, &bomb),
            Err(DecodeError::Unpack { .. })
        ));
    }

    #[test]
    fn foreign_windows_dictionaries_and_second_frames_are_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(20).unwrap();
        encoder.write_all(&[1; 8192]).unwrap();
        let wide = encoder.finish().unwrap();
        assert!(matches!(
            unpack(8192, &wide),
            Err(DecodeError::Window {
                window: 0x10_0000,
                ..
            })
        ));

        let two = [frame(&[1; 4096]), frame(&[1; 4096])].concat();
        assert!(matches!(unpack(8192, &two), Err(DecodeError::Frame { .. })));
        let mut trailing = frame(&[1; 8192]);
        trailing.push(0);
        assert!(matches!(
            unpack(8192, &trailing),
            Err(DecodeError::Frame { .. })
        ));
        let cut = frame(&[1; 8192]);
        assert!(matches!(
            unpack(8192, &cut[..cut.len() - 1]),
            Err(DecodeError::Frame { .. })
        ));
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
        assert!(matches!(
            unpack(8192, &skippable),
            Err(DecodeError::Frame { .. })
        ));

        let dictionary = vec![7; 4096];
        let mut with = zstd::bulk::Compressor::with_dictionary(1, &dictionary).unwrap();
        let raw_dictionary = with.compress(&[7; 8192]).unwrap();
        // A dictionary without an id leaves no trace in the header; what it unpacks to differs, or nothing at all.
        let _ = unpack(8192, &raw_dictionary);
        let mut named = frame(&[1; 8192]);
        named[4] |= 1;
        named.insert(5, 9);
        assert!(matches!(
            unpack(8192, &named),
            Err(DecodeError::Dictionary { .. })
        ));
    }

    #[test]
    fn literal_frame_headers() {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let parse = |rest: &[u8]| FrameHeader::parse(&[&magic, rest].concat());
        let header = |window, dictionary| Some(FrameHeader { window, dictionary });
        assert_eq!(parse(&[0x20, 0x10]), header(16, false));
        assert_eq!(parse(&[0x60, 0x00, 0x01]), header(512, false));
        assert_eq!(parse(&[0x00, 0x51]), header((1 << 20) + (1 << 17), false));
        assert_eq!(parse(&[0x01, 0x00, 0x09]), header(1024, true));
        assert_eq!(parse(&[0x08, 0x00]), None);
        assert_eq!(parse(&[0xe0, 0, 0, 0]), None);
        assert_eq!(parse(&[]), None);
    }

    proptest! {
        #[test]
        fn hostile_frames_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..200), valid: bool) {
            if valid && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd]);
            }
            let _ = unpack(4096, &bytes);
        }
    }
}
