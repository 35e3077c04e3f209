//! A terminal: its name, and a line written to it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::makedev;

/// Longest line that is written, in bytes.
const LINE_MAX: usize = 512;
/// First and last major number of pseudo-terminals, each with 256 of them.
const PTS: (u64, u64) = (136, 143);

/// A line could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TerminalError {
    #[error("find terminal {major}:{minor}: the kernel has no name for it")]
    NoName { major: u64, minor: u64 },
    #[error("open {path}: it is another device now")]
    Another { path: PathBuf },
    #[error("write to {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// A terminal, by its device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Terminal {
    major: u64,
    minor: u64,
}

impl Terminal {
    /// The one that `/proc/PID/stat` means by this number.
    pub(super) const fn new(number: u32) -> Self {
        Self {
            major: (number as u64 >> 8) & 0xfff,
            minor: (number as u64 & 0xff) | ((number as u64 >> 12) & 0xf_ff00),
        }
    }

    /// Writes one line, without waiting for a terminal that takes none.
    pub(super) fn write(self, root: &Path, line: &str) -> Result<(), TerminalError> {
        let (major, minor) = (self.major, self.minor);
        let path = self
            .path(root)
            .ok_or(TerminalError::NoName { major, minor })?;
        let failed = |source| TerminalError::Write {
            path: path.clone(),
            source,
        };
        // It must not become this program's terminal, nor make it wait.
        let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(flags.bits());
        let mut file = options.open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.file_type().is_char_device() || metadata.rdev() != makedev(major, minor) {
            return Err(TerminalError::Another { path });
        }
        file.write_all(&shown(line)).map_err(failed)
    }

    fn path(self, root: &Path) -> Option<PathBuf> {
        let (first, last) = PTS;
        if (first..=last).contains(&self.major) {
            let number = (self.major - first) * 256 + self.minor;
            return Some(root.join(format!("dev/pts/{number}")));
        }
        let entry = format!("sys/dev/char/{}:{}/uevent", self.major, self.minor);
        let text = super::read(&root.join(entry)).ok()?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix("DEVNAME="))?;
        // Only the kernel writes there; even so nothing leads out of /dev.
        let inside = !name.split('/').any(|part| matches!(part, "" | "." | ".."));
        inside.then(|| root.join("dev").join(name))
    }
}

/// The line as it is written: on a line of its own, whatever stood there, with a bell, and nothing that a terminal obeys.
fn shown(line: &str) -> Vec<u8> {
    let mut text = String::from("\r\n\x07");
    let limit = LINE_MAX.saturating_sub(8);
    for c in line.chars().filter(|c| !c.is_control()) {
        if text.len().saturating_add(c.len_utf8()) > limit {
            break;
        }
        text.push(c);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

impl std::fmt::Display for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// The terminal with the device number that `stat(2)` gives.
#[cfg(test)]
pub(super) fn of_device(device: u64) -> Terminal {
    use nix::sys::stat::{major, minor};
    Terminal {
        major: major(device),
        minor: minor(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_kernel_are_taken_apart_as_it_puts_them_together() {
        for (number, major, minor) in [
            (1025, 4, 1),
            (34816, 136, 0),
            (34817 + (1 << 20), 136, 257),
            (0xffff_ffff, 0xfff, 0xf_ffff),
        ] {
            assert_eq!(Terminal::new(number), Terminal { major, minor });
        }
    }

    #[test]
    fn names_come_from_sysfs_and_stay_below_dev() {
        let root = tempfile::tempdir().unwrap();
        let entry = root.path().join("sys/dev/char/204:64");
        std::fs::create_dir_all(&entry).unwrap();
        let serial = Terminal {
            major: 204,
            minor: 64,
        };
        for (text, path) in [
            (
                "MAJOR=204\nMINOR=64\nDEVNAME=ttyAMA0\n",
                Some("dev/ttyAMA0"),
            ),
            ("DEVNAME=../etc/passwd\n", None),
            ("DEVNAME=/etc/passwd\n", None),
            ("", None),
        ] {
            std::fs::write(entry.join("uevent"), text).unwrap();
            let expected = path.map(|path| root.path().join(path));
            assert_eq!(serial.path(root.path()), expected, "{text}");
        }
        let pts = Terminal {
            major: 137,
            minor: 3,
        };
        assert_eq!(pts.path(Path::new("/")), Some("/dev/pts/259".into()));
    }

    #[test]
    fn a_line_is_bounded_and_holds_nothing_that_a_terminal_obeys() {
        assert_eq!(shown("a\x1b[2Jb\nc"), b"\r\n\x07a[2Jbc\r\n");
        let long = shown(&"ä".repeat(1000));
        assert!(long.len() <= LINE_MAX && String::from_utf8(long).is_ok());
    }

    #[test]
    fn a_file_in_place_of_a_terminal_is_not_written_to() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("dev/pts")).unwrap();
        let path = root.path().join("dev/pts/0");
        std::fs::write(&path, "mine").unwrap();
        let terminal = Terminal::new(34816);
        let error = terminal.write(root.path(), "x").unwrap_err();
        assert!(matches!(error, TerminalError::Another { .. }));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "mine");
    }
}
