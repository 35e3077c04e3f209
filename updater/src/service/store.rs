//! `service.json`: the status as it was when it last changed, and the lock of the one program that may change it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

use super::status::Status;
use crate::{files, journal};

const NAME: &str = "service.json";
const NEW_NAME: &str = "service.json.new";
const LOCK_NAME: &str = "service.lock";
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes.
const SIZE_MAX: u64 = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    status: Status,
}

/// The status in `folder`, or what holds when there is none: a status that can't be read costs nothing but words.
pub(super) fn load(folder: &Path) -> Status {
    let path = folder.join(NAME);
    match read(&path) {
        Ok(status) => status,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Status::default(),
        Err(error) => {
            log::warn!("read {}: {error}; going on without it", path.display());
            Status::default()
        }
    }
}

fn read(path: &Path) -> io::Result<Status> {
    let mut text = Vec::new();
    files::open(path)?.take(SIZE_MAX).read_to_end(&mut text)?;
    let stored: Stored = serde_json::from_slice(&text)?;
    if stored.format != FORMAT {
        let cause = format!("format {} is unknown", stored.format);
        return Err(io::Error::other(cause));
    }
    Ok(stored.status)
}

/// Replaces the status; on return it is on the medium.
pub(super) fn save(folder: &Path, status: &Status) -> Result<(), journal::JournalError> {
    let path = folder.join(NAME);
    let stored = Stored {
        format: FORMAT,
        status: status.clone(),
    };
    let mut text = serde_json::to_vec(&stored)
        .map_err(io::Error::from)
        .and_then(|text| fs::create_dir_all(folder).map(|()| text))
        .map_err(journal::JournalError::io("write", &path))?;
    text.push(b'\n');
    journal::replace(folder, &path, &folder.join(NEW_NAME), &text)
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    #[error("lock {0}: another program is at work")]
    Busy(PathBuf),
    #[error("lock {path}: {cause}")]
    Io { path: PathBuf, cause: io::Error },
}

/// Held while the file is open.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "keeps the lock")] File);

/// Takes the lock in `folder`, which is made if it is missing. Does not wait.
pub(super) fn lock(folder: &Path) -> Result<Lock, LockError> {
    let path = folder.join(LOCK_NAME);
    let failed = |cause| LockError::Io {
        path: path.clone(),
        cause,
    };
    let file = fs::create_dir_all(folder)
        .and_then(|()| files::open_lock(&path))
        .map_err(failed)?;
    let whole = whole_file().map_err(failed)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole)) {
        Ok(_) => Ok(Lock(file)),
        Err(Errno::EAGAIN | Errno::EACCES) => Err(LockError::Busy(path)),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Somebody holds the lock in `folder`. Takes nothing, so that nobody is kept from taking it.
pub(super) fn is_locked(folder: &Path) -> bool {
    let holder = || -> io::Result<bool> {
        let file = files::open(&folder.join(LOCK_NAME))?;
        let mut found = whole_file()?;
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut found))?;
        Ok(libc::c_int::from(found.l_type) != libc::F_UNLCK)
    };
    // Without the file there is nobody to be seen. Who may not look at it has to take the status for what it says.
    holder().unwrap_or_else(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

fn whole_file() -> io::Result<libc::flock> {
    Ok(libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).map_err(io::Error::other)?,
        l_whence: libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::status::Operation;

    #[test]
    fn a_status_survives_and_a_damaged_one_costs_nothing_else() {
        let folder = tempfile::TempDir::new().unwrap();
        let folder = folder.path().join("new");
        assert_eq!(load(&folder), Status::default());
        let status = Status {
            operation: Operation::Finalizing,
            last_checked: 9,
            ..Status::default()
        };
        save(&folder, &status).unwrap();
        assert_eq!(load(&folder), status);
        for text in [
            "",
            "{",
            "{\"format\":2,\"status\":{\"operation\":\"UPDATE_STATUS_IDLE\"}}",
        ] {
            fs::write(folder.join(NAME), text).unwrap();
            assert_eq!(load(&folder), Status::default(), "{text}");
        }
    }

    #[test]
    fn the_lock_is_seen_without_being_taken() {
        let folder = tempfile::TempDir::new().unwrap();
        let folder = folder.path();
        assert!(!is_locked(folder));
        let held = lock(folder).unwrap();
        assert!(is_locked(folder));
        assert!(matches!(lock(folder), Err(LockError::Busy(_))));
        let mode = fs::metadata(folder.join(LOCK_NAME)).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
        drop(held);
        assert!(!is_locked(folder));
        drop(lock(folder).unwrap());
    }
}
