//! Comparing a finished file system with the tree it was made from, through a reader that shares no code with its
//! maker.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ext4_view::{Ext4, FileType};

use crate::tree::{Kind, Tree};

/// Reads everything back: names, types, modes, owners, times, targets and contents.
pub fn compare(tree: &Tree, image: &Path, time: u32) -> Result<()> {
    let fs = Ext4::load_from_path(image).context("load")?;
    for (path, node) in tree.nodes() {
        let name = String::from_utf8_lossy(path);
        let absolute = [b"/", path].concat();
        let absolute = ext4_view::Path::try_from(absolute.as_slice())
            .with_context(|| format!("look for {name}"))?;
        let meta = fs
            .symlink_metadata(absolute)
            .with_context(|| format!("look for {name}"))?;
        let wanted = match &node.kind {
            Kind::Folder => FileType::Directory,
            Kind::File(..) | Kind::HardLink(_) => FileType::Regular,
            Kind::Symlink(_) => FileType::Symlink,
        };
        ensure!(meta.file_type() == wanted, "{name}: another type");
        ensure!(
            matches!(node.kind, Kind::HardLink(_)) || meta.mode() & 0o7777 == node.mode,
            "{name}: mode {:o} instead of {:o}",
            meta.mode() & 0o7777,
            node.mode
        );
        ensure!(meta.uid() == 0 && meta.gid() == 0, "{name}: not root's");
        ensure!(
            meta.modified().seconds() == i64::from(time),
            "{name}: another modification time"
        );
        match &node.kind {
            Kind::Symlink(target) => {
                let found = fs
                    .read_link(absolute)
                    .with_context(|| format!("read {name}"))?;
                ensure!(
                    found.as_ref() == target.as_slice(),
                    "{name}: another target"
                );
            }
            Kind::File(source, _) => {
                compare_content(&fs, absolute, source).with_context(|| format!("compare {name}"))?
            }
            Kind::Folder | Kind::HardLink(_) => {}
        }
    }
    Ok(())
}

fn compare_content(fs: &Ext4, path: ext4_view::Path, source: &Path) -> Result<()> {
    let mut ours = fs.open(path)?;
    let mut theirs = File::open(source)?;
    let (mut a, mut b) = (vec![0_u8; 1 << 16], vec![0_u8; 1 << 16]);
    loop {
        let n = ours.read(&mut a)?;
        if n == 0 {
            break;
        }
        theirs.read_exact(&mut b[..n])?;
        ensure!(a[..n] == b[..n], "another content");
    }
    ensure!(theirs.read(&mut b)? == 0, "cut short");
    Ok(())
}
