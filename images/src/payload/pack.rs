//! Packing and signing.

use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ed25519_dalek::{Signer, SigningKey};
use updater::Digest;
use updater::manifest::{Artifact, DEFAULT_BLOCK, Manifest};
use updater::payload::{Header, MAX_SIGNATURES, SignatureRecord};
use updater::signature::{KeySet, key_id, verify};
use updater::table::Table;

use super::blocks::{self, Scanned};
use super::{emit, name, push};
use crate::Failure;
use crate::failure::refuse;
use crate::image::Image;
use crate::output::{Output, is_no_input};

/// zstd level: beyond it, a block of 256 KiB gains little.
pub const DEFAULT_LEVEL: i32 = 15;

/// What a payload says and how it is packed.
#[derive(Clone, Debug)]
pub struct Spec<'a> {
    pub usr: &'a Path,
    pub product: &'a str,
    pub version: &'a str,
    pub rollback_index: u64,
    pub boards: &'a [String],
    pub group: Option<&'a str>,
    pub min_version: Option<&'a str>,
    pub created: Option<&'a str>,
    pub requires: &'a [String],
    /// zstd level, 1 to 19.
    pub level: i32,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Packed {
    /// BLAKE3 of the manifest.
    pub id: Digest,
    /// Sizes of image and payload in bytes.
    pub image: u64,
    pub payload: u64,
    pub warnings: Vec<String>,
}

/// Packs an image and signs it by `keys`; without keys the payload waits for [`attach`](super::attach).
///
/// # Errors
/// The image is not one that all boards boot, or says that it is another release; a rule of the format is broken; a key
/// can't be read; the file can't be written. Nothing is left at `out` then.
pub fn pack(spec: &Spec, keys: &[PathBuf], out: &Path) -> Result<Packed> {
    is_no_input(out, keys.iter().map(PathBuf::as_path).chain([spec.usr]))?;
    let boards: Vec<_> = spec
        .boards
        .iter()
        .map(|b| find_board(b))
        .collect::<Result<_>>()?;
    let keys = read_keys(keys)?;
    let mut manifest = manifest(spec)?;
    let image = Image::open(spec.usr, &boards)?;
    let warnings = image.check_release(spec.product, spec.version, spec.rollback_index)?;
    // Its hashes have a fixed length, so where the blocks begin is known before they are.
    push(&mut manifest.artifacts, placeholder(&image)?, "artifacts")?;
    let draft = emit(&manifest)?;
    let prefix = header(draft.len(), keys.len())?.prefix_len() as u64;
    let start = prefix + manifest.tables_len();

    let output = Output::create(out)?;
    let failed = || format!("write {}", out.display());
    let mut file = BufWriter::with_capacity(1 << 20, output.file());
    file.seek(SeekFrom::Start(start)).with_context(failed)?;
    let scanned = blocks::pack(&image, DEFAULT_BLOCK, spec.level, |stored| {
        file.write_all(stored).with_context(failed)
    })?;
    let end = file.stream_position().with_context(failed)?;
    manifest.artifacts.clear();
    let artifact = super::artifact(&image, DEFAULT_BLOCK, &scanned)?;
    push(&mut manifest.artifacts, artifact, "artifacts")?;
    let text = emit(&manifest)?;
    ensure!(
        text.len() == draft.len(),
        "make manifest: its length changed"
    );
    let head = signed_prefix(&text, &keys)?;
    check(&head, &text, &keys, &scanned)?;
    file.seek(SeekFrom::Start(0)).with_context(failed)?;
    file.write_all(&head).with_context(failed)?;
    file.write_all(&scanned.table).with_context(failed)?;
    file.flush().with_context(failed)?;
    drop(file);
    // An image that ends in blocks of zeros stores nothing for them.
    output.file().set_len(end).with_context(failed)?;
    output.commit()?;
    Ok(Packed {
        id: Digest::of(&text),
        image: image.size,
        payload: end,
        warnings: warnings.into_iter().collect(),
    })
}

/// The board of that name.
///
/// # Errors
/// There is none; the names that there are.
pub fn find_board(name: &str) -> Result<&'static boards::Board> {
    boards::find(name).ok_or_else(|| {
        let known: Vec<_> = boards::BOARDS.iter().map(|b| b.name).collect();
        Failure::Usage(format!(
            "use --board {name}: unknown, known are {}",
            known.join(", ")
        ))
        .into()
    })
}

fn read_keys(paths: &[PathBuf]) -> Result<Vec<SigningKey>> {
    let mut keys = Vec::<SigningKey>::new();
    for path in paths {
        let key = crate::keys::read_private(path)?;
        if keys
            .iter()
            .any(|k| k.verifying_key() == key.verifying_key())
        {
            bail!(Failure::Usage(format!(
                "use --key {}: the same key twice counts once",
                path.display()
            )));
        }
        keys.push(key);
    }
    if keys.len() > MAX_SIGNATURES {
        bail!(Failure::Usage(format!(
            "sign payload: {} keys, a payload holds {MAX_SIGNATURES} signatures (--key)",
            keys.len()
        )));
    }
    Ok(keys)
}

fn manifest(spec: &Spec) -> Result<Manifest> {
    let mut manifest = Manifest::new(
        name(spec.product, "--product")?,
        name(spec.version, "--version")?,
        spec.rollback_index,
    );
    for board in spec.boards {
        push(&mut manifest.boards, name(board, "--board")?, "boards")?;
    }
    for requires in spec.requires {
        push(
            &mut manifest.requires,
            name(requires, "--requires")?,
            "requires",
        )?;
    }
    let optional = |text: Option<&str>, option| text.map(|t| name(t, option)).transpose();
    manifest.group = optional(spec.group, "--group")?;
    manifest.min_version = optional(spec.min_version, "--min-version")?;
    manifest.created = optional(spec.created, "--created")?;
    Ok(manifest)
}

fn placeholder(image: &Image) -> Result<Artifact> {
    let scanned = Scanned {
        table: Vec::new(),
        content: Digest::of(b""),
    };
    super::artifact(image, DEFAULT_BLOCK, &scanned)
}

fn header(manifest: usize, signatures: usize) -> Result<Header> {
    match signatures {
        0 => Header::draft(manifest),
        n => Header::new(manifest, n),
    }
    .context("make header")
}

fn signed_prefix(manifest: &[u8], keys: &[SigningKey]) -> Result<Vec<u8>> {
    let mut head = header(manifest.len(), keys.len())?.to_bytes().to_vec();
    for key in keys {
        let record = SignatureRecord {
            key_id: key_id(key.verifying_key().as_bytes()),
            signature: key.sign(manifest).to_bytes(),
        };
        head.extend_from_slice(&record.to_bytes());
    }
    head.extend_from_slice(manifest);
    Ok(head)
}

/// What the device will check, before anything has its name.
fn check(head: &[u8], manifest: &[u8], keys: &[SigningKey], scanned: &Scanned) -> Result<()> {
    let parsed = match u8::try_from(keys.len()).ok().and_then(NonZeroU8::new) {
        None => Manifest::parse(manifest).context("check manifest")?,
        Some(required) => {
            let mut set = KeySet::new();
            for key in keys {
                set.insert(key.verifying_key().as_bytes())
                    .map_err(|e| anyhow!("check key: {e}"))?;
            }
            let verified = verify(head, &set, required).context("check signatures")?;
            Manifest::clone(&verified)
        }
    };
    for artifact in &parsed.artifacts {
        if let Err(e) = Table::parse(artifact, &scanned.table) {
            refuse!("check table: {e}");
        }
    }
    Ok(())
}
