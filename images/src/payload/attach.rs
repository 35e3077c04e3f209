//! Attaching a signature that was made elsewhere, by a key in hardware.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ed25519_dalek::Signature;
use updater::payload::{Header, MAX_PREFIX, MAX_SIGNATURES, Prefix, SignatureRecord};
use updater::signature::key_id;

use crate::Failure;
use crate::failure::refuse;
use crate::keys;
use crate::output::{Output, is_no_input};

/// Writes `payload` with one more signature to `out`, which may be the same file. The signature is the 64 raw bytes that
/// `openssl pkeyutl -sign -rawin` makes of the manifest bytes.
///
/// # Errors
/// The signature is not one of this manifest by this key, the key has signed already, there are four signatures, or a
/// file can't be read or written.
pub fn attach(payload: &Path, signature: &Path, key: &Path, out: &Path) -> Result<()> {
    // The payload itself may be replaced.
    is_no_input(out, [signature, key])?;
    let shown = payload.display();
    let key = keys::read_public(key)?;
    let signature = read_signature(signature)?;
    let mut file = File::open(payload).with_context(|| format!("open {shown}"))?;
    let mut head = Vec::new();
    Read::by_ref(&mut file)
        .take(MAX_PREFIX as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("read {shown}"))?;
    let prefix = Prefix::parse_draft(&head)
        .map_err(|e| Failure::Unverified(format!("read {shown}: {e}")))?;
    key.verify_strict(prefix.manifest(), &Signature::from_bytes(&signature))
        .map_err(|_| {
            Failure::Unverified(format!(
                "attach signature: it is not this key's of the manifest in {shown}"
            ))
        })?;
    let record = SignatureRecord {
        key_id: key_id(key.as_bytes()),
        signature,
    };
    let mut records: Vec<SignatureRecord> = prefix.signatures().collect();
    if records.iter().any(|r| r.key_id == record.key_id) {
        refuse!("attach signature: {shown} has one by this key");
    }
    if records.len() >= MAX_SIGNATURES {
        refuse!("attach signature: {shown} has {MAX_SIGNATURES} already");
    }
    records.push(record);

    let output = Output::create(out)?;
    let failed = || format!("write {}", out.display());
    let header = Header::new(prefix.manifest().len(), records.len()).context("make header")?;
    let mut bytes = header.to_bytes().to_vec();
    for record in &records {
        bytes.extend_from_slice(&record.to_bytes());
    }
    bytes.extend_from_slice(prefix.manifest());
    output.file().write_all(&bytes).with_context(failed)?;
    file.seek(SeekFrom::Start(prefix.header().prefix_len() as u64))
        .with_context(|| format!("read {shown}"))?;
    std::io::copy(&mut file, &mut output.file()).with_context(failed)?;
    output.commit()
}

fn read_signature(path: &Path) -> Result<[u8; 64]> {
    let name = || format!("read signature {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .with_context(name)?
        .take(65)
        .read_to_end(&mut bytes)
        .with_context(name)?;
    let len = bytes.len();
    let signature = bytes.try_into();
    ensure!(
        signature.is_ok(),
        "read signature {}: {} bytes instead of the 64 of a raw Ed25519 signature",
        path.display(),
        if len > 64 {
            "more than 64".to_owned()
        } else {
            len.to_string()
        }
    );
    signature.map_err(|_| anyhow::anyhow!("read signature"))
}
