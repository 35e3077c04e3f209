//! Disk descriptor: what kind of disk this is and where its slot store lies.
//!
//! One 512-byte record, 1 MiB before the end of OEM-CONFIG: a JSON object, one newline, zeros.
//!
//! ```text
//! {"format":1,"board":"x86_64-grub","product":"demo","slot_record":4194304,
//!  "store":{"kind":"grub-block","offset":1069056,"size":512}}
//! ```
//!
//! `kind` is `gpt` (no other key), `grub-block`, `uboot-env` or `uboot-env-redundant` (with `offset2`). Offsets and
//! sizes are bytes; offsets count from the start of OEM-CONFIG, those of `uboot-env-redundant` from the start of the disk:
//! that environment is U-Boot's own. Unknown keys are ignored.

use core::fmt::{self, Write};
use core::str::FromStr;

use heapless::String;
use serde::Deserialize;

use crate::confirmed::CONFIRMED_FROM_END;
use crate::slot_record::SLOT_RECORD_BYTES;

/// Length of the record in bytes.
pub const DESCRIPTOR_BYTES: usize = 512;
/// How far before the end of OEM-CONFIG the record starts, in bytes.
pub const DESCRIPTOR_FROM_END: u64 = 1024 * 1024;
/// How far before the end of OEM-CONFIG our U-Boot environment sector starts, in bytes.
pub const UBOOT_ENV_FROM_END: u64 = 256 * 1024;
/// Largest environment block or copy of ours, in bytes.
pub const MAX_ENV_BYTES: usize = 16 * 1024;
/// Largest copy of U-Boot's own environment, in bytes.
pub const MAX_OWN_ENV_BYTES: usize = 128 * 1024;

/// Name of a board, product or version: 1–64 bytes of `[A-Za-z0-9._+-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String<64>);

/// The text is empty, longer than 64 bytes or holds a byte outside `[A-Za-z0-9._+-]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 64 bytes of [A-Za-z0-9._+-]")]
pub struct NotAName;

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(NotAName);
        }
        text.try_into().map(Self).map_err(|_| NotAName)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The store that the board's loader reads. Offsets and sizes in bytes, offsets from the start of OEM-CONFIG unless it says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The GPT attributes of the USR partitions.
    Gpt,
    /// A GRUB environment block.
    GrubBlock { offset: u64, size: u64 },
    /// One U-Boot environment.
    UbootEnv { offset: u64, size: u64 },
    /// The two copies, of `size` bytes each, in which U-Boot keeps its own environment. Offsets from the start of the disk.
    UbootEnvRedundant {
        offset: u64,
        offset2: u64,
        size: u64,
    },
}

impl Store {
    /// Its name in the descriptor and in every output.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Gpt => "gpt",
            Self::GrubBlock { .. } => "grub-block",
            Self::UbootEnv { .. } => "uboot-env",
            Self::UbootEnvRedundant { .. } => "uboot-env-redundant",
        }
    }
}

/// A disk's descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub board: Name,
    pub product: Name,
    pub store: Store,
}

/// Why a record is no descriptor of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    #[error("no disk descriptor in OEM-CONFIG; this disk was not made by tandem-image")]
    Absent,
    #[error("the disk descriptor is malformed")]
    Malformed,
    #[error("disk descriptor format {0}, this program knows 1")]
    Format(u32),
    #[error("slot records of {0} bytes, this program knows {SLOT_RECORD_BYTES}")]
    SlotRecord(u64),
    #[error("the descriptor's {0} is not a name")]
    Name(&'static str),
    #[error("unknown kind of slot store")]
    StoreKind,
    #[error("environment of {size} bytes, allowed are multiples of 512 from 512 to {most}")]
    StoreSize { size: u64, most: usize },
    #[error(
        "environment at byte {offset} of OEM-CONFIG, which has {oem_config} bytes, is not within it or lies on another record"
    )]
    StoreOffset { offset: u64, oem_config: u64 },
    #[error(
        "a copy of U-Boot's environment at byte {offset} of the disk: it must start on a multiple of 512 and be apart from the other one"
    )]
    CopyOffset { offset: u64 },
    #[error(
        "a copy of U-Boot's environment, {size} bytes at byte {offset} of the disk, is not between the partition table, which ends at byte {from}, and the first partition, which starts at byte {to}"
    )]
    CopyPlace {
        offset: u64,
        size: u64,
        from: u64,
        to: u64,
    },
}

#[derive(Deserialize)]
struct Raw<'a> {
    format: u32,
    board: &'a str,
    product: &'a str,
    slot_record: u64,
    #[serde(borrow)]
    store: RawStore<'a>,
}

#[derive(Deserialize)]
struct RawStore<'a> {
    kind: &'a str,
    offset: Option<u64>,
    offset2: Option<u64>,
    size: Option<u64>,
}

impl Descriptor {
    /// Decodes the record at its place in an OEM-CONFIG of `oem_config` bytes. Does not touch the disk.
    ///
    /// # Errors
    /// See [`DescriptorError`]; a record of zeros is `Absent`.
    pub fn decode(
        record: &[u8; DESCRIPTOR_BYTES],
        oem_config: u64,
    ) -> Result<Self, DescriptorError> {
        let end = record.iter().position(|&b| b == b'\n');
        let json = match end.and_then(|end| record.split_at_checked(end)) {
            Some((json, _)) if json.starts_with(b"{") => json,
            _ if record.starts_with(b"{") => return Err(DescriptorError::Malformed),
            _ => return Err(DescriptorError::Absent),
        };
        if record.iter().skip(json.len() + 1).any(|&b| b != 0) {
            return Err(DescriptorError::Malformed);
        }
        let (raw, _) =
            serde_json_core::from_slice::<Raw>(json).map_err(|_| DescriptorError::Malformed)?;
        if raw.format != 1 {
            return Err(DescriptorError::Format(raw.format));
        }
        if raw.slot_record != SLOT_RECORD_BYTES {
            return Err(DescriptorError::SlotRecord(raw.slot_record));
        }
        let name = |text: &str, what| text.parse().map_err(|_| DescriptorError::Name(what));
        let descriptor = Self {
            board: name(raw.board, "board")?,
            product: name(raw.product, "product")?,
            store: store(&raw.store)?,
        };
        descriptor.check(oem_config)?;
        Ok(descriptor)
    }

    /// The record's bytes, for an OEM-CONFIG of `oem_config` bytes. Does not touch the disk.
    ///
    /// # Errors
    /// The store does not lie within OEM-CONFIG.
    pub fn encode(&self, oem_config: u64) -> Result<[u8; DESCRIPTOR_BYTES], DescriptorError> {
        self.check(oem_config)?;
        let mut text = String::<DESCRIPTOR_BYTES>::new();
        writeln!(text, "{self}").map_err(|_| DescriptorError::Malformed)?;
        let mut record = [0; DESCRIPTOR_BYTES];
        for (place, byte) in record.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Ok(record)
    }

    fn check(&self, oem_config: u64) -> Result<(), DescriptorError> {
        let (offset, size) = match self.store {
            Store::Gpt => return Ok(()),
            Store::GrubBlock { offset, size } | Store::UbootEnv { offset, size } => (offset, size),
            Store::UbootEnvRedundant {
                offset,
                offset2,
                size,
            } => return check_copies([offset, offset2], size),
        };
        check_size(size, MAX_ENV_BYTES)?;
        // The last MiB holds our records; only the U-Boot sector has its place there. A store that lay on a record, or
        // with it on one sector of any size, would be written over it.
        let records =
            [DESCRIPTOR_FROM_END, CONFIRMED_FROM_END].map(|d| oem_config.saturating_sub(d));
        let end = offset.checked_add(size).filter(|&end| end <= oem_config);
        let clear = |record: &u64| {
            end.is_some_and(|end| end <= *record) || offset >= record.saturating_add(4096)
        };
        if end.is_none() || offset % 512 != 0 || !records.iter().all(clear) {
            return Err(DescriptorError::StoreOffset { offset, oem_config });
        }
        Ok(())
    }
}

fn check_size(size: u64, most: usize) -> Result<(), DescriptorError> {
    match size == 0 || size > most as u64 || !size.is_multiple_of(512) {
        true => Err(DescriptorError::StoreSize { size, most }),
        false => Ok(()),
    }
}

fn check_copies(offsets: [u64; 2], size: u64) -> Result<(), DescriptorError> {
    check_size(size, MAX_OWN_ENV_BYTES)?;
    let [first, second] = offsets;
    for offset in offsets {
        if !offset.is_multiple_of(512) || offset.checked_add(size).is_none() {
            return Err(DescriptorError::CopyOffset { offset });
        }
    }
    match first.abs_diff(second) < size {
        true => Err(DescriptorError::CopyOffset { offset: second }),
        false => Ok(()),
    }
}

impl Store {
    /// Whether the copies of U-Boot's own environment lie where nothing else does: behind the partition table, which ends
    /// at byte `from` of the disk, and before the first partition, which starts at byte `to`. Other stores lie in
    /// OEM-CONFIG.
    ///
    /// # Errors
    /// The copy that lies elsewhere.
    pub fn check_place(&self, from: u64, to: u64) -> Result<(), DescriptorError> {
        let Self::UbootEnvRedundant {
            offset,
            offset2,
            size,
        } = *self
        else {
            return Ok(());
        };
        check_copies([offset, offset2], size)?;
        for offset in [offset, offset2] {
            let end = offset.checked_add(size);
            if offset < from || end.is_none_or(|end| end > to) {
                return Err(DescriptorError::CopyPlace {
                    offset,
                    size,
                    from,
                    to,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Descriptor {
    /// The JSON object, on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (board, product, kind) = (&self.board, &self.product, self.store.kind());
        write!(
            f,
            r#"{{"format":1,"board":"{board}","product":"{product}","slot_record":{SLOT_RECORD_BYTES},"store":{{"kind":"{kind}""#
        )?;
        match self.store {
            Store::Gpt => {}
            Store::GrubBlock { offset, size } | Store::UbootEnv { offset, size } => {
                write!(f, r#","offset":{offset},"size":{size}"#)?;
            }
            Store::UbootEnvRedundant {
                offset,
                offset2,
                size,
            } => write!(f, r#","offset":{offset},"offset2":{offset2},"size":{size}"#)?,
        }
        f.write_str("}}")
    }
}

fn store(raw: &RawStore<'_>) -> Result<Store, DescriptorError> {
    let place = || raw.offset.zip(raw.size).ok_or(DescriptorError::Malformed);
    match raw.kind {
        "gpt" => Ok(Store::Gpt),
        "grub-block" => place().map(|(offset, size)| Store::GrubBlock { offset, size }),
        "uboot-env" => place().map(|(offset, size)| Store::UbootEnv { offset, size }),
        "uboot-env-redundant" => {
            let (offset, size) = place()?;
            Ok(Store::UbootEnvRedundant {
                offset,
                offset2: raw.offset2.ok_or(DescriptorError::Malformed)?,
                size,
            })
        }
        _ => Err(DescriptorError::StoreKind),
    }
}

#[cfg(test)]
mod tests;
