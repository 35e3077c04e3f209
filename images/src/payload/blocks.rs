//! An image block by block: hashed, compressed on all processors, handed on in order.

use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, anyhow};
use updater::Digest;
use updater::table::Entry;

use crate::image::Image;
use crate::region::is_zero;

/// What a pass over an image leaves.
#[derive(Debug)]
pub struct Scanned {
    /// The block table.
    pub table: Vec<u8>,
    /// BLAKE3 of the whole image.
    pub content: Digest,
}

/// Blocks that one processor packs before results are collected.
const BATCH: usize = 16;

/// Hashes the blocks without storing any: raw and zero entries.
pub fn scan(image: &Image, block_size: u32) -> Result<Scanned> {
    each_block(
        image,
        block_size,
        |block| {
            let len = u32::try_from(block.len()).context("block length")?;
            let hash = Digest::of(block);
            Ok(match is_zero(block) {
                true => (Entry::zero(hash), Vec::new()),
                false => (Entry::raw(hash, len), Vec::new()),
            })
        },
        |_| Ok(()),
    )
}

/// Hashes and compresses the blocks at a zstd level; `store` gets the stored bytes in order.
pub fn pack(
    image: &Image,
    block_size: u32,
    level: i32,
    store: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Scanned> {
    each_block(image, block_size, |block| pack_block(block, level), store)
}

fn pack_block(block: &[u8], level: i32) -> Result<(Entry, Vec<u8>)> {
    let len = u32::try_from(block.len()).context("block length")?;
    let hash = Digest::of(block);
    if is_zero(block) {
        return Ok((Entry::zero(hash), Vec::new()));
    }
    let packed = zstd::bulk::compress(block, level).context("compress")?;
    match u32::try_from(packed.len()) {
        Ok(stored) if stored < len => {
            let entry = Entry::zstd(hash, Digest::of(&packed), stored);
            Ok((entry, packed))
        }
        _ => Ok((Entry::raw(hash, len), block.to_vec())),
    }
}

fn each_block(
    image: &Image,
    block_size: u32,
    work: impl Fn(&[u8]) -> Result<(Entry, Vec<u8>)> + Sync,
    mut store: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Scanned> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let block = usize::try_from(block_size).context("block size")?;
    let mut hasher = blake3::Hasher::new();
    let mut table = Vec::new();
    let mut buffer = vec![0; threads * BATCH * block];
    let mut offset = 0;
    while offset < image.size {
        let rest = usize::try_from(image.size - offset).unwrap_or(usize::MAX);
        let part = buffer.len().min(rest);
        let batch = &mut buffer[..part];
        image
            .file
            .read_exact_at(batch, offset)
            .with_context(|| format!("read {}", image.path.display()))?;
        let batch = &*batch;
        let results: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
            let workers: Vec<_> = batch
                .chunks(BATCH * block)
                .map(|share| scope.spawn(|| share.chunks(block).map(&work).collect()))
                .collect();
            hasher.update(batch);
            workers
                .into_iter()
                .map(|w| {
                    w.join()
                        .unwrap_or_else(|_| Err(anyhow!("pack blocks: a thread died")))
                })
                .collect()
        });
        for result in results {
            for (entry, stored) in result? {
                table.extend_from_slice(&entry.to_bytes());
                store(&stored)?;
            }
        }
        offset += part as u64;
    }
    Ok(Scanned {
        table,
        content: Digest(*hasher.finalize().as_bytes()),
    })
}
