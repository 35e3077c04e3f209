//! A signed payload of some size, and the account of what was fetched of it.

use std::ops::Range;

use ed25519_dalek::Signer;
use updater::Digest;
use updater::manifest::{Artifact, Manifest};
use updater::payload::{Header, MAX_MANIFEST, SignatureRecord};
use updater::signature::key_id;
use updater::table::Entry;

use super::device::{BOARD, key};

pub const BLOCK: usize = 256 << 10;

pub struct Payload {
    pub image: Vec<u8>,
    pub bytes: Vec<u8>,
    pub id: Digest,
    /// Where the blocks' stored bytes start, and where the last ones end.
    starts: Vec<u64>,
}

impl Payload {
    /// Blocks that do not pack, blocks of zeros and blocks that pack well, in turn.
    pub fn new(size: usize) -> Self {
        let mut image = vec![0; size];
        let mut noise = blake3::Hasher::new().update(b"image").finalize_xof();
        for (index, block) in image.chunks_mut(BLOCK).enumerate() {
            match index % 7 {
                3 => {}
                5 => block.fill(u8::try_from(index % 251).unwrap()),
                _ => noise.fill(block),
            }
        }
        let (mut table, mut data, mut lengths) = (Vec::new(), Vec::<u8>::new(), Vec::new());
        for (index, block) in image.chunks(BLOCK).enumerate() {
            let hash = Digest::of(block);
            let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
            let (entry, stored) = match index % 7 {
                3 => (Entry::zero(hash), Vec::new()),
                5 => {
                    let packed = zstd::bulk::compress(block, 1).unwrap();
                    let stored = Digest::of(&packed);
                    (Entry::zstd(hash, stored, len(&packed)), packed)
                }
                _ => (Entry::raw(hash, len(block)), block.to_vec()),
            };
            table.extend(entry.to_bytes());
            lengths.push(stored.len() as u64);
            data.extend(stored);
        }
        let mut manifest = Manifest::new("demo".parse().unwrap(), "2.0.0".parse().unwrap(), 2);
        manifest.boards.push(BOARD.parse().unwrap()).unwrap();
        let artifact = Artifact {
            name: "usr".parse().unwrap(),
            size: image.len() as u64,
            block_size: u32::try_from(BLOCK).unwrap(),
            table: Digest::of(&table),
            content: Digest::of(&image),
        };
        manifest.artifacts.push(artifact).unwrap();
        let mut text = vec![0; MAX_MANIFEST];
        let length = manifest.emit(&mut text).unwrap();
        text.truncate(length);
        let signature = SignatureRecord {
            key_id: key_id(key(1).verifying_key().as_bytes()),
            signature: key(1).sign(&text).to_bytes(),
        };
        let mut bytes = Header::new(text.len(), 1).unwrap().to_bytes().to_vec();
        bytes.extend(signature.to_bytes());
        bytes.extend(&text);
        bytes.extend(&table);
        let mut starts = vec![bytes.len() as u64];
        for length in lengths {
            starts.push(starts.last().unwrap() + length);
        }
        bytes.extend(data);
        Self {
            id: Digest::of(&text),
            image,
            bytes,
            starts,
        }
    }

    /// Of what the last process fetched, the processes before it had fetched at most the beginning of one block, the one
    /// they were in, and header, manifest and tables only if those were not complete. Returns how many bytes that are.
    pub fn assert_fetched_once(&self, before: &[Range<u64>], all: &[Range<u64>]) -> u64 {
        let end = before.iter().map(|range| range.end).max().unwrap_or(0);
        let now = &all[before.len()..];
        let Some(first) = now.first().map(|range| range.start) else {
            return 0;
        };
        // Within a process every byte comes once, in order.
        for pair in now.windows(2) {
            assert!(pair[0].end <= pair[1].start, "{pair:?}");
        }
        let data = self.starts[0];
        if end <= data {
            return end.saturating_sub(first);
        }
        assert!(first >= data, "the tables were fetched again, from {first}");
        let complete = self.starts.iter().rev().find(|start| **start <= end);
        let complete = *complete.unwrap();
        // The block that had just arrived may not have been written yet.
        let written = self.starts.iter().rev().find(|start| **start < complete);
        let allowed = if end == complete {
            written.copied().unwrap_or(data)
        } else {
            complete
        };
        assert!(
            first >= allowed,
            "fetched up to {end} before, now from {first}, but {allowed} were complete"
        );
        end.saturating_sub(first)
    }
}
