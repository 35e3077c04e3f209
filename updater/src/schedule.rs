//! When the device looks for updates by itself.
//!
//! Pure: time and randomness come from outside. Time is that of a clock which counts since the machine was started,
//! never the one that people set ([`Moment`]), so that setting it causes neither a rush of checks nor a long silence. Even
//! so a moment that lies before one that was seen already (a service that was restored together with its memory, say)
//! only begins the waiting anew.

use core::time::Duration;

use crate::settings::Settings;

#[cfg(feature = "std")]
mod clock;
#[cfg(feature = "std")]
pub use clock::{now, random};

/// The first check comes so long after the start, at random: long enough that a service which fails at once and is
/// started over and over asks nobody anything.
const FIRST: (Duration, Duration) = (Duration::from_secs(2 * 60), Duration::from_secs(12 * 60));
/// Longest pause after failures, as long as `POLL_INTERVAL` is not longer itself.
const PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);
/// Longest pause that a server can ask for.
const ASKED_MAX: Duration = Duration::from_secs(24 * 3600);
/// Checks come up to this part of the interval earlier or later.
const JITTER_PART: u32 = 8;
/// How long whoever waits for something else than time sleeps until it asks again.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Time since the machine was started, including the time that it slept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// Time since `earlier`; zero when that lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// So much later.
    #[must_use]
    pub const fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// Why the device does not look for updates by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Hold {
    #[error("polling is off (SERVER and PAYLOAD_DIR in update.conf)")]
    Off,
    #[error("a value in update.conf can't be used")]
    BadSettings,
    #[error("the running slot is on trial")]
    OnTrial,
    #[error("another operation is under way")]
    Busy,
    #[error("a release is staged and waits for the reboot")]
    Staged,
}

impl Hold {
    /// What keeps a device with these settings and in this state from looking, if anything does.
    #[must_use]
    pub fn of(settings: &Settings, state: &Facts) -> Option<Self> {
        match () {
            () if !settings.may_act_alone() => Some(Self::BadSettings),
            () if !settings.has_source() => Some(Self::Off),
            () if !state.confirmed => Some(Self::OnTrial),
            () if state.busy => Some(Self::Busy),
            () if state.staged => Some(Self::Staged),
            () => None,
        }
    }
}

/// What the device is doing, as far as polling asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The running slot is confirmed.
    pub confirmed: bool,
    /// A check or an installation is under way.
    pub busy: bool,
    /// A release waits for the reboot.
    pub staged: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look for an update, and tell [`Schedule::checked`] how it went.
    Check,
    /// Sleep so long and ask again.
    Sleep(Duration),
}

/// How a check ended, whoever asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was an answer, be it that there is nothing new.
    Answered,
    /// There was none, or one that can't be used.
    Failed {
        /// What the server asked for (`Retry-After`), as a time from now.
        retry_after: Option<Duration>,
    },
}

/// When the next check is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    planned: Moment,
    due: Moment,
    failures: u32,
}

impl Schedule {
    /// The schedule of a service that starts now. `random` gives any number, each as likely as any other.
    pub fn start(now: Moment, random: &mut dyn FnMut() -> u64) -> Self {
        Self {
            planned: now,
            due: now.after(between(FIRST, random)),
            failures: 0,
        }
    }

    /// What to do at this moment. Ask again after each change of `hold`, and at the latest when the sleep is over.
    pub fn next(&mut self, now: Moment, hold: Option<Hold>) -> Next {
        if now < self.planned {
            // As much is left as there was then.
            let left = self.due.since(self.planned);
            self.planned = now;
            self.due = now.after(left);
        }
        let left = self.due.since(now);
        match (hold, left.is_zero()) {
            (None, true) => Next::Check,
            (None, false) => Next::Sleep(left),
            (Some(_), _) => Next::Sleep(left.max(LOOK_AGAIN)),
        }
    }

    /// Plans the next check after one that has just ended.
    pub fn checked(
        &mut self,
        now: Moment,
        settings: &Settings,
        outcome: Outcome,
        random: &mut dyn FnMut() -> u64,
    ) {
        let interval = Duration::from_secs(settings.poll_interval.into());
        self.planned = now;
        let pause = match outcome {
            Outcome::Answered => {
                self.failures = 0;
                jittered(interval, random)
            }
            Outcome::Failed { retry_after } => {
                self.failures = self.failures.saturating_add(1);
                let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
                let pause = interval.saturating_mul(factor);
                let pause = jittered(pause.min(PAUSE_MAX.max(interval)), random);
                // A fleet that was sent away must not come back all at once either.
                let asked = retry_after.unwrap_or_default().min(ASKED_MAX);
                pause.max(
                    asked.saturating_add(between((Duration::ZERO, asked / JITTER_PART), random)),
                )
            }
        };
        self.due = now.after(pause);
    }

    /// Failed checks since the last one that was answered.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Time until the next check, if nothing holds it.
    #[must_use]
    pub const fn left(&self, now: Moment) -> Duration {
        self.due.since(now)
    }
}

/// A little more or less than `time`.
fn jittered(time: Duration, random: &mut dyn FnMut() -> u64) -> Duration {
    let part = time / JITTER_PART;
    between(
        (time.saturating_sub(part), time.saturating_add(part)),
        random,
    )
}

/// A time from the first to the second.
fn between((least, most): (Duration, Duration), random: &mut dyn FnMut() -> u64) -> Duration {
    let span = most.saturating_sub(least).as_millis();
    // No span that this module asks for has 2^64 milliseconds, so that none of the results is likelier by a hair.
    let span = u64::try_from(span).unwrap_or(u64::MAX);
    let extra = match span.checked_add(1) {
        Some(count) => random().checked_rem(count).unwrap_or(0),
        None => random(),
    };
    least.saturating_add(Duration::from_millis(extra))
}

#[cfg(test)]
mod tests;
