//! A folder of the host as the tree that goes into an image: sorted, owned by root, modes independent of the umask.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{DirEntry, File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::failure::refuse;

/// What stands at a path of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    /// A regular file with the content of this file of the host, and its size in bytes.
    File(PathBuf, u64),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of the regular file at this path of the tree.
    HardLink(Vec<u8>),
}

/// One file, folder or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub kind: Kind,
    /// Permission bits, without the type.
    pub mode: u16,
    /// Extended attributes: file capabilities and `user.*`.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Paths relative to the root, without a leading slash, and what stands there. A folder comes before its content.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    nodes: BTreeMap<Vec<u8>, Node>,
    warnings: Vec<String>,
}

/// Other names of one inode, by device and number.
type Links = BTreeMap<(u64, u64), Vec<Vec<u8>>>;

impl Tree {
    /// Reads the names, modes and sizes below `root`. File contents are read later, from where they are.
    ///
    /// # Errors
    /// Something can't be read; a device, socket or pipe, a name with a line break, or a name that is too long.
    pub fn read(root: &Path) -> Result<Self> {
        let name = || format!("read folder {}", root.display());
        // The image is made by a program that runs in this folder, so paths must not depend on where we run.
        let root = root.canonicalize().with_context(name)?;
        ensure!(
            root.is_dir(),
            "read folder {}: not a folder",
            root.display()
        );
        let mut tree = Self::default();
        let mut links = Links::new();
        tree.read_folder(&root, &[], &mut links)?;
        for mut names in links.into_values() {
            names.sort();
            let Some((first, others)) = names.split_first() else {
                continue;
            };
            for other in others {
                if let Some(node) = tree.nodes.get_mut(other) {
                    node.kind = Kind::HardLink(first.clone());
                }
            }
        }
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &[u8], links: &mut Links) -> Result<()> {
        let name = || format!("read folder {}", folder.display());
        for entry in std::fs::read_dir(folder).with_context(name)? {
            let entry = entry.with_context(name)?;
            let path = [prefix, entry.file_name().as_bytes()].concat();
            let node = self.read_node(&entry, &path, links)?;
            let is_folder = node.kind == Kind::Folder;
            self.nodes.insert(path.clone(), node);
            if is_folder {
                self.read_folder(&entry.path(), &[&path, b"/".as_slice()].concat(), links)?;
            }
        }
        Ok(())
    }

    fn read_node(&mut self, entry: &DirEntry, path: &[u8], links: &mut Links) -> Result<Node> {
        let source = entry.path();
        let shown = source.display();
        if has_line_break(path) || path.len() > 1024 {
            refuse!("take {source:?}: a line break in the name, or longer than 1024 bytes");
        }
        let meta = source
            .symlink_metadata()
            .with_context(|| format!("read {shown}"))?;
        let kind = if meta.is_dir() {
            Kind::Folder
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&source).with_context(|| format!("read {shown}"))?;
            let target = target.into_os_string().as_bytes().to_vec();
            let is_long =
                target.len() > 1024 || target.split(|&b| b == b'/').any(|n| n.len() > 255);
            if has_line_break(&target) || is_long {
                refuse!(
                    "take {shown}: a line break in the target, or longer than 1024 bytes, or 255 between slashes"
                );
            }
            Kind::Symlink(target)
        } else if meta.is_file() {
            if meta.nlink() > 1 {
                let names = links.entry((meta.dev(), meta.ino())).or_default();
                names.push(path.to_vec());
            }
            Kind::File(source.clone(), meta.len())
        } else {
            let kind = if meta.file_type().is_socket() || meta.file_type().is_fifo() {
                "a socket or pipe"
            } else {
                "a device"
            };
            refuse!("take {shown}: {kind} has no place in an image");
        };
        let attributes = match kind {
            Kind::File(..) | Kind::Folder => {
                kept_attributes(&source).with_context(|| format!("read attributes of {shown}"))?
            }
            Kind::Symlink(_) | Kind::HardLink(_) => BTreeMap::new(),
        };
        let mode = self.normal_mode(&meta, path);
        Ok(Node {
            kind,
            mode,
            attributes,
        })
    }

    /// Modes without what the umask of a checkout decides: executable or not is kept, and every bit of a file that
    /// runs with the rights of its owner.
    fn normal_mode(&mut self, meta: &Metadata, path: &[u8]) -> u16 {
        let bits = u16::try_from(meta.mode() & 0o7777).unwrap_or(0);
        if meta.is_dir() {
            0o755
        } else if meta.is_symlink() {
            0o777
        } else if bits & 0o6000 != 0 {
            if meta.uid() != 0 || meta.gid() != 0 {
                self.warnings.push(format!(
                    "{} is setuid or setgid for {}:{} and becomes root's, mode {bits:o}",
                    String::from_utf8_lossy(path),
                    meta.uid(),
                    meta.gid()
                ));
            }
            bits
        } else if bits & 0o100 != 0 {
            0o755
        } else {
            0o644
        }
    }

    /// Adds a regular file with the content of `source`, and the folders above it.
    ///
    /// # Errors
    /// The path is taken by something with another content.
    pub fn add_file(&mut self, path: &str, source: &Path) -> Result<()> {
        let source = source
            .canonicalize()
            .with_context(|| format!("read {}", source.display()))?;
        for (i, _) in path.match_indices('/') {
            self.add_folder(&path[..i], 0o755)?;
        }
        if self.nodes.contains_key(path.as_bytes()) {
            let old = match &self.nodes.get(path.as_bytes()).map(|n| &n.kind) {
                Some(Kind::File(old, _)) => std::fs::read(old).ok(),
                _ => None,
            };
            ensure!(
                old.is_some() && old == std::fs::read(&source).ok(),
                "add {} as {path}: the tree has another one there",
                source.display()
            );
            return Ok(());
        }
        let size = source
            .metadata()
            .with_context(|| format!("read {}", source.display()))?
            .len();
        self.insert(path, Kind::File(source, size), 0o644);
        Ok(())
    }

    /// Adds a folder whose parent exists, unless it is there.
    ///
    /// # Errors
    /// Something else than a folder is there.
    pub fn add_folder(&mut self, path: &str, mode: u16) -> Result<()> {
        match self.nodes.get(path.as_bytes()).map(|n| &n.kind) {
            None => self.insert(path, Kind::Folder, mode),
            Some(Kind::Folder) => {}
            Some(_) => bail!("add {path}: not a folder"),
        }
        Ok(())
    }

    /// Adds a symbolic link whose parent exists.
    pub fn add_symlink(&mut self, path: &str, target: &str) {
        self.insert(path, Kind::Symlink(target.into()), 0o777);
    }

    /// Takes an empty folder out.
    ///
    /// # Errors
    /// Something is in it.
    pub fn remove_empty(&mut self, path: &str) -> Result<()> {
        let prefix = format!("{path}/");
        ensure!(
            !self.nodes.keys().any(|p| p.starts_with(prefix.as_bytes())),
            "take {path}: not empty, and the name belongs to the file system"
        );
        self.nodes.remove(path.as_bytes());
        Ok(())
    }

    fn insert(&mut self, path: &str, kind: Kind, mode: u16) {
        let attributes = BTreeMap::new();
        self.nodes.insert(
            path.into(),
            Node {
                kind,
                mode,
                attributes,
            },
        );
    }

    /// Everything in the tree, a folder before its content.
    pub fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes
            .iter()
            .map(|(path, node)| (path.as_slice(), node))
    }

    /// What stands at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path.as_bytes())
    }

    /// What was changed on the way in and may matter.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A hash over names, modes, attributes, targets and contents: equal trees give equal images.
    ///
    /// # Errors
    /// A file can't be read or changes its size meanwhile.
    pub fn hash(&self) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_derive_key("tandem image tree, format 1");
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for (path, node) in self.nodes() {
            field(path);
            field(&node.mode.to_le_bytes());
            match &node.kind {
                Kind::Folder => field(b"folder"),
                Kind::Symlink(target) => {
                    field(b"symlink");
                    field(target);
                }
                Kind::HardLink(first) => {
                    field(b"hard link");
                    field(first);
                }
                Kind::File(source, size) => {
                    field(b"file");
                    field(hash_file(source, *size)?.as_bytes());
                }
            }
            field(&(node.attributes.len() as u64).to_le_bytes());
            for (name, value) in &node.attributes {
                field(name);
                field(value);
            }
        }
        Ok(hasher.finalize())
    }
}

/// A carriage return ends a line of `debugfs` too.
fn has_line_break(name: &[u8]) -> bool {
    name.iter().any(|b| matches!(b, b'\n' | b'\r'))
}

fn hash_file(path: &Path, size: u64) -> Result<blake3::Hash> {
    let name = || format!("read {}", path.display());
    let mut hasher = blake3::Hasher::new();
    let read = std::io::copy(&mut File::open(path).with_context(name)?, &mut hasher);
    ensure!(
        read.with_context(name)? == size,
        "read {}: its size changed meanwhile",
        path.display()
    );
    Ok(hasher.finalize())
}

/// File capabilities and `user.*`; security labels and access lists of the host mean nothing on the device.
fn kept_attributes(path: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    const MAX: usize = 64 * 1024;
    let mut list = vec![0_u8; MAX];
    let length = match rustix::fs::llistxattr(path, list.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(std::io::Error::from(e).into()),
    };
    let mut kept = BTreeMap::new();
    for name in list[..length].split(|&b| b == 0) {
        if name != b"security.capability" && !name.starts_with(b"user.") {
            continue;
        }
        ensure!(
            !name.contains(&b'\n'),
            "an attribute with a line break in its name"
        );
        let mut value = vec![0_u8; MAX];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), value.as_mut_slice())
            .map_err(std::io::Error::from)?;
        value.truncate(length);
        kept.insert(name.to_vec(), value);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn sample(umask: u32) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let at = |p: &str| root.path().join(p);
        std::fs::create_dir(at("bin")).unwrap();
        std::fs::write(at("bin/tool"), b"#!").unwrap();
        std::fs::hard_link(at("bin/tool"), at("bin/alias")).unwrap();
        std::fs::write(at("data"), b"12345").unwrap();
        symlink("bin/tool", at("link")).unwrap();
        let set = |p, mode| {
            std::fs::set_permissions(at(p), Permissions::from_mode(mode & !umask)).unwrap();
        };
        set("bin", 0o777);
        set("bin/tool", 0o777);
        set("data", 0o666);
        root
    }

    #[test]
    fn the_umask_of_a_checkout_does_not_show() {
        let (open, closed) = (sample(0), sample(0o077));
        let (open, closed) = (
            Tree::read(open.path()).unwrap().hash().unwrap(),
            Tree::read(closed.path()).unwrap().hash().unwrap(),
        );
        assert_eq!(open, closed);
    }

    #[test]
    fn links_and_modes_are_kept() {
        let root = sample(0o022);
        let mode = Permissions::from_mode(0o4750);
        std::fs::set_permissions(root.path().join("data"), mode).unwrap();
        let tree = Tree::read(root.path()).unwrap();
        let kind = |p| tree.get(p).unwrap().kind.clone();
        assert!(matches!(kind("bin/alias"), Kind::File(_, 2)));
        assert_eq!(kind("bin/tool"), Kind::HardLink(b"bin/alias".to_vec()));
        assert_eq!(kind("link"), Kind::Symlink(b"bin/tool".to_vec()));
        assert_eq!(tree.get("data").unwrap().mode, 0o4750);
        assert_eq!(tree.get("bin/alias").unwrap().mode, 0o755);
    }

    #[test]
    fn a_changed_byte_changes_the_hash() {
        let root = sample(0);
        let before = Tree::read(root.path()).unwrap().hash().unwrap();
        std::fs::write(root.path().join("data"), b"12346").unwrap();
        assert_ne!(before, Tree::read(root.path()).unwrap().hash().unwrap());
    }

    #[test]
    fn what_an_image_cannot_hold_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("sock")).unwrap();
        let error = Tree::read(root.path()).unwrap_err().to_string();
        assert!(error.contains("sock"), "{error}");
    }

    #[test]
    fn an_added_file_does_not_hide_another() {
        let root = sample(0);
        let mut tree = Tree::read(root.path()).unwrap();
        let data = root.path().join("data");
        tree.add_file("lib/x/data", &data).unwrap();
        assert_eq!(tree.get("lib/x").unwrap().kind, Kind::Folder);
        tree.add_file("data", &data).unwrap();
        assert!(tree.add_file("bin/alias", &data).is_err());
        assert!(tree.add_file("data/x", &data).is_err());
    }
}
