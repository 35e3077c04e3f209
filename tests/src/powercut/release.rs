//! The releases of the simulated product: small images that share blocks, and payloads that the real engine takes.

use std::io::Cursor;
use std::num::NonZeroU8;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bootctl::slot_record::SlotRecordHeader;
use ed25519_dalek::{Signer, SigningKey};
use updater::Digest;
use updater::gates::{Admitted, Device, Reason, admit};
use updater::incoming::{Incoming, Tables};
use updater::manifest::{Artifact, Manifest};
use updater::payload::{Header, MAX_MANIFEST, SignatureRecord};
use updater::signature::{KeySet, key_id};
use updater::source::Source;
use updater::table::Entry;

/// Bytes of a block of every payload.
pub const BLOCK: usize = 4096;
/// Blocks of every image.
pub const BLOCKS: usize = 24;
/// Size of every image in bytes.
pub const IMAGE: usize = BLOCK * BLOCKS;

pub const PRODUCT: &str = "demo";
pub const BOARD: &str = "simulated";

/// What becomes of a device that boots a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quality {
    Good,
    /// Boots, and its health checks fail.
    Unhealthy,
    /// Its kernel is missing: the loader skips it.
    NoKernel,
}

/// One release.
#[derive(Clone, Debug)]
pub struct Release {
    pub quality: Quality,
    pub image: Vec<u8>,
    payload: Arc<[u8]>,
}

/// Number of a release; 0 is the one that disks are flashed with.
pub type Number = usize;

/// The flashed one, another good one, a bad one, one without a kernel.
pub fn all() -> Result<Vec<Release>> {
    use Quality::{Good, NoKernel, Unhealthy};
    let qualities = [Good, Good, Unhealthy, NoKernel];
    let release = |(number, quality)| Release::new(number, quality);
    qualities.into_iter().enumerate().map(release).collect()
}

impl Release {
    fn new(number: Number, quality: Quality) -> Result<Self> {
        let image = image(number);
        let payload = payload(number, &image)?.into();
        Ok(Self {
            quality,
            image,
            payload,
        })
    }

    /// What does not load, and can't be installed: content that is none of ours.
    #[must_use]
    pub fn unloadable() -> Self {
        Self {
            quality: Quality::NoKernel,
            image: Vec::new(),
            payload: Arc::new([]),
        }
    }

    /// Everything up to the installation: read, verified, admitted.
    pub fn accept(&self) -> Result<(Source, Tables, Admitted)> {
        let source = Source::stream(Cursor::new(Arc::clone(&self.payload)));
        let mut keys = KeySet::new();
        keys.insert(key().verifying_key().as_bytes())?;
        let (mut incoming, manifest) = Incoming::read(source, &keys, NonZeroU8::MIN)?;
        let device = Device {
            product: PRODUCT,
            board: BOARD,
            group: "",
            artifacts: &["usr"],
            features: &[],
            version: Some("0"),
            floor: 0,
            capacity: IMAGE as u64,
            active_confirmed: true,
            failure: None,
            staged: None,
        };
        let release = admit(manifest, &device, &[Reason::Same])?;
        incoming.read_tables(&release)?;
        let (source, tables) = incoming.into_parts();
        Ok((source, tables, release))
    }

    /// Header and body of the record that a disk built with this release carries.
    pub fn flashed_record(&self) -> Result<(SlotRecordHeader, Vec<u8>)> {
        let (_, tables, release) = self.accept()?;
        let manifest = release.manifest();
        let name = |text: &str| text.parse().map_err(|error| anyhow!("{text}: {error}"));
        let header = SlotRecordHeader {
            image_size: IMAGE as u64,
            content: release.artifact().content.0,
            payload_id: manifest.id().0,
            body_len: 0,
            body_crc: 0,
            flashed: true,
            rollback_index: manifest.rollback_index,
            product: name(&manifest.product)?,
            version: name(&manifest.version)?,
        };
        let header = header.for_body(tables.body());
        Ok((
            header.context("make a slot record")?,
            tables.body().to_vec(),
        ))
    }
}

/// Every third block is the same in all releases and one is zero, so that an installation over another release writes
/// several pieces.
fn image(number: Number) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(IMAGE);
    for block in 0..BLOCKS {
        let shared = block % 3 == 2;
        let mut noise = blake3::Hasher::new();
        let who = if shared { usize::MAX } else { number };
        noise.update(&who.to_le_bytes());
        noise.update(&block.to_le_bytes());
        let start = bytes.len();
        bytes.resize(start + BLOCK, 0);
        if block != 4 {
            let half = if block % 2 == 0 { BLOCK } else { BLOCK / 2 };
            noise.finalize_xof().fill(&mut bytes[start..start + half]);
        }
    }
    bytes
}

fn payload(number: Number, image: &[u8]) -> Result<Vec<u8>> {
    let (mut table, mut data) = (Vec::new(), Vec::new());
    for block in image.chunks(BLOCK) {
        let hash = Digest::of(block);
        let packed = zstd::bulk::compress(block, 1)?;
        let (entry, stored): (_, &[u8]) = if block.iter().all(|byte| *byte == 0) {
            (Entry::zero(hash), &[])
        } else if packed.len() < block.len() {
            let length = u32::try_from(packed.len())?;
            (Entry::zstd(hash, Digest::of(&packed), length), &packed)
        } else {
            (Entry::raw(hash, u32::try_from(block.len())?), block)
        };
        table.extend(entry.to_bytes());
        data.extend_from_slice(stored);
    }
    let version = format!("{}", number + 1);
    let mut manifest = Manifest::new(PRODUCT.parse()?, version.parse()?, 1);
    let full = |_| anyhow!("make a manifest: no room");
    manifest.boards.push(BOARD.parse()?).map_err(full)?;
    let artifact = Artifact {
        name: "usr".parse()?,
        size: image.len() as u64,
        block_size: u32::try_from(BLOCK)?,
        table: Digest::of(&table),
        content: Digest::of(image),
    };
    let full = |_| anyhow!("make a manifest: no room");
    manifest.artifacts.push(artifact).map_err(full)?;
    let mut text = vec![0; MAX_MANIFEST];
    let length = manifest.emit(&mut text)?;
    text.truncate(length);
    let mut bytes = Header::new(length, 1)?.to_bytes().to_vec();
    let record = SignatureRecord {
        key_id: key_id(key().verifying_key().as_bytes()),
        signature: key().sign(&text).to_bytes(),
    };
    bytes.extend(record.to_bytes());
    bytes.extend(text);
    bytes.extend(table);
    bytes.extend(data);
    Ok(bytes)
}

/// A key for these payloads alone.
fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}
