//! Looking inside a payload: facts, signatures, every hash.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use ed25519_dalek::{Signature, VerifyingKey};
use updater::Digest;
use updater::manifest::{Artifact, Manifest};
use updater::payload::{MAX_PREFIX, MAX_TABLES, Prefix};
use updater::signature::key_id;
use updater::table::{Block, Kind, Table};

use crate::Failure;

/// What a payload holds. Every hash in it was checked.
#[derive(Clone, Debug)]
pub struct Facts {
    /// BLAKE3 of the manifest.
    pub id: Digest,
    pub manifest: Manifest,
    /// The bytes that signatures cover.
    pub manifest_bytes: Vec<u8>,
    pub signatures: Vec<SignatureFact>,
    pub artifacts: Vec<ArtifactFact>,
    /// Size of the file in bytes.
    pub size: u64,
}

/// One signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureFact {
    pub key_id: Digest,
    pub standing: Standing,
}

/// How a signature stands to the given keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Valid,
    Wrong,
    /// None of the given keys made it, as far as its key id tells.
    UnknownKey,
}

/// How an artifact's blocks are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArtifactFact {
    pub zero: u64,
    pub raw: u64,
    pub zstd: u64,
    /// Bytes of block data in the file.
    pub stored: u64,
}

/// Reads header, signatures and manifest only: the bytes that are to be signed.
///
/// # Errors
/// The file can't be read, or does not begin like a payload.
pub fn manifest_bytes(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let head = read_prefix(&mut BufReader::new(file), path)?;
    let prefix = Prefix::parse_draft(&head).map_err(|e| unverified(path, &e))?;
    Ok(prefix.manifest().to_vec())
}

/// Reads all of a payload and checks every hash and length, and its signatures against `keys`.
///
/// # Errors
/// The file can't be read, breaks a rule of the format (7), or a signature of one of the keys is wrong or missing (7).
pub fn inspect(path: &Path, keys: &[VerifyingKey]) -> Result<Facts> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let head = read_prefix(&mut reader, path)?;
    let prefix = Prefix::parse_draft(&head).map_err(|e| unverified(path, &e))?;
    let signatures = check_signatures(&prefix, keys);
    for key in keys {
        let id = key_id(key.as_bytes());
        let valid = |s: &SignatureFact| s.key_id == id && s.standing == Standing::Valid;
        if !signatures.iter().any(valid) {
            return Err(unverified(
                path,
                &format!("no valid signature by key {id} (--key)"),
            ));
        }
    }
    let manifest = Manifest::parse(prefix.manifest()).map_err(|e| unverified(path, &e))?;
    let mut tables = Vec::new();
    for artifact in &manifest.artifacts {
        let len = usize::try_from(artifact.table_len())
            .ok()
            .filter(|&n| n <= MAX_TABLES)
            .with_context(|| format!("read {}: a table is too long", path.display()))?;
        let mut table = vec![0; len];
        fill(&mut reader, &mut table, path, "the block table")?;
        tables.push(table);
    }
    let mut size =
        (prefix.header().prefix_len() + tables.iter().map(Vec::len).sum::<usize>()) as u64;
    let mut artifacts = Vec::new();
    for (artifact, table) in manifest.artifacts.iter().zip(&tables) {
        let table = Table::parse(artifact, table).map_err(|e| unverified(path, &e))?;
        let fact = check_blocks(&mut reader, artifact, &table, path)?;
        size += fact.stored;
        artifacts.push(fact);
    }
    if reader
        .read(&mut [0])
        .with_context(|| format!("read {}", path.display()))?
        != 0
    {
        return Err(unverified(path, &"bytes follow the last block"));
    }
    Ok(Facts {
        id: prefix.id(),
        manifest_bytes: prefix.manifest().to_vec(),
        manifest,
        signatures,
        artifacts,
        size,
    })
}

fn read_prefix(reader: &mut impl Read, path: &Path) -> Result<Vec<u8>> {
    use updater::payload::{HEADER_LEN, Header};
    let mut head = vec![0; HEADER_LEN];
    fill(reader, &mut head, path, "the header")?;
    let first = head.first_chunk().context("read header")?;
    let header = Header::parse_draft(first).map_err(|e| unverified(path, &e))?;
    head.resize(header.prefix_len().min(MAX_PREFIX), 0);
    fill(
        reader,
        &mut head[HEADER_LEN..],
        path,
        "signatures and manifest",
    )?;
    Ok(head)
}

fn check_signatures(prefix: &Prefix, keys: &[VerifyingKey]) -> Vec<SignatureFact> {
    prefix
        .signatures()
        .map(|record| {
            let key = keys.iter().find(|k| key_id(k.as_bytes()) == record.key_id);
            let signature = Signature::from_bytes(&record.signature);
            let standing = match key {
                None => Standing::UnknownKey,
                Some(key) if key.verify_strict(prefix.manifest(), &signature).is_ok() => {
                    Standing::Valid
                }
                Some(_) => Standing::Wrong,
            };
            SignatureFact {
                key_id: record.key_id,
                standing,
            }
        })
        .collect()
}

fn check_blocks(
    reader: &mut impl Read,
    artifact: &Artifact,
    table: &Table,
    path: &Path,
) -> Result<ArtifactFact> {
    let mut fact = ArtifactFact::default();
    let mut content = blake3::Hasher::new();
    let mut unpacker = zstd::bulk::Decompressor::new().context("start zstd")?;
    unpacker
        .window_log_max(artifact.block_size.ilog2())
        .context("start zstd")?;
    for block in table.iter() {
        let mut stored = vec![0; usize::try_from(block.entry.stored_len()).unwrap_or(0)];
        let name = || format!("block {} of {}", block.index, artifact.name);
        fill(reader, &mut stored, path, &name())?;
        if Digest::of(&stored) != block.entry.stored() {
            return Err(unverified(path, &format!("{}: wrong stored hash", name())));
        }
        let unpacked = unpack(&block, stored, &mut unpacker)
            .map_err(|e| unverified(path, &format!("{}: {e}", name())))?;
        if Digest::of(&unpacked) != block.entry.block() {
            return Err(unverified(path, &format!("{}: wrong hash", name())));
        }
        content.update(&unpacked);
        fact.stored += u64::from(block.entry.stored_len());
        match block.entry.kind() {
            Kind::Zero => fact.zero += 1,
            Kind::Raw => fact.raw += 1,
            _ => fact.zstd += 1,
        }
    }
    if Digest(*content.finalize().as_bytes()) != artifact.content {
        return Err(unverified(
            path,
            &format!("wrong content hash of {}", artifact.name),
        ));
    }
    Ok(fact)
}

fn unpack(
    block: &Block,
    stored: Vec<u8>,
    unpacker: &mut zstd::bulk::Decompressor,
) -> Result<Vec<u8>> {
    let len = usize::try_from(block.len).context("length")?;
    match block.entry.kind() {
        Kind::Zero => Ok(vec![0; len]),
        Kind::Raw => Ok(stored),
        Kind::Zstd => {
            let unpacked = unpacker.decompress(&stored, len).context("decompress")?;
            if unpacked.len() != len {
                bail!("{} bytes instead of {len}", unpacked.len());
            }
            Ok(unpacked)
        }
    }
}

fn fill(reader: &mut impl Read, buf: &mut [u8], path: &Path, what: &str) -> Result<()> {
    match reader.read_exact(buf) {
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(unverified(path, &format!("it ends within {what}")))
        }
        result => result.with_context(|| format!("read {}", path.display())),
    }
}

fn unverified(path: &Path, cause: &dyn std::fmt::Display) -> anyhow::Error {
    Failure::Unverified(format!("inspect {}: {cause}", path.display())).into()
}
