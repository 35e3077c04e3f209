//! A small signed payload with blocks of every kind.

use std::num::NonZeroU8;

use ed25519_dalek::{Signer, SigningKey};

use crate::gates::{Admitted, Device, admit};
use crate::incoming::{Incoming, IncomingError, Tables};
use crate::manifest::{Artifact, Manifest};
use crate::payload::{Header, MAX_MANIFEST, SignatureRecord};
use crate::signature::{KeySet, key_id};
use crate::source::Source;
use crate::table::Entry;
use crate::{Digest, engine::EngineError};

pub const BLOCK: usize = 65536;

/// An image whose size is no multiple of the block: blocks that pack well, one of zeros, one that does not pack, a short
/// last one.
pub fn image() -> Vec<u8> {
    let mut image = Vec::new();
    for block in 0..18_u8 {
        image.extend(std::iter::repeat_n(block.wrapping_mul(7) + 1, BLOCK));
    }
    image.extend([0; BLOCK]);
    let mut noise = blake3::Hasher::new();
    noise.update(b"noise");
    let mut bytes = vec![0; BLOCK];
    noise.finalize_xof().fill(&mut bytes);
    image.extend(bytes);
    image.extend([0xcc; 8192]);
    image
}

pub struct Built {
    pub bytes: Vec<u8>,
    /// Where each block's stored bytes start.
    pub offsets: Vec<usize>,
    /// Where the table starts.
    pub table: usize,
}

/// Packs and signs `image`; `content` replaces the image's own hash in the manifest.
pub fn build(image: &[u8], content: Option<Digest>) -> Built {
    let (mut table, mut data) = (Vec::new(), Vec::<u8>::new());
    let mut starts = Vec::new();
    for block in image.chunks(BLOCK) {
        let hash = Digest::of(block);
        let packed = zstd::bulk::compress(block, 1).unwrap();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let (entry, stored): (_, &[u8]) = if block.iter().all(|b| *b == 0) {
            (Entry::zero(hash), &[])
        } else if packed.len() < block.len() {
            (
                Entry::zstd(hash, Digest::of(&packed), len(&packed)),
                &packed,
            )
        } else {
            (Entry::raw(hash, len(block)), block)
        };
        starts.push(data.len());
        table.extend(entry.to_bytes());
        data.extend(stored);
    }
    let mut manifest = Manifest::new("demo".parse().unwrap(), "2".parse().unwrap(), 5);
    manifest.boards.push("test".parse().unwrap()).unwrap();
    let artifact = Artifact {
        name: "usr".parse().unwrap(),
        size: image.len() as u64,
        block_size: u32::try_from(BLOCK).unwrap(),
        table: Digest::of(&table),
        content: content.unwrap_or(Digest::of(image)),
    };
    manifest.artifacts.push(artifact).unwrap();
    let mut text = [0; MAX_MANIFEST];
    let len = manifest.emit(&mut text).unwrap();
    let mut bytes = Header::new(len, 1).unwrap().to_bytes().to_vec();
    let record = SignatureRecord {
        key_id: key_id(key().verifying_key().as_bytes()),
        signature: key().sign(&text[..len]).to_bytes(),
    };
    bytes.extend(record.to_bytes());
    bytes.extend(&text[..len]);
    let start = bytes.len();
    bytes.extend(&table);
    let offsets = starts.iter().map(|at| bytes.len() + at).collect();
    bytes.extend(data);
    Built {
        bytes,
        offsets,
        table: start,
    }
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// The rules pass; what fails is the payload itself.
pub fn accept(source: Source) -> Result<(Source, Tables, Admitted), EngineError> {
    let mut keys = KeySet::new();
    keys.insert(key().verifying_key().as_bytes()).unwrap();
    let (mut incoming, manifest) = Incoming::read(source, &keys, NonZeroU8::MIN)?;
    let device = Device {
        product: "demo",
        board: "test",
        group: "",
        artifacts: &["usr"],
        features: &[],
        version: Some("1"),
        floor: 0,
        capacity: super::disk::SLOT_BYTES - 4 * super::disk::MIB,
        active_confirmed: true,
        failure: None,
        staged: None,
    };
    let release = admit(manifest, &device, &[]).expect("the rules pass");
    incoming.read_tables(&release)?;
    let (source, tables) = incoming.into_parts();
    tables
        .table(&release)
        .map_err(|error: IncomingError| EngineError::from(error))?;
    Ok((source, tables, release))
}
