//! The rules by which a device accepts a verified release, and the reasons that override one of them by name.

use core::cmp::Ordering;
use core::fmt;
use core::str::FromStr;

use bootctl::exit::Exit;

use crate::manifest::{Artifact, Manifest};
use crate::signature::Verified;
use crate::{Digest, Name, version};

/// A rule that can be overridden by name (`--force=REASON`). Nothing overrides the active slot, a size or a failed
/// verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An older version, a lower rollback index, or a running version below the payload's `min_version`.
    Downgrade,
    /// A release that fell back before.
    RolledBack,
    /// The active slot is not confirmed.
    OnTrial,
    /// The payload is for other boards.
    Board,
    /// The running version again, or the payload that is staged already.
    Same,
}

impl Reason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 5] = [
        Self::Downgrade,
        Self::RolledBack,
        Self::OnTrial,
        Self::Board,
        Self::Same,
    ];

    /// As on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Downgrade => "downgrade",
            Self::RolledBack => "rolled-back",
            Self::OnTrial => "on-trial",
            Self::Board => "board",
            Self::Same => "same",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one of downgrade, rolled-back, on-trial, board, same")]
pub struct NotAReason;

impl FromStr for Reason {
    type Err = NotAReason;

    fn from_str(text: &str) -> Result<Self, NotAReason> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(NotAReason)
    }
}

/// What the device is and has, as far as a rule asks.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    pub product: &'a str,
    pub board: &'a str,
    /// Empty when the device belongs to none.
    pub group: &'a str,
    /// The artifacts that make up a slot of its board.
    pub artifacts: &'a [&'a str],
    /// The `requires` that this program fulfils.
    pub features: &'a [&'a str],
    /// Version in the active slot; `None` when its record can't be read.
    pub version: Option<&'a str>,
    /// Lowest rollback index that may be installed.
    pub floor: u64,
    /// Largest image that the passive slot takes, in bytes.
    pub capacity: u64,
    pub active_confirmed: bool,
    /// Why this very payload fell back, if it did so by its own fault or too often.
    pub failure: Option<&'a str>,
    /// Payload that is activated in the passive slot and waits for the reboot.
    pub staged: Option<Digest>,
}

/// Why a release is not installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    #[error("payload is for product `{0}`, not this device's (--product)")]
    Product(Name),
    #[error("payload is for board {0}, not this device's (--board, or --force=board)")]
    Board(Boards),
    #[error("payload is for group `{0}`, not this device's (GROUP in update.conf)")]
    Group(Name),
    #[error("payload requires `{0}`, which this program does not know; update it first")]
    Requires(Name),
    #[error("payload has artifact `{0}`, which this board does not")]
    ForeignArtifact(Name),
    #[error("payload lacks artifact `{0}`, which this board needs")]
    MissingArtifact(Name),
    #[error(
        "image has {size} bytes, slot takes {capacity} (its partition less 4194304 bytes for the slot record)"
    )]
    Size { size: u64, capacity: u64 },
    #[error("payload's version {0} runs already (--force=same)")]
    NoUpdate(Name),
    #[error("payload's version {0} is older than the running one (--force=downgrade)")]
    Older(Name),
    #[error(
        "version in the active slot is unknown, so payload's {0} may be older (--force=downgrade)"
    )]
    UnknownVersion(Name),
    #[error("payload's rollback index {index} is below the floor {floor} (--force=downgrade)")]
    RollbackIndex { index: u64, floor: u64 },
    #[error("payload needs at least version {0} to be running (--force=downgrade)")]
    MinVersion(Name),
    #[error("active slot is on trial; wait until it is confirmed (--force=on-trial)")]
    OnTrial,
    #[error("this release fell back before (--force=rolled-back)")]
    RolledBack,
    #[error("this very payload is already staged; reboot into it (--force=same)")]
    AlreadyStaged,
}

impl Refusal {
    /// The exit code that goes with it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::NoUpdate(_) => Exit::NoUpdate,
            Self::AlreadyStaged => Exit::AlreadyStaged,
            _ => Exit::Refused,
        }
    }
}

/// The first board of a payload and how many more there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boards {
    first: Name,
    more: usize,
}

impl fmt::Display for Boards {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.first)?;
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A release that is vouched for and that this device takes. Only [`admit`] makes one.
#[derive(Clone, Debug)]
pub struct Admitted {
    manifest: Verified<Manifest>,
    artifact: Artifact,
}

impl Admitted {
    /// The release's manifest.
    #[must_use]
    pub fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    /// The image that goes to the slot.
    #[must_use]
    pub fn artifact(&self) -> &Artifact {
        &self.artifact
    }
}

/// Holds a release to the rules, one after the other. Pure.
///
/// # Errors
/// The first rule that refuses it and is not overridden by `force`.
pub fn admit(
    manifest: Verified<Manifest>,
    device: &Device<'_>,
    force: &[Reason],
) -> Result<Admitted, Refusal> {
    let forced = |reason| force.contains(&reason);
    fits_device(&manifest, device, forced(Reason::Board))?;
    let artifact = fits_slot(&manifest, device)?;
    if !(forced(Reason::Downgrade) && forced(Reason::Same)) {
        is_newer(&manifest, device, &forced)?;
    }
    if !forced(Reason::Downgrade) {
        let (index, floor) = (manifest.rollback_index, device.floor);
        if index < floor {
            return Err(Refusal::RollbackIndex { index, floor });
        }
        let too_old = |min: &&Name| {
            let running = device.version;
            running.is_none_or(|running| version::compare(running, min).is_lt())
        };
        if let Some(min) = manifest.min_version.as_ref().filter(too_old) {
            return Err(Refusal::MinVersion(min.clone()));
        }
    }
    if !device.active_confirmed && !forced(Reason::OnTrial) {
        return Err(Refusal::OnTrial);
    }
    if device.failure.is_some() && !forced(Reason::RolledBack) {
        return Err(Refusal::RolledBack);
    }
    if device.staged == Some(manifest.id()) && !forced(Reason::Same) {
        return Err(Refusal::AlreadyStaged);
    }
    Ok(Admitted { artifact, manifest })
}

fn fits_device(manifest: &Manifest, device: &Device<'_>, any_board: bool) -> Result<(), Refusal> {
    if manifest.product != *device.product {
        return Err(Refusal::Product(manifest.product.clone()));
    }
    let has_board = manifest.boards.iter().any(|board| *board == *device.board);
    if let (false, false, Some(first)) = (has_board, any_board, manifest.boards.first()) {
        return Err(Refusal::Board(Boards {
            first: first.clone(),
            more: manifest.boards.len().saturating_sub(1),
        }));
    }
    if let Some(group) = manifest.group.as_ref().filter(|g| **g != *device.group) {
        return Err(Refusal::Group(group.clone()));
    }
    let known = |name: &&Name| !device.features.contains(&name.as_str());
    if let Some(unknown) = manifest.requires.iter().find(known) {
        return Err(Refusal::Requires(unknown.clone()));
    }
    Ok(())
}

fn fits_slot(manifest: &Manifest, device: &Device<'_>) -> Result<Artifact, Refusal> {
    let foreign = |a: &&Artifact| !device.artifacts.contains(&a.name.as_str());
    if let Some(artifact) = manifest.artifacts.iter().find(foreign) {
        return Err(Refusal::ForeignArtifact(artifact.name.clone()));
    }
    let missing = |name: &&&str| manifest.artifact(name).is_none();
    if let Some(name) = device.artifacts.iter().find(missing) {
        return Err(Refusal::MissingArtifact(name.parse().unwrap_or_default()));
    }
    // A slot is one partition in this format; a board with more artifacts needs an installer that knows them.
    let [artifact] = manifest.artifacts.as_slice() else {
        let extra = manifest.artifacts.last().map(|a| a.name.clone());
        return Err(Refusal::ForeignArtifact(extra.unwrap_or_default()));
    };
    let (size, capacity) = (artifact.size, device.capacity);
    if size > capacity {
        return Err(Refusal::Size { size, capacity });
    }
    Ok(artifact.clone())
}

fn is_newer(
    manifest: &Manifest,
    device: &Device<'_>,
    forced: &impl Fn(Reason) -> bool,
) -> Result<(), Refusal> {
    let new = || manifest.version.clone();
    let Some(running) = device.version else {
        return match forced(Reason::Downgrade) {
            true => Ok(()),
            false => Err(Refusal::UnknownVersion(new())),
        };
    };
    match version::compare(&manifest.version, running) {
        Ordering::Less if !forced(Reason::Downgrade) => Err(Refusal::Older(new())),
        Ordering::Equal if !forced(Reason::Same) => Err(Refusal::NoUpdate(new())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
