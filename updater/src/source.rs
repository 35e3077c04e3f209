//! Where a payload comes from: a file, which can be looked at twice, or a stream, which can't.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// Why bytes of a payload can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error("read payload at byte {offset}: {cause}")]
    Read { offset: u64, cause: io::Error },
    #[error("read payload: it ends at byte {at}, {missing} bytes too early")]
    Truncated { at: u64, missing: u64 },
    #[error("read payload: something follows its last block at byte {at}")]
    Trailing { at: u64 },
}

enum Input {
    File { file: File, len: u64 },
    Stream(Box<dyn Read + Send>),
}

/// The bytes of a payload, in order. Never reads past what is asked for.
pub struct Source {
    input: Input,
    at: u64,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// A plain file is seekable, anything else (a pipe, a device) is a stream. Touches nothing but the file.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        Ok(match metadata.is_file() {
            true => Self::file(file, metadata.len()),
            false => Self::stream(file),
        })
    }

    fn file(file: File, len: u64) -> Self {
        Self {
            input: Input::File { file, len },
            at: 0,
        }
    }

    /// Bytes that come once. An end that is too early counts as truncation, as in a file; only an error of `reader`
    /// itself is an I/O failure.
    pub fn stream(reader: impl Read + Send + 'static) -> Self {
        Self {
            input: Input::Stream(Box::new(reader)),
            at: 0,
        }
    }

    /// Length in bytes where it is known beforehand, which makes the source seekable.
    #[must_use]
    pub fn known_len(&self) -> Option<u64> {
        match self.input {
            Input::File { len, .. } => Some(len),
            Input::Stream(_) => None,
        }
    }

    /// Position in bytes.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Fills `buf`.
    ///
    /// # Errors
    /// The bytes end before, or can't be read.
    pub fn read_exact(&mut self, buf: &mut [u8]) -> Result<(), SourceError> {
        let mut rest = buf;
        while !rest.is_empty() {
            let count = self.read(rest)?;
            if count == 0 {
                let missing = rest.len() as u64;
                return Err(SourceError::Truncated {
                    at: self.at,
                    missing,
                });
            }
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, SourceError> {
        loop {
            let result = match &mut self.input {
                Input::File { file, .. } => file.read(buf),
                Input::Stream(reader) => reader.read(buf),
            };
            match result {
                Ok(count) => {
                    self.at = self.at.saturating_add(count as u64);
                    return Ok(count);
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => {
                    return Err(SourceError::Read {
                        offset: self.at,
                        cause,
                    });
                }
            }
        }
    }

    /// Goes to a position of a seekable source; a stream stays where it is.
    ///
    /// # Errors
    /// The file can't be sought in.
    pub fn seek(&mut self, offset: u64) -> Result<(), SourceError> {
        if let Input::File { file, .. } = &mut self.input {
            file.seek(SeekFrom::Start(offset))
                .map_err(|cause| SourceError::Read { offset, cause })?;
            self.at = offset;
        }
        Ok(())
    }

    /// Holds the length of a seekable source to what the tables say; a stream passes.
    ///
    /// # Errors
    /// It is shorter or longer than `end` bytes.
    pub fn check_len(&self, end: u64) -> Result<(), SourceError> {
        match self.known_len() {
            Some(len) if len < end => Err(SourceError::Truncated {
                at: len,
                missing: end - len,
            }),
            Some(len) if len > end => Err(SourceError::Trailing { at: end }),
            _ => Ok(()),
        }
    }

    /// Makes sure that nothing follows.
    ///
    /// # Errors
    /// Something does, or the source can't be read.
    pub fn expect_end(&mut self) -> Result<(), SourceError> {
        let at = self.at;
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(SourceError::Trailing { at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_seekable_and_held_to_its_length() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut source = Source::open(file.path()).unwrap();
        assert_eq!(source.known_len(), Some(10));
        assert!(source.check_len(10).is_ok());
        assert!(matches!(
            source.check_len(9),
            Err(SourceError::Trailing { at: 9 })
        ));
        assert!(matches!(
            source.check_len(12),
            Err(SourceError::Truncated { at: 10, missing: 2 })
        ));
        let mut buf = [0; 4];
        source.read_exact(&mut buf).unwrap();
        source.seek(6).unwrap();
        source.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"6789");
        assert!(source.expect_end().is_ok());
        source.seek(8).unwrap();
        assert!(matches!(
            source.read_exact(&mut buf),
            Err(SourceError::Truncated { at: 10, missing: 2 })
        ));
        assert_eq!(
            Source::open(Path::new("/")).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
    }

    /// Gives one byte at a time and then fails.
    struct Drip(u8);

    impl Read for Drip {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(ErrorKind::ConnectionReset)?;
            buf[0] = self.0;
            Ok(1)
        }
    }

    #[test]
    fn a_stream_that_breaks_is_not_one_that_ends() {
        let mut source = Source::stream(Drip(5));
        let mut buf = [0; 5];
        source.read_exact(&mut buf).unwrap();
        assert_eq!(buf, [4, 3, 2, 1, 0]);
        assert!(matches!(
            source.read_exact(&mut buf),
            Err(SourceError::Read { offset: 5, .. })
        ));
        let mut source = Source::stream(&b"ab"[..]);
        assert!(matches!(
            source.read_exact(&mut buf),
            Err(SourceError::Truncated { at: 2, missing: 3 })
        ));
        let mut source = Source::stream(&b"ab"[..]);
        source.read_exact(&mut buf[..1]).unwrap();
        assert!(matches!(
            source.expect_end(),
            Err(SourceError::Trailing { at: 1 })
        ));
    }
}
