//! Where a payload comes from: a file, which can be looked at twice, a stream, which can't, or a remote place, whose bytes
//! come once but from wherever they are asked for.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

/// Bytes of a stream that are read at a time where nobody wants them.
const SKIP: usize = 64 * 1024;

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

/// A payload somewhere else, which can be asked to go on at another byte than the next one.
///
/// It never counts as seekable: looking at everything twice would mean to fetch it twice. A `read` that fails ends the
/// attempt, so what can be overcome (a connection that breaks, a server that is busy) has been tried again before.
pub trait Remote: Read + Send {
    /// Goes on at `offset` bytes from the start of the payload. It is at 0 before the first call. At the very end of the
    /// payload the next `read` gives no bytes.
    ///
    /// # Errors
    /// The other side can't, or has another payload by now.
    fn jump(&mut self, offset: u64) -> Result<(), SourceError>;

    /// Waits for `patience` at most; `false` if a `read` would still have to wait then. Who can't tell says yes.
    fn is_ready(&mut self, _patience: Duration) -> bool {
        true
    }

    /// What it takes to ask for the very same bytes again, after a restart of this program.
    fn origin(&self) -> Option<Origin> {
        None
    }
}

/// Where a remote payload comes from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    pub url: String,
    /// What tells one version of the file there from another, such as an `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<String>,
}

enum Input {
    File {
        file: File,
        len: u64,
    },
    Stream(Box<dyn Read + Send>),
    Remote {
        remote: Box<dyn Remote>,
        /// Where `remote` stands.
        stands: u64,
        /// The first bytes of the payload, which need not be asked for.
        prefix: Vec<u8>,
    },
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
        Self::from_file(File::open(path)?)
    }

    /// The same of a file that has been opened; a plain one is read from its beginning.
    ///
    /// # Errors
    /// It can't be looked at, or is a directory.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Ok(Self::stream(file));
        }
        file.rewind()?;
        Ok(Self::file(file, metadata.len()))
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

    /// Bytes that come once, but from any place.
    pub fn remote(remote: impl Remote + 'static) -> Self {
        Self::resumed(Vec::new(), remote)
    }

    /// Like [`remote`](Self::remote), with the first bytes known from an earlier attempt: only what follows them is asked
    /// for.
    pub fn resumed(prefix: Vec<u8>, remote: impl Remote + 'static) -> Self {
        Self {
            input: Input::Remote {
                remote: Box::new(remote),
                stands: 0,
                prefix,
            },
            at: 0,
        }
    }

    /// Whether its bytes come from afar, so that what has been written is worth remembering.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.input, Input::Remote { .. })
    }

    /// Where a remote source's bytes come from.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        match &self.input {
            Input::Remote { remote, .. } => remote.origin(),
            Input::File { .. } | Input::Stream(_) => None,
        }
    }

    /// Length in bytes where it is known beforehand, which makes the source seekable.
    #[must_use]
    pub fn known_len(&self) -> Option<u64> {
        match self.input {
            Input::File { len, .. } => Some(len),
            Input::Stream(_) | Input::Remote { .. } => None,
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
            let count = self.read_some(rest)?;
            rest = rest.get_mut(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads what there is of `buf`, which all has to come in the end: at least one byte, unless there is room for none.
    ///
    /// # Errors
    /// The bytes end here, or can't be read.
    pub fn read_some(&mut self, buf: &mut [u8]) -> Result<usize, SourceError> {
        match self.read(buf)? {
            0 if !buf.is_empty() => Err(SourceError::Truncated {
                at: self.at,
                missing: buf.len() as u64,
            }),
            count => Ok(count),
        }
    }

    /// Waits for `patience` at most; `false` if the next bytes are still to come from afar then.
    pub fn is_ready(&mut self, patience: Duration) -> bool {
        match &mut self.input {
            Input::File { .. } | Input::Stream(_) => true,
            // What has to be asked for first is asked for by reading.
            Input::Remote { remote, stands, .. } => *stands != self.at || remote.is_ready(patience),
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize, SourceError> {
        loop {
            let result = match &mut self.input {
                Input::File { file, .. } => file.read(buf),
                Input::Stream(reader) => reader.read(buf),
                Input::Remote {
                    remote,
                    stands,
                    prefix,
                } => {
                    let known = usize::try_from(self.at).ok();
                    let known = known.and_then(|at| prefix.get(at..));
                    match known.unwrap_or_default() {
                        [] => read_at(remote.as_mut(), stands, self.at, buf)?,
                        known => Read::read(&mut &*known, buf),
                    }
                }
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

    /// Goes to a position of a seekable source; a stream stays where it is, and so does a remote source.
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

    /// Goes forward to a position: a file and a remote source go there, of a stream the bytes before it are read.
    ///
    /// # Errors
    /// The source can't be read; the position lies behind the one of a stream.
    pub fn skip_to(&mut self, offset: u64) -> Result<(), SourceError> {
        match &self.input {
            Input::File { .. } => self.seek(offset),
            // It is asked for the place when something is read there, so that nothing is asked for in vain.
            Input::Remote { .. } => {
                self.at = offset;
                Ok(())
            }
            Input::Stream(_) => self.read_away(offset),
        }
    }

    fn read_away(&mut self, offset: u64) -> Result<(), SourceError> {
        let mut rest = offset.checked_sub(self.at).ok_or(SourceError::Read {
            offset,
            cause: ErrorKind::NotSeekable.into(),
        })?;
        let mut buf = vec![0; SKIP];
        while rest > 0 {
            let piece = usize::try_from(rest).map_or(SKIP, |rest| rest.min(SKIP));
            self.read_exact(buf.get_mut(..piece).unwrap_or_default())?;
            rest = rest.saturating_sub(piece as u64);
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

/// Reads what a remote source has at `at`; it is sent there first if it stands elsewhere.
fn read_at(
    remote: &mut dyn Remote,
    stands: &mut u64,
    at: u64,
    buf: &mut [u8],
) -> Result<io::Result<usize>, SourceError> {
    if *stands != at {
        remote.jump(at)?;
        *stands = at;
    }
    let result = remote.read(buf);
    if let Ok(count) = result {
        *stands = stands.saturating_add(count as u64);
    }
    Ok(result)
}

#[cfg(test)]
mod tests;
