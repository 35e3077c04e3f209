//! Output files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use crate::failure::Failure;

use crate::failure::refuse;

/// A file under a temporary name beside its target; it goes away unless [`commit`](Self::commit) succeeds.
#[derive(Debug)]
#[must_use = "without commit the file goes away"]
pub struct Output {
    temporary: NamedTempFile,
    target: PathBuf,
    overwrite: bool,
}

impl Output {
    /// Creates the temporary file, replacing `target` on commit.
    ///
    /// # Errors
    /// The folder of `target` does not exist or can't be written; something else than a plain file has its name.
    pub fn create(target: &Path) -> Result<Self> {
        Self::with_mode(target, 0o644, true)
    }

    /// Like [`create`](Self::create), with permission bits of its own and a target that must not exist on commit.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_new(target: &Path, mode: u32) -> Result<Self> {
        Self::with_mode(target, mode, false)
    }

    fn with_mode(target: &Path, mode: u32, overwrite: bool) -> Result<Self> {
        let name = target
            .file_name()
            .with_context(|| format!("create {}: not a file name", target.display()))?;
        // Its name is given to another file: a disk's node under /dev would be gone, and the disk not written.
        if let Ok(meta) = target.symlink_metadata()
            && !meta.is_file()
            && !meta.is_symlink()
        {
            refuse!("create {}: not a plain file", target.display());
        }
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        let temporary = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(folder_of(target))
            .with_context(|| format!("create {}", target.display()))?;
        temporary
            .as_file()
            .set_permissions(Permissions::from_mode(mode))
            .with_context(|| format!("set mode of {}", temporary.path().display()))?;
        Ok(Self {
            temporary,
            target: target.to_owned(),
            overwrite,
        })
    }

    /// The open temporary file.
    pub fn file(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Where the temporary file is, for tools that want a name.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Flushes the file, gives it its name and flushes the folder.
    ///
    /// # Errors
    /// The medium is full or fails, or the target exists and may not be replaced.
    pub fn commit(self) -> Result<()> {
        let name = self.target.display().to_string();
        self.temporary
            .as_file()
            .sync_all()
            .with_context(|| format!("flush {name}"))?;
        let persisted = if self.overwrite {
            self.temporary.persist(&self.target)
        } else {
            self.temporary.persist_noclobber(&self.target)
        };
        persisted.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("write {name}: it exists and is not replaced")
            }
            _ => anyhow::Error::new(e.error).context(format!("write {name}")),
        })?;
        File::open(folder_of(&self.target))
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("flush the folder of {name}"))
    }
}

/// Makes sure that `target` is none of the files that it is made from.
///
/// # Errors
/// It is one of them, under this name or another.
pub fn is_no_input<'a>(target: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    // Where nothing is yet nothing is lost.
    let Some(found) = file(target) else {
        return Ok(());
    };
    match inputs.into_iter().find(|input| file(input) == Some(found)) {
        None => Ok(()),
        Some(input) => {
            let (target, input) = (target.display(), input.display());
            let text = format!("write {target}: it is what is read as {input} (--out)");
            Err(Failure::Usage(text).into())
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn nothing_is_left_behind_without_commit() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::create(&folder.path().join("x")).unwrap();
        output.file().write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_device_node_or_folder_does_not_lose_its_name_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("node");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for target in [&socket, folder.path()] {
            let error = Output::create(target).unwrap_err().to_string();
            assert!(error.contains("not a plain file"), "{error}");
        }
        assert!(!socket.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn commit_replaces_or_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        std::fs::write(&target, b"old").unwrap();
        let new = Output::create_new(&target, 0o600).unwrap();
        assert!(new.commit().is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let mut replace = Output::create(&target).unwrap();
        replace.file().write_all(b"new").unwrap();
        replace.commit().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
