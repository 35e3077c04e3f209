//! Payloads: packing an image, signing, attaching signatures made elsewhere, looking inside.

mod attach;
mod blocks;
pub mod inspect;
mod pack;

pub use attach::attach;
pub use pack::{DEFAULT_LEVEL, Packed, Spec, find_board, pack};

use anyhow::{Context, Result, bail};
use bootctl::slot_record::SlotRecordHeader;
use updater::manifest::{Artifact, DEFAULT_BLOCK, Manifest};
use updater::payload::{Header, MAX_MANIFEST};
use updater::{Digest, Name};

use crate::Failure;
use crate::disk::{Flashed, Options};
use crate::image::Image;

/// The record of a slot that is filled when a disk is built: header, manifest and table as a payload would have them,
/// without signatures.
///
/// # Errors
/// The image can't be read, or a rule for manifests is broken.
pub fn flashed(image: &Image, options: &Options) -> Result<Flashed> {
    let scanned = blocks::scan(image, DEFAULT_BLOCK)?;
    let mut manifest = Manifest::new(
        name(options.product, "--product")?,
        name(options.version, "--version")?,
        options.rollback_index,
    );
    push(
        &mut manifest.boards,
        name(options.board.name, "--board")?,
        "boards",
    )?;
    let artifact = artifact(image, DEFAULT_BLOCK, &scanned)?;
    push(&mut manifest.artifacts, artifact, "artifacts")?;
    let text = emit(&manifest)?;
    let mut body = Header::draft(text.len())
        .context("make slot record")?
        .to_bytes()
        .to_vec();
    body.extend_from_slice(&text);
    body.extend_from_slice(&scanned.table);
    let header = SlotRecordHeader {
        image_size: image.size,
        content: scanned.content.0,
        payload_id: Digest::of(&text).0,
        body_len: 0,
        body_crc: 0,
        flashed: true,
        rollback_index: options.rollback_index,
        product: options.product.parse().context("use --product")?,
        version: options.version.parse().context("use --version")?,
    };
    match header.for_body(&body) {
        Some(header) => Ok(Flashed { header, body }),
        None => Err(Failure::Refused(format!(
            "make slot record: {} bytes are more than its {}; the image of {} bytes is too large",
            body.len(),
            bootctl::slot_record::MAX_BODY_BYTES,
            image.size
        ))
        .into()),
    }
}

fn artifact(image: &Image, block_size: u32, scanned: &blocks::Scanned) -> Result<Artifact> {
    Ok(Artifact {
        name: name("usr", "artifact")?,
        size: image.size,
        block_size,
        table: Digest::of(&scanned.table),
        content: scanned.content,
    })
}

/// A name of a manifest, from the option that gives it.
fn name(text: &str, option: &str) -> Result<Name> {
    text.parse()
        .map_err(|e| Failure::Usage(format!("use {option} {text:?}: {e}")).into())
}

fn push<T, const N: usize>(list: &mut heapless::Vec<T, N>, item: T, what: &str) -> Result<()> {
    if list.push(item).is_err() {
        bail!(Failure::Usage(format!(
            "make manifest: more than {N} {what}"
        )));
    }
    Ok(())
}

/// The manifest's bytes, held to the device's rules.
fn emit(manifest: &Manifest) -> Result<Vec<u8>> {
    let mut text = vec![0; MAX_MANIFEST];
    let len = manifest
        .emit(&mut text)
        .map_err(|e| Failure::Refused(format!("make manifest: {e}")))?;
    text.truncate(len);
    Ok(text)
}
