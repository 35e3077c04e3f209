//! What ROOT holds before the first boot: places to mount things at, and the usual links into `/usr`.

use anyhow::Result;

use crate::tree::Tree;

const FOLDERS: [(&str, u16); 13] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("oem", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
];

const LINKS: [(&str, &str); 4] = [
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
];

/// The tree of an empty ROOT.
pub fn skeleton() -> Result<Tree> {
    let mut tree = Tree::default();
    for (path, mode) in FOLDERS {
        tree.add_folder(path, mode)?;
    }
    for (path, target) in LINKS {
        tree.add_symlink(path, target);
    }
    Ok(tree)
}
