//! The time zone of a system: `/etc/localtime`.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Zone;
use crate::files;

/// Where a system says which zone it is in, without the leading slash: a TZif file, usually a link to one.
const LOCALTIME: &str = "etc/localtime";
/// Largest TZif file, in bytes; the largest of the public ones has 4 KiB.
const SIZE_MAX: u64 = 64 << 10;

/// The zone is unknown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    #[error("read time zone {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("read time zone {path}: {cause}")]
    NotAZone { path: PathBuf, cause: String },
}

/// The zone of a system.
#[derive(Clone, Debug)]
pub struct LocalZone(TimeZone);

impl LocalZone {
    /// Reads the zone of the system whose root is at `root`; UTC where there is no `etc/localtime`. Nothing else counts,
    /// neither `TZ` nor `/etc/timezone`.
    ///
    /// # Errors
    /// It is there, but can't be read or is none.
    pub fn read(root: &Path) -> Result<Self, ZoneError> {
        let path = root.join(LOCALTIME);
        let mut data = Vec::new();
        let read = files::open(&path).and_then(|f| f.take(SIZE_MAX + 1).read_to_end(&mut data));
        match read {
            // A link that leads nowhere names a zone that this system does not have.
            Err(error)
                if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() =>
            {
                return Ok(Self(TimeZone::UTC));
            }
            Err(source) => return Err(ZoneError::Read { path, source }),
            Ok(_) => {}
        }
        if data.len() as u64 > SIZE_MAX {
            let cause = format!("it has more than {SIZE_MAX} bytes");
            return Err(ZoneError::NotAZone { path, cause });
        }
        match TimeZone::tzif("local", &data) {
            Ok(zone) => Ok(Self(zone)),
            Err(error) => Err(ZoneError::NotAZone {
                path,
                cause: error.to_string(),
            }),
        }
    }

    /// A time as people write it, such as `Thu 2026-11-26 04:00 +01`.
    #[must_use]
    pub fn show(&self, unix: i64) -> Option<String> {
        let time = Timestamp::from_second(unix).ok()?;
        let time = time.to_zoned(self.0.clone());
        Some(time.strftime("%a %Y-%m-%d %H:%M %:z").to_string())
    }
}

impl From<TimeZone> for LocalZone {
    fn from(zone: TimeZone) -> Self {
        Self(zone)
    }
}

impl Zone for LocalZone {
    fn offset(&self, unix: i64) -> Option<i64> {
        let time = Timestamp::from_second(unix).ok()?;
        Some(self.0.to_offset(time).seconds().into())
    }

    fn next_change(&self, unix: i64) -> Option<i64> {
        let time = Timestamp::from_second(unix).ok()?;
        // Of a zone whose clocks never change it names a time before all others.
        let changes = self.0.following(time).take(2);
        let mut changes = changes.map(|change| change.timestamp().as_second());
        changes.find(|change| *change > unix)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// TZif, version 1: one type of local time, 5 h 30 min ahead, and no change.
    fn tzif() -> Vec<u8> {
        let mut data = b"TZif\0".to_vec();
        data.extend([0; 15]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            data.extend(count.to_be_bytes());
        }
        data.extend(19_800_i32.to_be_bytes());
        data.extend([0, 0]);
        data.extend(b"IST\0");
        data
    }

    #[test]
    fn localtime_says_which_zone_it_is_and_no_file_means_utc() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(LOCALTIME);
        let offset = || LocalZone::read(root.path()).unwrap().offset(0);
        assert_eq!(offset(), Some(0));
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("kolkata"), tzif()).unwrap();
        symlink("../kolkata", &path).unwrap();
        assert_eq!(offset(), Some(19_800));
        let zone = LocalZone::read(root.path()).unwrap();
        assert_eq!(zone.next_change(0), None);
        assert_eq!(zone.show(0).unwrap(), "Thu 1970-01-01 05:30 +05:30");
        assert_eq!((zone.offset(i64::MAX), zone.show(i64::MIN)), (None, None));
    }

    #[test]
    fn a_zone_that_cannot_be_read_is_not_utc() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(LOCALTIME);
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink("../usr/share/zoneinfo/Europe/Berlin", &path).unwrap();
        let error = || LocalZone::read(root.path()).unwrap_err().to_string();
        assert!(
            error().contains("etc/localtime: No such file"),
            "{}",
            error()
        );
        fs::remove_file(&path).unwrap();
        for bad in [
            &b""[..],
            b"Europe/Berlin\n",
            &tzif()[..50],
            &vec![0; 70_000],
        ] {
            fs::write(&path, bad).unwrap();
            assert!(error().contains("etc/localtime: "), "{}", error());
        }
    }
}
