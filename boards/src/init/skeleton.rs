//! What a ROOT needs before anything can run on it; an empty filesystem becomes one.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

const FOLDERS: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("oem", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/lib/tandem", 0o755),
    ("var/tmp", 0o1777),
];

const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("etc/os-release", "../usr/lib/os-release"),
];

/// Creates what is missing below `root`. What is there, of whatever kind, is left alone, so that a complete ROOT is
/// not written.
///
/// # Errors
/// Something is missing and can't be created.
pub fn create(root: &Path) -> Result<()> {
    for (name, mode) in FOLDERS {
        let path = root.join(name);
        if !exists(&path)? {
            fs::create_dir(&path)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(*mode)))
                .with_context(|| format!("create {}", path.display()))?;
        }
    }
    for (name, target) in LINKS {
        let path = root.join(name);
        if !exists(&path)? {
            symlink(target, &path).with_context(|| format!("create {}", path.display()))?;
        }
    }
    Ok(())
}

/// A dangling link exists.
fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("look for {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_root_gets_everything_and_a_second_run_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        create(root.path()).unwrap();
        let mode = |name| {
            fs::metadata(root.path().join(name))
                .unwrap()
                .permissions()
                .mode()
        };
        assert_eq!(mode("tmp") & 0o7777, 0o1777);
        assert_eq!(mode("root") & 0o7777, 0o700);
        assert_eq!(
            fs::read_link(root.path().join("lib")).unwrap(),
            Path::new("usr/lib")
        );
        let count = || fs::read_dir(root.path()).unwrap().count();
        let before = count();
        create(root.path()).unwrap();
        assert_eq!(count(), before);
    }

    #[test]
    fn what_the_owner_has_made_stays() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("lib")).unwrap();
        symlink("/data/home", root.path().join("home")).unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/os-release"), "ID=own\n").unwrap();
        create(root.path()).unwrap();
        assert!(root.path().join("lib").symlink_metadata().unwrap().is_dir());
        assert_eq!(
            fs::read_link(root.path().join("home")).unwrap(),
            Path::new("/data/home")
        );
        assert_eq!(
            fs::read_to_string(root.path().join("etc/os-release")).unwrap(),
            "ID=own\n"
        );
    }
}
