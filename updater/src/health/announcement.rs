//! The built-in check: the running slot is the release that the manifest in its slot record announced, and accepts
//! that manifest with its own keys.

use std::num::NonZeroU8;

use bootctl::exit::Exit;
use bootctl::slot_record::SlotRecordHeader;

use super::os_release::{OsRelease, OsReleaseError};
use crate::Digest;
use crate::keys::KeysError;
use crate::manifest::Manifest;
use crate::signature::{KeySet, VerifyError, verify};

/// Why the slot is not what was announced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnouncementError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("verify the manifest that staged this slot: {0}")]
    Verify(#[from] VerifyError),
    #[error("the slot record names payload {recorded}, its manifest is {found}")]
    Id { recorded: Digest, found: Digest },
    #[error("the slot record's {0} is not that of its manifest")]
    Header(&'static str),
    #[error(transparent)]
    OsRelease(#[from] OsReleaseError),
    #[error("usr/lib/os-release has no {0}")]
    Missing(&'static str),
    #[error("usr/lib/os-release says {key}={found}, announced was {announced}")]
    Differs {
        key: &'static str,
        found: String,
        announced: String,
    },
    #[error("the release is not for this board, {board}")]
    Board { board: String },
}

impl AnnouncementError {
    /// 7 where verification failed, 6 where the release is another one than announced.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Keys(_) | Self::Verify(_) | Self::Id { .. } | Self::Header(_) => {
                Exit::Verification
            }
            _ => Exit::Refused,
        }
    }
}

/// Accepts the manifest at the start of a slot record's body and holds header and board to it. Pure.
///
/// # Errors
/// Too few signatures by `keys`, or a header or board that does not fit.
pub fn check_manifest(
    header: &SlotRecordHeader,
    body: &[u8],
    keys: &KeySet,
    required: NonZeroU8,
    board: &str,
) -> Result<(), AnnouncementError> {
    let manifest = verify(body, keys, required)?;
    let recorded = Digest(header.payload_id);
    if manifest.id() != recorded {
        return Err(AnnouncementError::Id {
            recorded,
            found: manifest.id(),
        });
    }
    check_header(header, &manifest)?;
    if manifest.boards.iter().all(|b| *b != *board) {
        return Err(AnnouncementError::Board {
            board: board.to_owned(),
        });
    }
    Ok(())
}

fn check_header(header: &SlotRecordHeader, manifest: &Manifest) -> Result<(), AnnouncementError> {
    let usr = manifest.artifact("usr");
    let same = [
        ("product", manifest.product == *header.product.as_str()),
        ("version", manifest.version == *header.version.as_str()),
        (
            "rollback index",
            manifest.rollback_index == header.rollback_index,
        ),
        (
            "content",
            usr.is_some_and(|a| a.content == Digest(header.content) && a.size == header.image_size),
        ),
    ];
    match same.iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(AnnouncementError::Header(what)),
        None => Ok(()),
    }
}

/// Holds what the slot says about itself to what was announced. Pure.
///
/// # Errors
/// A line is missing or differs.
pub fn check_os_release(
    header: &SlotRecordHeader,
    os: &OsRelease,
) -> Result<(), AnnouncementError> {
    let index = header.rollback_index.to_string();
    for (key, found, announced) in [
        ("IMAGE_ID", &os.product, header.product.as_str()),
        ("IMAGE_VERSION", &os.version, header.version.as_str()),
        ("TANDEM_ROLLBACK_INDEX", &os.rollback_index, index.as_str()),
    ] {
        let found = found.as_ref().ok_or(AnnouncementError::Missing(key))?;
        if found != announced {
            return Err(AnnouncementError::Differs {
                key,
                found: found.clone(),
                announced: announced.to_owned(),
            });
        }
    }
    Ok(())
}
