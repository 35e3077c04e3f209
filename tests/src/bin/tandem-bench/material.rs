//! What the installation benchmark works on: an ext4 made from this machine's `/usr`, its payload, its zstd stream and a
//! disk to install to.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const MIB: u64 = 1 << 20;
/// The same as the block size of a payload, so that "unique" means what it means to an installation.
const BLOCK: usize = 256 * 1024;

#[derive(Debug)]
pub struct Material {
    /// The raw image, in bytes `size`.
    pub image: PathBuf,
    pub size: u64,
    /// The same content as one zstd stream.
    pub stream: PathBuf,
    pub payload: PathBuf,
    pub keys: PathBuf,
    /// A disk whose slot A holds a small system and whose slot B fits the image.
    pub disk: PathBuf,
}

/// Makes what is missing in `work`; a second call with the same size and level finds it there.
pub fn prepare(bin: &Path, work: &Path, size_mib: u64, level: u8) -> Result<Material> {
    let folder = work.join(format!("install-{size_mib}-{level}"));
    let material = Material {
        image: folder.join("usr.img"),
        size: size_mib * MIB,
        stream: folder.join("usr.img.zst"),
        payload: folder.join("usr.payload"),
        keys: folder.join("keys"),
        disk: folder.join("disk.img"),
    };
    let done = folder.join("complete");
    if !done.exists() {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        make(bin, &folder, &material, level)?;
        File::create(&done)?;
    }
    let (unique, blocks) = unique_blocks(&material.image)?;
    println!(
        "image: {size_mib} MiB from /usr, {unique} of {blocks} blocks unique and not zero ({:.1} %)",
        percent(unique, blocks)
    );
    ensure!(
        percent(unique, blocks) >= 90.0,
        "make image: fewer than 90 % unique blocks"
    );
    Ok(material)
}

fn make(bin: &Path, folder: &Path, material: &Material, level: u8) -> Result<()> {
    let tool = bin.join("tandem-image");
    let key = material.keys.join("release.key.pem");
    let public = material.keys.join("release.pub.pem");
    let level = level.to_string();
    call(
        Command::new(&tool)
            .arg("keygen")
            .arg("--out-dir")
            .arg(&material.keys),
    )?;

    let tree = folder.join("tree");
    copy_some_of_usr(&tree, material.size / 100 * 95)?;
    release_files(&tree, "2.0.0", 2)?;
    let size = material.size.to_string();
    call(
        Command::new(&tool)
            .args(["usr", "--size", &size, "--root"])
            .arg(&tree)
            .arg("--out")
            .arg(&material.image),
    )?;
    fs::remove_dir_all(&tree)?;

    let small = folder.join("small");
    release_files(&small, "1.0.0", 1)?;
    let small_image = folder.join("small.img");
    call(
        Command::new(&tool)
            .args(["usr", "--root"])
            .arg(&small)
            .arg("--out")
            .arg(&small_image),
    )?;
    let slot = (material.size + 16 * MIB).to_string();
    call(
        Command::new(&tool)
            .args([
                "build",
                "--board",
                "x86_64-grub",
                "--product",
                "bench",
                "--version",
                "1.0.0",
            ])
            .args(["--rollback-index", "1", "--slot-size", &slot, "--usr"])
            .arg(&small_image)
            .arg("--key")
            .arg(&public)
            .arg("--out")
            .arg(&material.disk),
    )?;
    call(
        Command::new(&tool)
            .args([
                "payload",
                "--product",
                "bench",
                "--board",
                "x86_64-grub",
                "--version",
                "2.0.0",
            ])
            .args(["--rollback-index", "2", "--level", &level, "--usr"])
            .arg(&material.image)
            .arg("--key")
            .arg(&key)
            .arg("--out")
            .arg(&material.payload),
    )?;
    call(
        Command::new("zstd")
            .args(["-q", "-f", "-T0", &format!("-{level}"), "-o"])
            .arg(&material.stream)
            .arg(&material.image),
    )
}

fn release_files(tree: &Path, version: &str, index: u64) -> Result<()> {
    fs::create_dir_all(tree.join("lib/tandem/boot"))?;
    fs::write(
        tree.join("lib/os-release"),
        format!(
            "ID=bench\nIMAGE_ID=bench\nIMAGE_VERSION={version}\nTANDEM_ROLLBACK_INDEX={index}\n"
        ),
    )?;
    fs::write(
        tree.join("lib/tandem/boot/vmlinuz"),
        "not booted by the benchmark",
    )?;
    fs::write(
        tree.join("lib/tandem/boot/initrd"),
        "not booted by the benchmark",
    )?;
    Ok(())
}

/// Copies regular files of /usr, in order of their names, until `budget` bytes are used. Hard links and files that
/// appear twice with the same content would be blocks that are not unique; a file is taken once.
fn copy_some_of_usr(tree: &Path, budget: u64) -> Result<()> {
    let target = tree.join("content");
    fs::create_dir_all(&target)?;
    let mut left = budget;
    let mut seen = HashSet::new();
    let mut folders = vec![PathBuf::from("/usr")];
    let mut count = 0_u64;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        let mut entries: Vec<_> = entries.filter_map(Result::ok).map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            // Files below a few KiB would make inodes, not blocks.
            let wanted =
                metadata.is_file() && metadata.len() >= 16 * 1024 && metadata.len() <= left;
            if !wanted || !seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            let Ok(content) = fs::read(&path) else {
                continue;
            };
            if !seen_content(&mut seen, &content) {
                continue;
            }
            fs::write(target.join(format!("{count:06}")), content)?;
            count += 1;
            left -= metadata.len();
        }
        if left < 64 * 1024 {
            return Ok(());
        }
    }
    ensure!(
        left < budget / 20,
        "copy /usr: {} MiB short of the size asked for",
        left / MIB
    );
    Ok(())
}

fn seen_content(seen: &mut HashSet<(u64, u64)>, content: &[u8]) -> bool {
    let hash = blake3::hash(content);
    let half = |range: std::ops::Range<usize>| {
        hash.as_bytes()
            .get(range)
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u64::from_le_bytes)
    };
    seen.insert((half(0..8), half(8..16)))
}

fn unique_blocks(image: &Path) -> Result<(usize, usize)> {
    let mut file = File::open(image).with_context(|| format!("open {}", image.display()))?;
    let mut unique = HashSet::new();
    let mut blocks = 0;
    let mut buffer = vec![0; BLOCK];
    while file.read_exact(&mut buffer).is_ok() {
        blocks += 1;
        if buffer.iter().any(|byte| *byte != 0) {
            unique.insert(blake3::hash(&buffer));
        }
    }
    Ok((unique.len(), blocks))
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn call(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "run {command:?}: {status}");
    Ok(())
}
