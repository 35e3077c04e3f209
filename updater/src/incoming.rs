//! The part of a payload that is held in memory: header, signatures, manifest and tables.

use std::num::NonZeroU8;

use crate::gates::Admitted;
use crate::manifest::Manifest;
use crate::payload::{HEADER_LEN, Header, HeaderError, MAX_RECORD_BODY};
use crate::signature::{KeySet, Verified, VerifyError, verify};
use crate::source::{Source, SourceError};
use crate::table::{Table, TableError};

/// Why a payload is not taken, before its first block.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IncomingError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("read payload: {0}")]
    Header(#[from] HeaderError),
    #[error("verify payload: {0}")]
    Verify(#[from] VerifyError),
    #[error("verify payload: {0}")]
    Table(#[from] TableError),
    #[error("read payload: its manifest and tables have {0} bytes, more than a slot record holds")]
    TooLong(u64),
}

/// A payload whose manifest has been verified. Its source stands where the tables, later the blocks, start.
#[derive(Debug)]
pub struct Incoming {
    source: Source,
    body: Vec<u8>,
    prefix: usize,
}

impl Incoming {
    /// Reads header, signatures and manifest, each bound checked before anything is allocated for it, and verifies them.
    ///
    /// # Errors
    /// The source, a bound, a signature or the manifest.
    pub fn read(
        mut source: Source,
        keys: &KeySet,
        required: NonZeroU8,
    ) -> Result<(Self, Verified<Manifest>), IncomingError> {
        let mut head = [0; HEADER_LEN];
        source.read_exact(&mut head)?;
        let prefix = Header::parse(&head)?.prefix_len();
        let mut body = vec![0; prefix];
        body[..HEADER_LEN].copy_from_slice(&head);
        source.read_exact(&mut body[HEADER_LEN..])?;
        let manifest = verify(&body, keys, required)?;
        let incoming = Self {
            source,
            body,
            prefix,
        };
        Ok((incoming, manifest))
    }

    /// Reads the tables of an admitted release. [`body`](Self::body) is complete then.
    ///
    /// # Errors
    /// The source.
    pub fn read_tables(&mut self, release: &Admitted) -> Result<(), IncomingError> {
        let tables = release.manifest().tables_len();
        let len = (self.prefix as u64).saturating_add(tables);
        let bounded = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_RECORD_BODY);
        let len = bounded.ok_or(IncomingError::TooLong(len))?;
        self.body.resize(len, 0);
        self.source.read_exact(&mut self.body[self.prefix..])?;
        Ok(())
    }

    /// The source, which goes on with the blocks, and the bytes that a slot record keeps.
    #[must_use]
    pub fn into_parts(self) -> (Source, Tables) {
        let tables = Tables {
            body: self.body,
            prefix: self.prefix,
        };
        (self.source, tables)
    }
}

/// Header, signatures, manifest and tables, as they were.
#[derive(Debug)]
pub struct Tables {
    body: Vec<u8>,
    prefix: usize,
}

impl Tables {
    /// All of them, as a slot record keeps them.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Where the blocks start in the payload, in bytes.
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.body.len() as u64
    }

    /// The verified table of the release's image.
    ///
    /// # Errors
    /// It is not the one whose hash the manifest holds, or an entry breaks a rule.
    pub fn table(&self, release: &Admitted) -> Result<Verified<Table<'_>>, IncomingError> {
        let bytes = self.body.get(self.prefix..).unwrap_or_default();
        Ok(release.manifest().table(release.artifact(), bytes)?)
    }
}
