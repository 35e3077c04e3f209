//! Opening files that somebody else has put there, and replacing files of ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// Opens a file for reading. A pipe, whose other end nobody may ever open, is an error and not waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits());
    let file = options.open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe"));
    }
    Ok(file)
}

/// Opens a file where anybody may have put anything, and `None` if it is none. What is something else is not even opened:
/// a link to a watchdog's device would start that.
pub(crate) fn open_plain(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(OFlag::O_PATH.bits());
    let place = options.open(path)?;
    if !place.metadata()?.is_file() {
        return Ok(None);
    }
    // The file itself, whatever its name leads to by now. The kernel has some that are not as plain as they look.
    let itself = format!("/proc/self/fd/{}", place.as_raw_fd());
    open(Path::new(&itself)).map(Some)
}

/// Opens a file that is only there to be locked, and makes it if it is missing. Nobody but its owner can open it: whoever
/// may open a file for reading may also lock it, and keep everybody else out.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// Replaces a file that nobody but its owner may read. At every moment, also after a cut of the power, it is the old one
/// or the new one; on return it is the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(new)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().inspect_err(|_| {
        // Half a file is of no use to anybody, and the medium may be full.
        let _ = fs::remove_file(new);
    })?;
    fs::rename(new, path)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use crate::health::os_release::OsRelease;
    use crate::journal::{Journal, history};
    use crate::settings;

    #[test]
    fn a_fifo_in_place_of_a_file_of_ours_is_not_waited_for() {
        let root = tempfile::TempDir::new().unwrap();
        let root = root.path();
        for path in [
            "etc/tandem/update.conf",
            "usr/lib/tandem/update.conf",
            "usr/lib/os-release",
            "var/lib/tandem/journal.json",
            "var/lib/tandem/history.jsonl",
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        }
        assert!(!settings::load(root).may_act_alone());
        assert!(OsRelease::read(root).is_err());
        let journal = root.join("var/lib/tandem");
        assert_eq!(Journal::load(&journal).floor(), 0);
        assert!(history::read(&journal).is_err());
    }
}
