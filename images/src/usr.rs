//! The image of a `/usr` tree.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::os_release::OsRelease;
use crate::output::Output;
use crate::tree::{Kind, Tree};
use crate::{ext4, keys, os_release};

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Size of the image in bytes.
    pub size: u64,
    /// What may keep a device from booting the image or from accepting the next one.
    pub warnings: Vec<String>,
}

/// Makes `out` the image of the tree at `root`, with the public `keys` in `lib/tandem/keys.d`.
///
/// `size` in bytes; without it the image is as small as the tree allows. The same tree gives the same bytes, wherever
/// it is and whatever the umask was.
///
/// # Errors
/// The tree does not fit, holds what an image can't, or a tool of e2fsprogs is missing. Nothing is left at `out` then.
pub fn make(root: &Path, keys: &[&Path], size: Option<u64>, time: u32, out: &Path) -> Result<Made> {
    let mut tree = Tree::read(root)?;
    if let Some(found) = tree.get("lost+found") {
        ensure!(
            found.kind == Kind::Folder,
            "take lost+found: the name belongs to the file system"
        );
        tree.remove_empty("lost+found")?;
    }
    for key in keys {
        keys::read_public(key)?;
        let name = keys::installed_name(key)?;
        tree.add_file(&format!("lib/tandem/keys.d/{name}"), key)?;
    }
    let output = Output::create(out)?;
    let size = ext4::make(
        &tree,
        output.path(),
        &ext4::Options {
            label: "usr",
            size,
            writable: false,
            time,
            salt: &[],
        },
    )?;
    ext4::fsck(output.path())?;
    output.commit()?;
    let mut warnings = tree.warnings().to_vec();
    warnings.extend(missing(&tree));
    Ok(Made { size, warnings })
}

fn missing(tree: &Tree) -> Vec<String> {
    let mut warnings = Vec::new();
    match tree.get("lib/os-release").map(|n| &n.kind) {
        Some(Kind::File(source, size)) if *size <= 1 << 20 => {
            let text = std::fs::read(source).unwrap_or_default();
            let keys = os_release::missing(&OsRelease::parse(&String::from_utf8_lossy(&text)));
            if !keys.is_empty() {
                warnings.push(format!(
                    "lib/os-release lacks {}: the image will not pass its own first health check",
                    keys.join(", ")
                ));
            }
        }
        _ => warnings.push(
            "no lib/os-release: the image will not pass its own first health check".to_owned(),
        ),
    }
    for file in ["lib/tandem/boot/vmlinuz", "lib/tandem/boot/initrd"] {
        if tree.get(file).is_none() {
            warnings.push(format!(
                "no {file}: the loader will skip a slot with this image"
            ));
        }
    }
    let has_key = tree
        .nodes()
        .any(|(path, _)| path.starts_with(b"lib/tandem/keys.d/") && path.ends_with(b".pub.pem"));
    if !has_key {
        warnings.push(
            "no key in lib/tandem/keys.d (--key): a device that runs this image asks OEM for keys"
                .to_owned(),
        );
    }
    warnings
}
