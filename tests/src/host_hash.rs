//! The host's own view of a slot, after the machine is off: partitions by `gptman`, content by plain BLAKE3. Nothing of
//! `bootctl` takes part, so that a mistake there can't hide itself.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};

/// A slot's letter and the number of its partition (Flatcar's).
pub const SLOTS: [(char, u32); 2] = [('a', 3), ('b', 4)];

/// Where partition `number` of `image` lies: first byte and length in bytes. Either GPT copy will do.
///
/// # Errors
/// No table, no such partition, I/O.
pub fn partition(image: &Path, number: u32) -> Result<(u64, u64)> {
    let context = || format!("find partition {number} of {}", image.display());
    let mut file = File::open(image).with_context(context)?;
    let table = gptman::GPT::find_from(&mut file).with_context(context)?;
    let entry = table
        .iter()
        .find(|(found, entry)| *found == number && entry.is_used())
        .map(|(_, entry)| entry);
    let entry = entry.with_context(|| format!("{}: no such partition", context()))?;
    let sectors = entry.size().with_context(context)?;
    Ok((
        entry.starting_lba * table.sector_size,
        sectors * table.sector_size,
    ))
}

/// BLAKE3 of the first `length` bytes of partition `number`.
///
/// # Errors
/// As [`partition`], or the partition is shorter.
pub fn partition_hash(image: &Path, number: u32, length: u64) -> Result<blake3::Hash> {
    let (start, size) = partition(image, number)?;
    anyhow::ensure!(
        length <= size,
        "hash {length} bytes of partition {number}: it has {size}"
    );
    let mut file = File::open(image).with_context(|| format!("open {}", image.display()))?;
    file.seek(SeekFrom::Start(start))
        .with_context(|| format!("seek in {}", image.display()))?;
    hash(file.take(length))
        .with_context(|| format!("read partition {number} of {}", image.display()))
}

/// BLAKE3 of a whole file.
///
/// # Errors
/// I/O.
pub fn file_hash(path: &Path) -> Result<blake3::Hash> {
    File::open(path)
        .map_err(anyhow::Error::from)
        .and_then(hash)
        .with_context(|| format!("hash {}", path.display()))
}

fn hash(mut source: impl Read) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(buffer.get(..count).unwrap_or_default()),
        };
    }
}
