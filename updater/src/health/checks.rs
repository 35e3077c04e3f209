//! Which health checks there are: the executable files of a folder in `/usr` and of the same one in `/etc`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Most entries that one folder of checks may have.
const ENTRIES_MAX: usize = 256;
/// Where a release and a device keep their checks, without the leading slash; a name in the later one hides the same
/// name in the earlier one.
const LAYERS: [&str; 2] = ["usr/lib/tandem/health.d", "etc/tandem/health.d"];

/// The two kinds of checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// One failure is a failure of the release.
    Required,
    /// A failure is a warning.
    Wanted,
}

impl Tier {
    /// Name of the folder.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required.d",
            Self::Wanted => "wanted.d",
        }
    }
}

/// The checks can't be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("read {path}: it has more than {ENTRIES_MAX} entries")]
    TooMany { path: PathBuf },
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub tier: Tier,
    pub path: PathBuf,
}

impl Check {
    /// Folder and file name, such as `required.d/50-network`.
    #[must_use]
    pub fn name(&self) -> String {
        let file = self.path.file_name().unwrap_or_default();
        format!("{}/{}", self.tier.as_str(), file.to_string_lossy())
    }
}

/// The checks of one tier below `root`, sorted by name (bytewise). Touches the disk.
///
/// What is hidden (a leading dot), not a regular file or not executable is no check, but it still hides a check of
/// the same name in `/usr`: that is how a device turns one off.
///
/// # Errors
/// A folder exists but can't be read, or has too many entries.
pub fn list(root: &Path, tier: Tier) -> Result<Vec<Check>, ListError> {
    let mut by_name = BTreeMap::new();
    for layer in LAYERS {
        collect(&root.join(layer).join(tier.as_str()), &mut by_name)?;
    }
    let runnable = |path: PathBuf| is_check(&path).then_some(Check { tier, path });
    Ok(by_name.into_values().filter_map(runnable).collect())
}

fn collect(folder: &Path, by_name: &mut BTreeMap<OsString, PathBuf>) -> Result<(), ListError> {
    let failed = |source| ListError::Read {
        path: folder.to_path_buf(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(failed)?;
        if count >= ENTRIES_MAX {
            let path = folder.to_path_buf();
            return Err(ListError::TooMany { path });
        }
        if !entry.file_name().as_bytes().starts_with(b".") {
            by_name.insert(entry.file_name(), entry.path());
        }
    }
    Ok(())
}

fn is_check(path: &Path) -> bool {
    let executable = |m: Metadata| m.is_file() && m.permissions().mode() & 0o111 != 0;
    let check = fs::metadata(path).is_ok_and(executable);
    if !check {
        log::info!("skip {}: not an executable file", path.display());
    }
    check
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn file(root: &Path, path: &str, mode: u32) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn names(root: &Path) -> Vec<String> {
        let checks = list(root, Tier::Required).unwrap();
        checks
            .iter()
            .map(|c| c.path.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn no_folder_is_no_check() {
        let root = TempDir::new().unwrap();
        assert_eq!(list(root.path(), Tier::Wanted).unwrap(), []);
    }

    #[test]
    fn both_folders_in_order_and_etc_hides_by_name() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        let usr = "usr/lib/tandem/health.d/required.d";
        let etc = "etc/tandem/health.d/required.d";
        for name in ["10-a", "20-b", "30-c", "40-d", ".hidden"] {
            file(root, &format!("{usr}/{name}"), 0o755);
        }
        file(root, &format!("{usr}/15-plain"), 0o644);
        file(root, &format!("{etc}/20-b"), 0o700);
        file(root, &format!("{etc}/25-x"), 0o755);
        file(root, &format!("{etc}/40-d"), 0o644);
        symlink("/dev/null", root.join(etc).join("30-c")).unwrap();
        fs::create_dir(root.join(usr).join("50-folder")).unwrap();
        file(root, "usr/lib/tandem/health.d/wanted.d/00-w", 0o755);
        assert_eq!(
            names(root),
            [
                format!("{usr}/10-a"),
                format!("{etc}/20-b"),
                format!("{etc}/25-x")
            ]
        );
    }

    #[test]
    fn a_folder_that_is_a_file_is_an_error_not_an_empty_folder() {
        let root = TempDir::new().unwrap();
        file(root.path(), "etc/tandem/health.d/required.d", 0o755);
        let error = list(root.path(), Tier::Required).unwrap_err();
        assert!(matches!(error, ListError::Read { .. }), "{error}");
    }

    #[test]
    fn too_many_entries_are_an_error() {
        let root = TempDir::new().unwrap();
        for n in 0..257 {
            file(
                root.path(),
                &format!("etc/tandem/health.d/required.d/{n}"),
                0o755,
            );
        }
        let error = list(root.path(), Tier::Required).unwrap_err();
        assert!(matches!(error, ListError::TooMany { .. }), "{error}");
    }
}
