//! `update_engine apply` against `zstd -dc | dd conv=fsync`, in interleaved pairs.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::material::Material;
use crate::measure::{self, Cost, Spread};

const MIB: usize = 1 << 20;
const STATUS_RUNS: usize = 21;

/// Prints the ratio of the times, the peak memory, the time of `status` and the sizes of the binaries.
pub fn run(bin: &Path, material: &Material, pairs: usize) -> Result<()> {
    let mut ratios = Vec::new();
    let mut peak_kib = 0;
    for pair in 1..=pairs {
        // The order alternates, so that neither side always meets the warmer machine.
        let (ours, theirs) = if pair % 2 == 1 {
            let ours = apply(bin, material)?;
            (ours, baseline(material)?)
        } else {
            let theirs = baseline(material)?;
            (apply(bin, material)?, theirs)
        };
        peak_kib = peak_kib.max(ours.peak_kib);
        ratios.push(ours.seconds / theirs.seconds);
        println!(
            "pair {pair}: apply {:.2} s, zstd | dd {:.2} s, ratio {:.2}",
            ours.seconds,
            theirs.seconds,
            ours.seconds / theirs.seconds
        );
    }
    if let Some(spread) = Spread::of(&ratios) {
        println!(
            "ratio apply / (zstd | dd): median {:.2}, min {:.2}, max {:.2} (aim: at most 1.10)",
            spread.median, spread.min, spread.max
        );
    }
    println!("VmHWM of apply: {:.1} MiB (aim: at most 24)", mib(peak_kib));
    status(bin, material)?;
    sizes(bin)
}

/// A disk to install to, in whose slot B no block is one of the image.
pub fn fresh_disk(material: &Material) -> Result<PathBuf> {
    let disk = material.disk.with_extension("run");
    fs::copy(&material.disk, &disk)?;
    let (start, length) = slot_b(&disk)?;
    randomize(&disk, start, length)?;
    Ok(disk)
}

/// An installation from a file.
pub fn apply(bin: &Path, material: &Material) -> Result<Cost> {
    let disk = fresh_disk(material)?;
    measure::run(
        Command::new(bin.join("update_engine"))
            .arg("apply")
            .arg("--disk")
            .arg(&disk)
            .arg("--payload")
            .arg(&material.payload)
            .arg("--keys")
            .arg(&material.keys)
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )
}

fn baseline(material: &Material) -> Result<Cost> {
    let target = material.image.with_extension("run");
    File::create(&target)?;
    randomize(&target, 0, material.size)?;
    measure::run(
        Command::new("sh")
            .arg("-c")
            .arg("zstd -dcq -- \"$1\" | dd of=\"$2\" bs=1M conv=fsync,notrunc iflag=fullblock status=none")
            .arg("sh")
            .arg(&material.stream)
            .arg(&target),
    )
}

/// Fills a range with bytes that no block of an image equals, and gets them out of the page cache's way.
fn randomize(path: &Path, start: u64, length: u64) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    file.seek(SeekFrom::Start(start))?;
    let mut left = length;
    let mut seed = blake3::Hasher::new();
    seed.update(b"tandem bench");
    let mut reader = seed.finalize_xof();
    let mut buffer = vec![0; MIB];
    while left > 0 {
        reader.fill(&mut buffer);
        let take = usize::try_from(left).unwrap_or(MIB).min(MIB);
        file.write_all(buffer.get(..take).unwrap_or_default())?;
        left -= take as u64;
    }
    file.sync_all()?;
    Ok(())
}

/// First byte and length of slot B.
pub fn slot_b(disk: &Path) -> Result<(u64, u64)> {
    let mut file = File::open(disk)?;
    let table = gptman::GPT::find_from(&mut file).context("read the partition table")?;
    let entry = &table[4];
    Ok((
        entry.starting_lba * table.sector_size,
        entry.size()? * table.sector_size,
    ))
}

fn status(bin: &Path, material: &Material) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..STATUS_RUNS {
        let cost = measure::run_once(
            Command::new(bin.join("tandem-bootctl"))
                .arg("--disk")
                .arg(&material.disk)
                .arg("status")
                .stdout(Stdio::null()),
        )?;
        times.push(cost * 1000.0);
    }
    if let Some(spread) = Spread::of(&times) {
        println!(
            "tandem-bootctl status: median {:.1} ms, min {:.1} ms, max {:.1} ms (aim: at most 5)",
            spread.median, spread.min, spread.max
        );
    }
    Ok(())
}

fn sizes(bin: &Path) -> Result<()> {
    for (name, limit) in [
        ("update_engine", 5),
        ("update_engine_client", 5),
        ("tandem-bootctl", 2),
    ] {
        let path = bin.join(name);
        let bytes = fs::metadata(&path)
            .with_context(|| format!("open {}", path.display()))?
            .len();
        println!(
            "{name}: {:.2} MB static and stripped (limit {limit} MB)",
            megabytes(bytes)
        );
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
