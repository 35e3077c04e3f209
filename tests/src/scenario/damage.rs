//! What happens to a disk while it is off: the host changes bytes of the image. Places are found without `bootctl`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::host_hash;

const OEM_CONFIG: u32 = 7;
/// Of the disk descriptor, from the end of OEM-CONFIG.
const DESCRIPTOR_FROM_END: u64 = 1 << 20;
/// Of the confirmed record, from the end of OEM-CONFIG.
const CONFIRMED_FROM_END: u64 = 512 << 10;

pub const SECTOR: usize = 512;
/// The primary GPT of a disk with 512-byte sectors.
pub const HEADER_AT: u64 = 512;
pub const ENTRIES_AT: u64 = 1024;
/// 128 entries of 128 bytes.
pub const ENTRIES_LENGTH: usize = 16384;

/// Where the sector of the GRUB environment lies on the disk, in bytes, by the disk's descriptor.
///
/// # Errors
/// It is not found.
pub fn environment(image: &Path) -> Result<u64> {
    let (start, length) = host_hash::partition(image, OEM_CONFIG)?;
    let descriptor = read(image, start + length - DESCRIPTOR_FROM_END, SECTOR)?;
    let text = descriptor
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let descriptor: Value = serde_json::from_slice(text)
        .with_context(|| format!("read the disk descriptor of {}", image.display()))?;
    let offset = descriptor.pointer("/store/offset").and_then(Value::as_u64);
    Ok(start + offset.context("find the environment's offset in the disk descriptor")?)
}

/// Where the sector of the confirmed record lies on the disk, in bytes.
///
/// # Errors
/// The partition is not found.
pub fn confirmed_record(image: &Path) -> Result<u64> {
    let (start, length) = host_hash::partition(image, OEM_CONFIG)?;
    Ok(start + length - CONFIRMED_FROM_END)
}

/// Reads `length` bytes at byte `offset`.
///
/// # Errors
/// I/O.
pub fn read(image: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(image)
        .and_then(|file| file.read_exact_at(&mut bytes, offset))
        .with_context(|| format!("read {length} bytes at {offset} of {}", image.display()))?;
    Ok(bytes)
}

/// Writes `bytes` at byte `offset`.
///
/// # Errors
/// I/O.
pub fn write(image: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    let file = OpenOptions::new().write(true).open(image);
    file.and_then(|file| file.write_all_at(bytes, offset))
        .with_context(|| format!("write at {offset} of {}", image.display()))
}

/// Bytes from the system's source of randomness.
///
/// # Errors
/// It can't be read.
pub fn random(length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open("/dev/urandom")
        .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes)
}

/// A random number in `low..high`, which must not be empty.
///
/// # Errors
/// See [`random`].
pub fn random_below(low: u64, high: u64) -> Result<u64> {
    let bytes = random(8)?;
    let number = bytes
        .iter()
        .fold(0_u64, |sum, &byte| (sum << 8) | u64::from(byte));
    Ok(low + number % (high - low))
}
