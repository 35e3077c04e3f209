//! One change of the boot state at a time: a lock held from the first write of an operation to its last.
//!
//! It is not the `flock` of the disk, which other programs wait for and which is therefore held only around a commit.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

use crate::disk::sysfs::Sysfs;
use crate::disk::{Access, DeviceNumber, Disk};

const RUN: &str = "/run/tandem";

/// Why an operation can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// Exit code 5.
    #[error("lock {path}: another operation is under way")]
    Busy { path: PathBuf },
    #[error("lock {path}: it is open for reading only")]
    ReadOnly { path: PathBuf },
    #[error("lock {path}: {cause}")]
    Lock { path: PathBuf, cause: io::Error },
}

/// Keeps other operations of ours from a disk; released when dropped, and by the kernel when the process ends.
///
/// For a block device it is a lock on `/run/tandem/NAME.lock`; for a plain file a lock on the file itself, for which
/// nobody needs to be root.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct TransactionLock {
    file: File,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// The whole lock file, which is ours alone: closing it releases the lock.
    LockFile,
    /// The image, which the disk keeps open.
    Image,
}

impl TransactionLock {
    /// Does not wait.
    ///
    /// # Errors
    /// Another operation is under way, the image is not open for writing, or the lock file can't be made.
    pub fn acquire(disk: &Disk) -> Result<Self, TransactionError> {
        match disk.device() {
            Some(device) => Self::acquire_device(Path::new(RUN), &Sysfs::default(), device),
            None => Self::acquire_image(disk),
        }
    }

    fn acquire_device(
        run: &Path,
        sysfs: &Sysfs,
        device: DeviceNumber,
    ) -> Result<Self, TransactionError> {
        let mut path = run.to_owned();
        let failed = |path: &Path, cause| TransactionError::Lock {
            path: path.to_owned(),
            cause,
        };
        let folder = sysfs.folder(device).map_err(|cause| failed(&path, cause))?;
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(".lock");
        make_folder(&path).map_err(|cause| failed(&path, cause))?;
        path.push(name);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(|cause| failed(&path, cause))?;
        match file.try_lock() {
            Ok(()) => Ok(Self {
                file,
                kind: Kind::LockFile,
            }),
            Err(TryLockError::WouldBlock) => Err(TransactionError::Busy { path }),
            Err(TryLockError::Error(cause)) => Err(TransactionError::Lock { path, cause }),
        }
    }

    fn acquire_image(disk: &Disk) -> Result<Self, TransactionError> {
        let path = disk.path().to_owned();
        if disk.access() == Access::Read {
            return Err(TransactionError::ReadOnly { path });
        }
        let locked = disk.file().try_clone().and_then(|file| {
            set_lock(&file, libc::F_WRLCK)?;
            Ok(file)
        });
        match locked {
            Ok(file) => Ok(Self {
                file,
                kind: Kind::Image,
            }),
            Err(cause) => match cause.raw_os_error() {
                Some(libc::EAGAIN | libc::EACCES) => Err(TransactionError::Busy { path }),
                _ => Err(TransactionError::Lock { path, cause }),
            },
        }
    }
}

impl Drop for TransactionLock {
    fn drop(&mut self) {
        let released = match self.kind {
            Kind::LockFile => self.file.unlock(),
            Kind::Image => set_lock(&self.file, libc::F_UNLCK),
        };
        if let Err(error) = released {
            log::warn!("release the transaction lock: {error}");
        }
    }
}

/// Makes a folder that everybody may look into, whatever the umask says.
fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(0o755)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Sets or clears a lock of the open file description on the whole file. Unlike a lock of the process it also keeps
/// apart two openings in one process, and closing a third one does not release it.
fn set_lock(file: &File, kind: libc::c_int) -> io::Result<()> {
    let lock = libc::flock {
        l_type: libc::c_short::try_from(kind).map_err(io::Error::other)?,
        l_whence: libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::sysfs;

    #[test]
    fn an_image_is_busy_until_the_lock_goes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || Disk::open(file.path(), Access::Write).unwrap();
        let (one, other) = (open(), open());
        let lock = TransactionLock::acquire(&one).unwrap();
        let busy = TransactionLock::acquire(&other);
        assert!(
            matches!(busy, Err(TransactionError::Busy { .. })),
            "{busy:?}"
        );
        // Somebody else closing the file does not release it, nor is the disk's own flock in the way.
        drop(open());
        drop(one.lock(std::time::Duration::ZERO).unwrap());
        assert!(matches!(
            TransactionLock::acquire(&other),
            Err(TransactionError::Busy { .. })
        ));
        drop(lock);
        drop(TransactionLock::acquire(&other).unwrap());
        let reader = Disk::open(file.path(), Access::Read).unwrap();
        let refused = TransactionLock::acquire(&reader);
        assert!(matches!(refused, Err(TransactionError::ReadOnly { .. })));
    }

    #[test]
    fn a_device_is_busy_until_the_lock_goes() {
        let tree = sysfs::tests::tree();
        let (sysfs, run) = (Sysfs::at(tree.path()), tree.path().join("run"));
        let acquire = || TransactionLock::acquire_device(&run, &sysfs, sysfs::tests::DISK);
        let lock = acquire().unwrap();
        assert!(run.join("vda.lock").exists());
        assert!(matches!(acquire(), Err(TransactionError::Busy { .. })));
        drop(lock);
        drop(acquire().unwrap());
    }
}
