//! How often a payload was tried on this device, and how that ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::data::Release;
use super::reason::truncate;

/// Endings that are remembered for one payload; the number of attempts goes on.
const ENDINGS_MAX: usize = 8;
/// Payloads whose attempts are remembered; the one that was tried longest ago is forgotten first.
const PAYLOADS_MAX: usize = 32;
/// Longest detail of an ending, in bytes.
const DETAIL_MAX: usize = 256;
/// The wait after the first failure; every further one in a row doubles it. Eight are remembered, so that the longest is
/// a little more than two hours.
const FIRST_WAIT: Duration = Duration::from_secs(60);

/// How an attempt to install ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ended {
    /// The release was staged.
    Staged,
    /// Somebody cancelled it.
    Cancelled,
    /// The payload did not arrive, or not as it was signed.
    Transport,
    /// The medium or the slot store failed.
    Medium,
    /// What is signed does not add up to its own hashes.
    Payload,
    /// It has not ended yet, or nothing more is known: the process or the machine stopped. Also what an ending that a
    /// later version wrote is read as.
    #[serde(other)]
    Interrupted,
}

impl Ended {
    /// One word, as in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Cancelled => "cancelled",
            Self::Transport => "transport",
            Self::Medium => "medium",
            Self::Payload => "payload",
            Self::Interrupted => "interrupted",
        }
    }

    const fn failed(self) -> bool {
        !matches!(self, Self::Staged | Self::Cancelled)
    }
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub ended: Ended,
    /// When it was noted, in seconds since 1970 by the device's clock, which may be wrong.
    pub time: u64,
    /// At most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// The attempts to install one payload, counted across reboots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    #[serde(flatten)]
    pub release: Release,
    /// How many there were since it was first seen or last confirmed.
    pub attempts: u32,
    /// The last of their endings, oldest first.
    #[serde(default)]
    pub outcomes: Vec<Ending>,
}

impl Attempts {
    /// How many of the last attempts failed, one after the other.
    fn failures(&self) -> u32 {
        let failed = self.outcomes.iter().rev();
        let failed = failed.take_while(|ending| ending.ended.failed()).count();
        u32::try_from(failed).unwrap_or(u32::MAX)
    }

    /// How long to wait, at `now` in seconds since 1970, before the device tries this payload again of its own accord.
    /// Nobody who asks for it by hand has to wait.
    ///
    /// An interruption says nothing about the payload, so that the first one costs no time; several in a row do. A clock
    /// that stands before the last attempt knows nothing about the time since then, and nothing is waited for.
    #[must_use]
    pub fn wait(&self, now: u64) -> Duration {
        let Some(last) = self.outcomes.last() else {
            return Duration::ZERO;
        };
        let failures = match last.ended {
            Ended::Interrupted => self.failures().saturating_sub(1),
            _ => self.failures(),
        };
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings));
        let since = now.checked_sub(last.time).map(Duration::from_secs);
        since.map_or(Duration::ZERO, |since| wait.saturating_sub(since))
    }
}

/// Begins an attempt. Until it ends it counts as interrupted, which it is if nothing more is heard of it.
pub(super) fn begin(all: &mut Vec<Attempts>, release: Release, time: u64) {
    let known = all.iter().position(|a| a.release.id == release.id);
    let mut attempts = match known {
        Some(at) => all.remove(at),
        None => Attempts {
            release,
            attempts: 0,
            outcomes: Vec::new(),
        },
    };
    attempts.attempts = attempts.attempts.saturating_add(1);
    while attempts.outcomes.len() >= ENDINGS_MAX {
        attempts.outcomes.remove(0);
    }
    attempts.outcomes.push(Ending {
        ended: Ended::Interrupted,
        time,
        detail: String::new(),
    });
    while all.len() >= PAYLOADS_MAX {
        all.remove(0);
    }
    all.push(attempts);
}

/// Ends the last attempt of a payload.
pub(super) fn end(all: &mut [Attempts], id: &[u8; 32], ended: Ended, time: u64, detail: &str) {
    let known = all.iter_mut().find(|a| a.release.id == *id);
    let Some(ending) = known.and_then(|attempts| attempts.outcomes.last_mut()) else {
        return;
    };
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut detail: String = detail.chars().map(printable).collect();
    truncate(&mut detail, DETAIL_MAX);
    *ending = Ending {
        ended,
        time,
        detail,
    };
}
