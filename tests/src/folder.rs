//! Folders that one program at a time works in.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::system::project_dir;

/// A folder of the project's build tree that nobody else works in while this lives.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// Locked until it is closed.
    _lock: File,
}

impl Folder {
    /// Makes `target/NAME`, if need be, and claims it.
    ///
    /// # Errors
    /// Somebody else has it, or it can't be made.
    pub fn claim(name: &str) -> Result<Self> {
        let path = project_dir().join("target").join(name);
        Self::claim_path(&path).with_context(|| format!("use {}", path.display()))
    }

    fn claim_path(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        let lock = File::create(path.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => {
                bail!("another run works there; it has to end first")
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two demos at a time replaced each other's keys.
    #[test]
    fn two_runs_do_not_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("demo");
        let first = Folder::claim_path(&path).unwrap();
        let error = Folder::claim_path(&path).unwrap_err();
        assert!(error.to_string().starts_with("another run"), "{error}");
        drop(first);
        assert_eq!(Folder::claim_path(&path).unwrap().path(), path);
    }
}
