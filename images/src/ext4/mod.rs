//! ext4 file systems in plain files, made by e2fsprogs from a [`Tree`] and checked with a reader that is not.
//!
//! `mke2fs -d` takes the entries of a folder in the order in which the host's file system has them, and gives inodes
//! the host's times. So we make an empty file system and fill it in sorted order through `debugfs`.

mod check;
mod script;
pub mod superblock;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::failure::refuse;
use crate::ids::Uuid;
use crate::tools;
use crate::tree::{Kind, Tree};

/// Bytes in a block of every file system that we make.
pub const BLOCK: u64 = 4096;

/// What boards' loaders read: no journal to recover, nothing newer than GRUB 2.06 and U-Boot 2023.01 understand.
const READ_ONLY_FEATURES: &str = "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize,metadata_csum,64bit";
/// The same with a journal, and room to grow on line.
const WRITABLE_FEATURES: &str = "none,ext_attr,dir_index,filetype,extent,flex_bg,sparse_super,\
    large_file,huge_file,dir_nlink,extra_isize,metadata_csum,64bit,has_journal,resize_inode";
/// A writable file system may grow on line to this many blocks: 2 TiB.
const GROWTH_BLOCKS: u64 = 1 << 29;

/// How a file system is made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    pub label: &'a str,
    /// Size in bytes, a multiple of 4096; `None`: as small as the tree allows.
    pub size: Option<u64>,
    /// With a journal and room to grow, for a partition that is written on the device.
    pub writable: bool,
    /// Seconds since 1970 for every timestamp, not 0.
    pub time: u32,
    /// Makes two equal trees different file systems, for UUIDs; empty where equal trees shall be equal.
    pub salt: &'a [u8],
}

/// Makes `image` a file system that holds `tree`, and compares the two afterwards. Returns its size in bytes.
///
/// # Errors
/// The tree does not fit (with both sizes), a file can't be read, or a tool of e2fsprogs is missing or fails.
pub fn make(tree: &Tree, image: &Path, options: &Options) -> Result<u64> {
    let needed = Needs::of(tree)?;
    let ids = tree.hash()?;
    let work = tempfile::tempdir().context("create a temporary folder")?;
    let attempts: Vec<u64> = match options.size {
        Some(size) => {
            if !size.is_multiple_of(BLOCK) || size == 0 {
                refuse!("make file system: {size} is not a multiple of {BLOCK} bytes (--size)");
            }
            vec![size / BLOCK]
        }
        None => (0..4)
            .map(|i| needed.blocks() + (needed.blocks() >> 4) * i)
            .collect(),
    };
    for (i, &blocks) in attempts.iter().enumerate() {
        let last = i + 1 == attempts.len();
        make_empty(image, blocks, &needed, ids, options, work.path())?;
        match script::fill(tree, image, options.time, work.path())? {
            script::Outcome::Filled => {
                self::check::compare(tree, image, options.time)
                    .with_context(|| format!("check {}", image.display()))?;
                return Ok(blocks * BLOCK);
            }
            script::Outcome::Full if last => refuse!(
                "make file system: {} bytes of files and {} names do not fit into {} bytes, about {} are needed (--size)",
                needed.bytes,
                needed.inodes,
                blocks * BLOCK,
                needed.blocks() * BLOCK
            ),
            script::Outcome::Full => {}
        }
    }
    bail!("make file system: no size was tried")
}

/// What a tree takes, estimated on the large side.
#[derive(Debug)]
struct Needs {
    bytes: u64,
    data_blocks: u64,
    inodes: u64,
}

impl Needs {
    fn of(tree: &Tree) -> Result<Self> {
        let mut needs = Self {
            bytes: 0,
            data_blocks: 0,
            inodes: 0,
        };
        let mut names = std::collections::BTreeMap::<&[u8], u64>::new();
        names.insert(b"", 24);
        for (path, node) in tree.nodes() {
            let (folder, name) = split(path);
            ensure!(
                name.len() <= 255,
                "take {}: the name is longer than 255 bytes",
                String::from_utf8_lossy(path)
            );
            *names.entry(folder).or_insert(24) += 8 + (name.len() as u64).next_multiple_of(4);
            needs.inodes += u64::from(!matches!(node.kind, Kind::HardLink(_)));
            needs.data_blocks += u64::from(!node.attributes.is_empty());
            match &node.kind {
                Kind::File(_, size) => {
                    needs.bytes += size;
                    // One block of extents for every four block groups that a file may cross.
                    needs.data_blocks += size.div_ceil(BLOCK) + size / (128 << 20);
                }
                Kind::Folder => {
                    names.entry(path).or_insert(24);
                }
                Kind::Symlink(target) if target.len() >= 60 => needs.data_blocks += 1,
                Kind::Symlink(_) | Kind::HardLink(_) => {}
            }
        }
        // A folder's block ends with a checksum and, on average, half an entry that did not fit.
        needs.data_blocks += names.values().map(|n| n.div_ceil(3800)).sum::<u64>();
        Ok(needs)
    }

    /// Blocks of a file system without journal that holds the tree.
    fn blocks(&self) -> u64 {
        let inode_blocks = self.inode_count().div_ceil(BLOCK / 256);
        // The first folder is made with lost+found in it, which takes four blocks.
        let content = self.data_blocks + self.data_blocks / 256 + inode_blocks + 16;
        let groups = content.div_ceil(32_000);
        // Bitmaps, a super block and descriptors in some groups, inode tables rounded up to whole blocks.
        // mke2fs makes nothing smaller than about 200 KiB.
        (content + groups * (4 + groups.div_ceil(64))).max(64)
    }

    const fn inode_count(&self) -> u64 {
        // Eleven are reserved, lost+found included.
        self.inodes + 16 + self.inodes / 64
    }
}

fn make_empty(
    image: &Path,
    blocks: u64,
    needed: &Needs,
    ids: blake3::Hash,
    options: &Options,
    work: &Path,
) -> Result<()> {
    let config = work.join("mke2fs.conf");
    std::fs::write(
        &config,
        "[defaults]\n\tbase_features = none\n[fs_types]\n\text4 = {\n\t}\n\tplain = {\n\t}\n",
    )
    .context("write mke2fs.conf")?;
    let ids = blake3::Hasher::new_derive_key("tandem ext4 ids, format 1")
        .update(ids.as_bytes())
        .update(options.label.as_bytes())
        .update(options.salt)
        .finalize();
    let uuid = Uuid::derive(ids.as_bytes(), "uuid");
    let seed = Uuid::derive(ids.as_bytes(), "hash seed");
    let mut extended = format!("hash_seed={seed},root_owner=0:0,nodiscard,lazy_itable_init=0");
    if options.writable {
        extended.push_str(&format!(",lazy_journal_init=0,resize={GROWTH_BLOCKS}"));
    }
    let inodes = if options.writable {
        needed.inode_count().max(blocks / 4)
    } else {
        needed.inode_count()
    };
    // A file from an earlier attempt must not shine through where mke2fs writes nothing.
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(image)
        .and_then(|file| file.set_len(blocks * BLOCK))
        .with_context(|| format!("create {}", image.display()))?;
    let mut command = tools::command("mke2fs");
    command
        .env("MKE2FS_CONFIG", &config)
        .env("E2FSPROGS_FAKE_TIME", options.time.to_string())
        .args([
            "-q", "-F", "-t", "ext4", "-T", "plain", "-b", "4096", "-I", "256", "-m", "0",
        ])
        .args([
            "-O",
            if options.writable {
                WRITABLE_FEATURES
            } else {
                READ_ONLY_FEATURES
            },
        ])
        .args([
            "-L",
            options.label,
            "-N",
            &inodes.to_string(),
            "-U",
            &uuid.to_string(),
        ])
        .args(["-E", &extended])
        .arg(image)
        .arg(blocks.to_string());
    tools::run(&mut command, "e2fsprogs").context("make file system")?;
    Ok(())
}

/// Folder (empty for the root) and name of a path of the tree.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// Runs `e2fsck` without letting it write; a fresh file system has nothing to repair.
///
/// # Errors
/// e2fsck is missing or finds something.
pub fn fsck(image: &Path) -> Result<()> {
    let mut command = tools::command("e2fsck");
    tools::run(command.arg("-fn").arg(image), "e2fsprogs")
        .map(drop)
        .with_context(|| format!("check {}", image.display()))
}

fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
