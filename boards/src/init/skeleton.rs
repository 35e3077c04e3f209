//! What a ROOT needs before anything can run on it; an empty filesystem becomes one.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use nix::errno::Errno;

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

/// Where something is mounted; without these nothing starts.
const NEEDED: [&str; 5] = ["dev", "proc", "run", "sys", "usr"];

/// Creates what is missing below `root`. What is there, of whatever kind, is left alone, so that a complete ROOT is
/// not written.
///
/// # Errors
/// Something is missing and can't be created. All the rest has been, where that is possible.
pub fn create(root: &Path) -> Result<()> {
    let folders = FOLDERS.iter().map(|(name, mode)| {
        let path = root.join(name);
        create_with(&path, || {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, Permissions::from_mode(*mode))
        })
    });
    let links = LINKS.iter().map(|(name, target)| {
        let path = root.join(name);
        create_with(&path, || symlink(target, &path))
    });
    // All of them, and then the first error.
    let made: Vec<Result<()>> = folders.chain(links).collect();
    made.into_iter().collect()
}

fn create_with(path: &Path, create: impl FnOnce() -> io::Result<()>) -> Result<()> {
    match exists(path)? {
        true => Ok(()),
        false => create().with_context(|| format!("create {}", path.display())),
    }
}

/// Something can't be read that is there: the filesystem is damaged, and not full, say.
pub fn is_damage(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<io::Error>();
    let code = code.and_then(io::Error::raw_os_error).map(Errno::from_raw);
    matches!(code, Some(Errno::EUCLEAN | Errno::EBADMSG | Errno::EIO))
}

/// A system can run there, whatever else is missing.
pub fn is_usable(root: &Path) -> bool {
    NEEDED.iter().all(|name| root.join(name).is_dir())
}

/// A dangling link exists.
fn exists(path: &Path) -> Result<bool> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
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

    #[test]
    fn what_can_not_be_created_does_not_keep_the_rest_from_it() {
        let root = tempfile::tempdir().unwrap();
        // No folder, so that nothing can be made in it.
        fs::write(root.path().join("var"), "").unwrap();
        let error = create(root.path()).unwrap_err();
        assert!(error.to_string().contains("var/lib"), "{error:#}");
        assert!(!is_damage(&error));
        assert!(is_usable(root.path()));
        assert!(root.path().join("etc/os-release").is_symlink());
        fs::remove_dir(root.path().join("run")).unwrap();
        assert!(!is_usable(root.path()));
    }

    #[test]
    fn a_full_disk_is_no_damage() {
        let failed = |code: Errno| Err::<(), _>(io::Error::from(code)).context("create /srv");
        assert!(!is_damage(&failed(Errno::ENOSPC).unwrap_err()));
        assert!(is_damage(&failed(Errno::EUCLEAN).unwrap_err()));
    }
}
