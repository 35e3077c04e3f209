//! Folders of public keys: PEM files (SPKI) as `openssl pkey -pubout` makes them, named `*.pub.pem`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bootctl::BlockIo;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::DecodePublicKey;

use crate::files;
use crate::offline::{OfflineError, OfflineFiles};
use crate::signature::{KeyError, KeySet};

/// How the name of a key file ends; everything else in a folder of keys is left alone.
pub const SUFFIX: &str = ".pub.pem";
/// Keys of a release, without the leading slash.
pub const RELEASE_KEYS: &str = "usr/lib/tandem/keys.d";
/// Keys of the device's maker, on the OEM partition, which count while the release has none.
pub const OEM_KEYS: &str = "oem/tandem/keys.d";
/// Longest key file, in bytes.
const FILE_MAX: u64 = 4096;
/// Most entries that a folder of keys may have.
const ENTRIES_MAX: usize = 256;

/// Why a folder of keys can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("read {path}: it has more than {ENTRIES_MAX} entries")]
    TooManyEntries { path: PathBuf },
    #[error("read key {path}: it is not an Ed25519 public key in PEM")]
    NotAKey { path: PathBuf },
    #[error(transparent)]
    Offline(#[from] OfflineError),
    #[error("trust key {path}: {cause}")]
    Key { path: PathBuf, cause: KeyError },
}

/// The keys in `folder`; none when no file is named as one. Touches the disk.
///
/// # Errors
/// The folder is missing or can't be read, or one of its keys is not one: a device that trusts fewer keys than
/// somebody gave it should say so.
pub fn load(folder: &Path) -> Result<KeySet, KeysError> {
    let mut keys = KeySet::new();
    for path in files(folder)? {
        let key = read_key(&path)?;
        keys.insert(key.as_bytes())
            .map_err(|cause| KeysError::Key { path, cause })?;
    }
    Ok(keys)
}

/// The keys of the system whose root is at `root`: those of its release, or OEM's while that has none.
///
/// # Errors
/// As [`load`], but a missing folder has no keys.
pub fn load_system(root: &Path) -> Result<KeySet, KeysError> {
    let release = load_if_there(&root.join(RELEASE_KEYS))?;
    if !release.is_empty() {
        return Ok(release);
    }
    load_if_there(&root.join(OEM_KEYS))
}

/// The keys in a folder of a partition that is not mounted; none when there is no such folder. Touches the disk.
///
/// # Errors
/// The filesystem can't be read, or a file named as a key is none.
pub fn load_offline<B: BlockIo>(
    files: &mut OfflineFiles<B>,
    folder: &str,
) -> Result<KeySet, KeysError> {
    let mut keys = KeySet::new();
    for (name, text) in files.folder(folder, SUFFIX, ENTRIES_MAX, FILE_MAX)? {
        // Its name is anybody's, and goes to a terminal.
        let path = Path::new(folder).join(name.escape_debug().to_string());
        let key = decode(&path, &text)?;
        keys.insert(key.as_bytes())
            .map_err(|cause| KeysError::Key { path, cause })?;
    }
    Ok(keys)
}

fn load_if_there(folder: &Path) -> Result<KeySet, KeysError> {
    match load(folder) {
        Err(KeysError::Read { path, source })
            if source.kind() == io::ErrorKind::NotFound && path == folder =>
        {
            Ok(KeySet::new())
        }
        result => result,
    }
}

/// The key files of a folder, sorted, so that the first bad one is always the same.
fn files(folder: &Path) -> Result<Vec<PathBuf>, KeysError> {
    let failed = |source| KeysError::Read {
        path: folder.to_path_buf(),
        source,
    };
    let mut found = Vec::new();
    for (count, entry) in fs::read_dir(folder).map_err(failed)?.enumerate() {
        let entry = entry.map_err(failed)?;
        if count >= ENTRIES_MAX {
            let path = folder.to_path_buf();
            return Err(KeysError::TooManyEntries { path });
        }
        if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// One key file. Touches the disk.
///
/// # Errors
/// It can't be read, is too long, or no key.
pub fn read_key(path: &Path) -> Result<VerifyingKey, KeysError> {
    let mut text = Vec::new();
    let read = files::open(path).and_then(|f| f.take(FILE_MAX + 1).read_to_end(&mut text));
    match read {
        Err(source) => {
            let path = path.to_path_buf();
            Err(KeysError::Read { path, source })
        }
        Ok(_) => decode(path, &text),
    }
}

fn decode(path: &Path, text: &[u8]) -> Result<VerifyingKey, KeysError> {
    let key = (text.len() as u64 <= FILE_MAX)
        .then(|| std::str::from_utf8(text).ok())
        .flatten()
        .and_then(|text| VerifyingKey::from_public_key_pem(text).ok());
    let path = path.to_path_buf();
    key.ok_or(KeysError::NotAKey { path })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// `openssl pkey -pubout` of the private key made of 32 bytes 1.
    const ONE: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=\n\
        -----END PUBLIC KEY-----\n";

    fn put(root: &Path, path: &str, text: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn only_files_named_as_keys_are_read() {
        let root = TempDir::new().unwrap();
        put(root.path(), "k/a.pub.pem", ONE.as_bytes());
        put(root.path(), "k/README", b"\xff");
        put(root.path(), "k/release.key.pem", b"secret");
        assert_eq!(load(&root.path().join("k")).unwrap().len(), 1);
        // The same key under another name is one key.
        put(root.path(), "k/b.pub.pem", ONE.as_bytes());
        assert_eq!(load(&root.path().join("k")).unwrap().len(), 1);
    }

    #[test]
    fn a_key_that_is_none_and_a_missing_folder_are_errors() {
        let root = TempDir::new().unwrap();
        let folder = root.path().join("k");
        assert!(matches!(load(&folder), Err(KeysError::Read { .. })));
        let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n-----END PRIVATE KEY-----\n";
        for text in [b"".as_slice(), b"\xff", private.as_bytes(), &[b'x'; 5000]] {
            put(root.path(), "k/a.pub.pem", text);
            let error = load(&folder).unwrap_err();
            assert!(matches!(error, KeysError::NotAKey { .. }), "{error}");
        }
    }

    #[test]
    fn a_fifo_named_as_a_key_is_an_error_and_not_waited_for() {
        let root = TempDir::new().unwrap();
        let fifo = root.path().join("a.pub.pem");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(load(root.path()), Err(KeysError::Read { .. })));
    }

    #[test]
    fn oem_counts_only_while_the_release_has_no_key() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        assert!(load_system(root).unwrap().is_empty());
        put(root, "oem/tandem/keys.d/o.pub.pem", ONE.as_bytes());
        assert_eq!(load_system(root).unwrap().len(), 1);
        put(root, "usr/lib/tandem/keys.d/README", b"");
        assert_eq!(load_system(root).unwrap().len(), 1);
        put(root, "oem/tandem/keys.d/o.pub.pem", b"spoilt");
        assert!(load_system(root).is_err());
        put(root, "usr/lib/tandem/keys.d/r.pub.pem", ONE.as_bytes());
        assert_eq!(load_system(root).unwrap().len(), 1);
    }
}
