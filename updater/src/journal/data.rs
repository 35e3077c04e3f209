//! What the journal holds and how events change it; no files here.

use bootctl::Slot;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attempts::{self, Attempts, Ended};
use super::reason::{Cause, Reason, truncate};
use super::seen::Seen;

/// The `format` that this version writes and reads.
pub(super) const FORMAT: u32 = 1;
/// Most failed releases that are remembered; the oldest is forgotten first.
const FAILED_MAX: usize = 64;
/// Fallbacks without an explanation after which a release is refused.
const UNEXPLAINED_MAX: u32 = 2;
/// Longest last result, in bytes.
const RESULT_MAX: usize = 512;

/// A release, as its signed manifest or its slot record names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Payload id: BLAKE3 of the manifest bytes. Hexadecimal in the journal.
    #[serde(serialize_with = "write_id", deserialize_with = "read_id")]
    pub id: [u8; 32],
    pub version: String,
    pub rollback_index: u64,
}

/// The release that was written to a slot and has not proven itself yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    #[serde(flatten)]
    pub release: Release,
    #[serde(serialize_with = "write_slot", deserialize_with = "read_slot")]
    pub slot: Slot,
    /// When it was staged, in seconds since 1970 by the device's clock, which may be wrong.
    pub time: u64,
    /// The kernel's id of the boot in which it was staged; empty where that is not known.
    #[serde(default)]
    pub staged_in: String,
    /// Boots of it in which health was reached.
    #[serde(default)]
    pub boots: u32,
    /// The kernel's id of the boot counted last, so that none is counted twice.
    #[serde(default)]
    pub boot_id: String,
    /// What health found wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Reason>,
}

/// A release that fell back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    #[serde(flatten)]
    pub release: Release,
    pub reason: Reason,
    /// Times that it fell back without an explanation.
    #[serde(default)]
    pub unexplained: u32,
    /// When it was seen last, in seconds since 1970.
    pub time: u64,
}

impl Failed {
    /// It is not installed again unless forced.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.reason.cause.own_fault() || self.unexplained >= UNEXPLAINED_MAX
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    pub format: u32,
    /// Lowest rollback index that may be installed.
    #[serde(default)]
    pub floor: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<Staged>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failed>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempts>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_result: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_signed: Option<Seen>,
    /// What somebody took back or went back from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<Release>,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            format: FORMAT,
            floor: 0,
            staged: None,
            failed: Vec::new(),
            attempts: Vec::new(),
            last_result: String::new(),
            newest_signed: None,
            left: None,
        }
    }
}

impl Data {
    pub fn failed(&self, id: &[u8; 32]) -> Option<&Failed> {
        self.failed.iter().find(|f| f.release.id == *id)
    }

    pub fn stage(&mut self, release: Release, slot: Slot, time: u64) {
        self.set_result(&format!("staged {} in slot {slot}", release.version));
        attempts::end(&mut self.attempts, &release.id, Ended::Staged, time, "");
        self.staged = Some(Staged {
            release,
            slot,
            time,
            staged_in: String::new(),
            boots: 0,
            boot_id: String::new(),
            failure: None,
        });
    }

    pub fn boot(&mut self, release: Release, slot: Slot, boot_id: &str, time: u64) {
        let known = self
            .staged
            .as_ref()
            .is_some_and(|s| s.release.id == release.id && s.slot == slot);
        if !known {
            self.stage(release, slot, time);
        }
        if let Some(staged) = &mut self.staged
            && (boot_id.is_empty() || staged.boot_id != boot_id)
        {
            staged.boots = staged.boots.saturating_add(1);
            boot_id.clone_into(&mut staged.boot_id);
        }
    }

    pub fn fail_check(&mut self, reason: Reason) {
        let Some(staged) = &mut self.staged else {
            self.set_result(&format!("health check failed: {reason}"));
            return;
        };
        let version = staged.release.version.clone();
        self.set_result(&format!("{version} failed its health check: {reason}"));
        if let Some(staged) = &mut self.staged {
            staged.failure = Some(reason);
        }
    }

    pub fn confirm(&mut self, release: &Release) {
        self.floor = self.floor.max(release.rollback_index);
        self.failed.retain(|f| f.release.id != release.id);
        self.attempts.retain(|a| a.release.id != release.id);
        self.take_up(&release.id);
        self.unstage(&release.id);
        self.set_result(&format!("confirmed {}", release.version));
    }

    pub fn fall_back(&mut self, release: Release, reason: Reason, time: u64) {
        self.set_result(&format!("fell back from {}: {reason}", release.version));
        self.unstage(&release.id);
        if !reason.cause.own_fault() {
            // The next attempt waits, and the one after that longer.
            attempts::end(
                &mut self.attempts,
                &release.id,
                Ended::Medium,
                time,
                &reason.to_string(),
            );
        }
        let unexplained = u32::from(reason.cause == Cause::Unexplained);
        let position = self.failed.iter().position(|f| f.release.id == release.id);
        let before = position.map(|at| self.failed.remove(at));
        let counted = before.as_ref().map_or(0, |f| f.unexplained);
        // A release that was found guilty stays so, however its next attempt ends.
        let reason = match before {
            Some(f) if f.reason.cause.own_fault() && !reason.cause.own_fault() => f.reason,
            _ => reason,
        };
        if self.failed.len() >= FAILED_MAX {
            self.failed.remove(0);
        }
        self.failed.push(Failed {
            release,
            reason,
            unexplained: counted.saturating_add(unexplained),
            time,
        });
    }

    /// Somebody wants it after all.
    pub fn take_up(&mut self, id: &[u8; 32]) {
        if self.left.as_ref().is_some_and(|left| left.id == *id) {
            self.left = None;
        }
    }

    pub fn see(&mut self, seen: Seen) {
        let newest = &mut self.newest_signed;
        if newest.as_ref().is_none_or(|old| seen.is_newer_than(old)) {
            *newest = Some(seen);
        }
    }

    pub fn unstage(&mut self, id: &[u8; 32]) {
        if self.staged.as_ref().is_some_and(|s| s.release.id == *id) {
            self.staged = None;
        }
    }

    /// Keeps one line of printable text without quotes and backslashes, so that a reader which does not unescape
    /// JSON shows it as it is.
    pub fn set_result(&mut self, text: &str) {
        self.last_result = text
            .chars()
            .map(|c| match c {
                '"' => '\'',
                '\\' => '/',
                c if c.is_control() => ' ',
                c => c,
            })
            .collect();
        truncate(&mut self.last_result, RESULT_MAX);
    }
}

fn write_id<S: Serializer>(id: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&blake3::Hash::from_bytes(*id).to_hex())
}

fn read_id<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(from)?;
    let hash = blake3::Hash::from_hex(&text).map_err(serde::de::Error::custom)?;
    Ok(*hash.as_bytes())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn write_slot<S: Serializer>(slot: &Slot, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(slot.as_str())
}

fn read_slot<'de, D: Deserializer<'de>>(from: D) -> Result<Slot, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}
