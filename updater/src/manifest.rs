//! The manifest: what a payload is, for whom, and the hashes that vouch for its content.
//!
//! One set of rules for the packer ([`Manifest::emit`] reads back what it wrote) and for the device. The device never
//! parses bytes whose signature it has not checked: outside this crate's tests and the packer, manifests come from
//! [`signature::verify`](crate::signature::verify).

use core::fmt::{self, Write};

use serde::{Deserialize, Deserializer};

use crate::json::{self, JsonError};
use crate::payload::{MAX_MANIFEST, MAX_TABLES};
use crate::table::ENTRY_LEN;
use crate::{Digest, Name};

/// The format this crate reads and writes.
pub const FORMAT: u32 = 1;
/// Most boards, and most `requires`.
pub const MAX_BOARDS: usize = 16;
/// Most `requires`.
pub const MAX_REQUIRES: usize = 16;
/// Most artifacts.
pub const MAX_ARTIFACTS: usize = 8;
/// Sizes of artifacts are multiples of this many bytes.
pub const SIZE_UNIT: u64 = 4096;
/// Smallest block, in bytes.
pub const MIN_BLOCK: u32 = 4096;
/// Largest block, in bytes.
pub const MAX_BLOCK: u32 = 1024 * 1024;
/// What the packer uses, in bytes.
pub const DEFAULT_BLOCK: u32 = 256 * 1024;

/// A release as its payload describes it. Held to all rules of format 1.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    format: u32,
    /// What the release is a version of; must be the device's product.
    pub product: Name,
    /// The boards it runs on, at least one.
    pub boards: heapless::Vec<Name, MAX_BOARDS>,
    /// Compared by [`version::compare`](crate::version::compare).
    pub version: Name,
    /// Never installed below the device's floor.
    pub rollback_index: u64,
    /// The lowest running version that can be updated to this one.
    #[serde(default, deserialize_with = "present")]
    pub min_version: Option<Name>,
    /// The only group that it is for.
    #[serde(default, deserialize_with = "present")]
    pub group: Option<Name>,
    /// When it was made, such as `2026-11-21`; for people only.
    #[serde(default, deserialize_with = "present")]
    pub created: Option<Name>,
    /// What a device must be able to do.
    #[serde(default)]
    pub requires: heapless::Vec<Name, MAX_REQUIRES>,
    /// The partition images, at least one.
    pub artifacts: heapless::Vec<Artifact, MAX_ARTIFACTS>,
}

/// A key that may be absent, but not `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Name>, D::Error> {
    Name::deserialize(deserializer).map(Some)
}

/// One partition image inside a payload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Artifact {
    /// The partition it is for, such as `usr`.
    pub name: Name,
    /// Size of the image in bytes, a multiple of [`SIZE_UNIT`] and not zero.
    pub size: u64,
    /// Size of a block in bytes, a power of two; the last block may be shorter.
    pub block_size: u32,
    /// BLAKE3 of the block table.
    pub table: Digest,
    /// BLAKE3 of the whole image.
    pub content: Digest,
}

/// Why a manifest is not acceptable, to the packer or to the device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the manifest is not acceptable: {0}")]
    Json(#[from] JsonError),
    #[error("the manifest lacks a key or has a value that its key can't take ({0})")]
    Value(serde_json_core::de::Error),
    #[error("the manifest has format {0}, this program reads 1")]
    Format(u32),
    #[error("the manifest names no board")]
    NoBoard,
    #[error("the manifest has no artifact")]
    NoArtifact,
    #[error("the manifest has two artifacts `{0}`")]
    DuplicateArtifact(Name),
    #[error("artifact `{name}`: its size of {size} bytes is not a positive multiple of 4096")]
    Size { name: Name, size: u64 },
    #[error(
        "artifact `{name}`: its block size of {block_size} is not a power of two from 4096 to 1048576"
    )]
    BlockSize { name: Name, block_size: u32 },
    #[error(
        "the block tables of {bytes} bytes are larger than the {MAX_TABLES} that a slot record holds; larger blocks make them smaller"
    )]
    Tables { bytes: u64 },
    #[error("the manifest is longer than 16384 bytes")]
    TooLong,
}

impl Artifact {
    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.size.div_ceil(u64::from(self.block_size.max(1)))
    }

    /// Length of the table in bytes; saturates where the size is absurd.
    #[must_use]
    pub fn table_len(&self) -> u64 {
        self.blocks().saturating_mul(ENTRY_LEN as u64)
    }

    /// Length of block `index` in bytes; 0 past the end.
    #[must_use]
    pub fn block_len(&self, index: u64) -> u32 {
        let start = index.saturating_mul(u64::from(self.block_size));
        let rest = self.size.saturating_sub(start);
        u32::try_from(rest).unwrap_or(u32::MAX).min(self.block_size)
    }

    fn check(&self) -> Result<(), ManifestError> {
        if !self.block_size.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&self.block_size)
        {
            return Err(ManifestError::BlockSize {
                name: self.name.clone(),
                block_size: self.block_size,
            });
        }
        if self.size == 0 || !self.size.is_multiple_of(SIZE_UNIT) {
            return Err(ManifestError::Size {
                name: self.name.clone(),
                size: self.size,
            });
        }
        Ok(())
    }
}

impl Manifest {
    /// A manifest without optional keys, boards and artifacts; they are filled in afterwards.
    #[must_use]
    pub fn new(product: Name, version: Name, rollback_index: u64) -> Self {
        Self {
            format: FORMAT,
            product,
            boards: heapless::Vec::new(),
            version,
            rollback_index,
            min_version: None,
            group: None,
            created: None,
            requires: heapless::Vec::new(),
            artifacts: heapless::Vec::new(),
        }
    }

    /// Reads a manifest and holds it to every rule. Unknown keys are ignored.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLong);
        }
        json::check(bytes)?;
        let (manifest, _) =
            serde_json_core::from_slice::<Self>(bytes).map_err(ManifestError::Value)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The artifact for this partition.
    #[must_use]
    pub fn artifact(&self, name: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|a| a.name == *name)
    }

    /// Length of all tables in bytes, at most [`MAX_TABLES`].
    #[must_use]
    pub fn tables_len(&self) -> u64 {
        self.artifacts
            .iter()
            .fold(0, |sum: u64, a| sum.saturating_add(a.table_len()))
    }

    /// Every rule that is not one of the JSON text.
    fn check(&self) -> Result<(), ManifestError> {
        if self.format != FORMAT {
            return Err(ManifestError::Format(self.format));
        }
        if self.boards.is_empty() {
            return Err(ManifestError::NoBoard);
        }
        if self.artifacts.is_empty() {
            return Err(ManifestError::NoArtifact);
        }
        for (i, artifact) in self.artifacts.iter().enumerate() {
            artifact.check()?;
            if self
                .artifacts
                .iter()
                .skip(i + 1)
                .any(|a| a.name == artifact.name)
            {
                return Err(ManifestError::DuplicateArtifact(artifact.name.clone()));
            }
        }
        let bytes = self.tables_len();
        if bytes > MAX_TABLES as u64 {
            return Err(ManifestError::Tables { bytes });
        }
        Ok(())
    }

    /// Writes the manifest into `buf` (of [`MAX_MANIFEST`] bytes) and returns its length. The same manifest always gives
    /// the same bytes.
    ///
    /// # Errors
    /// It breaks a rule that a device would refuse it for, or `buf` is too short.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize, ManifestError> {
        let mut out = Cursor { buf, len: 0 };
        write!(out, "{self}").map_err(|_| ManifestError::TooLong)?;
        let len = out.len;
        let written = buf.get(..len).ok_or(ManifestError::TooLong)?;
        Self::parse(written)?;
        Ok(len)
    }
}

/// The manifest bytes, in the order of the format.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"{{"format":{},"product":"{}""#,
            self.format, self.product
        )?;
        write!(f, r#","boards":{}"#, Strings(&self.boards))?;
        write!(f, r#","version":"{}""#, self.version)?;
        write!(f, r#","rollback_index":{}"#, self.rollback_index)?;
        for (key, value) in [
            ("min_version", &self.min_version),
            ("group", &self.group),
            ("created", &self.created),
        ] {
            if let Some(value) = value {
                write!(f, r#","{key}":"{value}""#)?;
            }
        }
        if !self.requires.is_empty() {
            write!(f, r#","requires":{}"#, Strings(&self.requires))?;
        }
        f.write_str(r#","artifacts":["#)?;
        for (i, artifact) in self.artifacts.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let Artifact {
                name,
                size,
                block_size,
                table,
                content,
            } = artifact;
            write!(
                f,
                r#"{comma}{{"name":"{name}","size":{size},"block_size":{block_size},"table":"{table}","content":"{content}"}}"#
            )?;
        }
        f.write_str("]}")
    }
}

struct Strings<'a>(&'a [Name]);

impl fmt::Display for Strings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, name) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            write!(f, r#"{comma}"{name}""#)?;
        }
        f.write_str("]")
    }
}

struct Cursor<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl fmt::Write for Cursor<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len.checked_add(text.len()).ok_or(fmt::Error)?;
        let target = self.buf.get_mut(self.len..end).ok_or(fmt::Error)?;
        target.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
