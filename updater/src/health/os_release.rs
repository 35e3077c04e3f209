//! What the running slot says it is: `lib/os-release` of `/usr`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::files;

/// Largest file that is read, in bytes.
pub const FILE_MAX: u64 = 64 << 10;
const PATH: &str = "usr/lib/os-release";

/// Why a slot does not say what it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OsReleaseError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("read {path}: it has more than {FILE_MAX} bytes")]
    TooLarge { path: PathBuf },
}

/// The lines of `os-release` that Tandem asks for; `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `IMAGE_ID`: the product.
    pub product: Option<String>,
    /// `IMAGE_VERSION`.
    pub version: Option<String>,
    /// `TANDEM_ROLLBACK_INDEX`, as it stands there.
    pub rollback_index: Option<String>,
}

impl OsRelease {
    /// Reads the file below `root`. Touches the disk.
    ///
    /// # Errors
    /// It can't be read, or is too large.
    pub fn read(root: &Path) -> Result<Self, OsReleaseError> {
        let path = root.join(PATH);
        let mut text = Vec::new();
        let read = files::open(&path)
            .and_then(|f| f.take(FILE_MAX.saturating_add(1)).read_to_end(&mut text));
        match read {
            Err(source) => Err(OsReleaseError::Read { path, source }),
            Ok(length) if length as u64 > FILE_MAX => Err(OsReleaseError::TooLarge { path }),
            Ok(_) => Ok(Self::parse(&String::from_utf8_lossy(&text))),
        }
    }

    /// Reads the text; of several lines with one key the last one counts. Pure.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.trim().split_once('=') else {
                continue;
            };
            let place = match key {
                "IMAGE_ID" => &mut found.product,
                "IMAGE_VERSION" => &mut found.version,
                "TANDEM_ROLLBACK_INDEX" => &mut found.rollback_index,
                _ => continue,
            };
            *place = Some(unquoted(value).to_owned());
        }
        found
    }
}

/// The values that we write need no escapes, so that quotes are all that has to go.
fn unquoted(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|&q| value.strip_prefix(q)?.strip_suffix(q))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_file() {
        let found = OsRelease::parse(
            "NAME=\"Demo\"\n# IMAGE_ID=x\n\nIMAGE_ID=demo\nIMAGE_VERSION=\"2.0.0\"\r\nTANDEM_ROLLBACK_INDEX='2'\nodd\n",
        );
        assert_eq!(found.product.as_deref(), Some("demo"));
        assert_eq!(found.version.as_deref(), Some("2.0.0"));
        assert_eq!(found.rollback_index.as_deref(), Some("2"));
        assert_eq!(OsRelease::parse(""), OsRelease::default());
    }

    #[test]
    fn an_absent_or_endless_file_is_an_error() {
        let root = tempfile::TempDir::new().unwrap();
        let error = OsRelease::read(root.path()).unwrap_err();
        assert!(matches!(error, OsReleaseError::Read { .. }));
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        std::fs::write(root.path().join(PATH), vec![b'#'; 65_537]).unwrap();
        let error = OsRelease::read(root.path()).unwrap_err();
        assert!(matches!(error, OsReleaseError::TooLarge { .. }));
    }
}
