//! Whether the device reboots into a staged release by itself, and when.
//!
//! Pure: whoever drives it says what is the case ([`Situation`]) at least once a minute and does what it answers. All
//! that is decided now is taken from what is the case now, so that neither a clock that somebody sets nor a window that
//! closes meanwhile lets a reboot happen at the wrong time; only how long people have been warned is remembered, by a
//! clock that nobody sets.

use core::time::Duration;

use crate::reboot_window::{HalfAWindow, Window, Zone};
use crate::schedule::Moment;
use crate::settings::{RebootStrategy, Settings};

/// How long those who are logged in are warned before.
pub const WARNING: Duration = Duration::from_secs(600);
/// They are told again when so much of it is left.
const AGAIN: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(60)];
/// How long a system may take to stop, which has to fit into the window too: what [`crate::health::reboot`] grants
/// systemd and the writing back, together.
const STOPPING: Duration = Duration::from_secs(130);
/// Whoever waits looks again after this time at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long a reboot that could not be begun is left alone.
const FAILED: Duration = Duration::from_secs(1800);

/// Who is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum People {
    Nobody,
    /// Somebody, or it can't be told.
    Somebody,
}

/// What is the case now.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// A release is staged and nothing is under way.
    pub staged: bool,
    pub settings: &'a Settings,
    /// The time, in seconds since 1970 by the clock that people set.
    pub unix: i64,
    /// No earlier than this can it be: when something that this device has seen was made, by its maker's clock.
    pub not_before: i64,
    /// `None`: unknown.
    pub zone: Option<&'a dyn Zone>,
    pub people: People,
    pub now: Moment,
}

/// Why the device does not reboot now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    #[error("nothing is staged")]
    NothingStaged,
    #[error("a value in update.conf can't be used")]
    BadSettings,
    #[error("somebody has to do it (REBOOT_STRATEGY=off)")]
    Off,
    #[error("the time zone can't be read (/etc/localtime)")]
    NoZone,
    #[error("the clock is not set")]
    NoClock,
    #[error("the window does not open in the coming years")]
    NeverOpen,
    #[error("it is outside of the window (LOCKSMITHD_REBOOT_WINDOW_START)")]
    Closed,
    #[error("those who are logged in were warned")]
    Warned,
    #[error("the last attempt failed")]
    Failed,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, and the settings or the state have to change first. Look again after `sleep` all the same.
    Wait { why: Why, sleep: Duration },
    /// Tell everybody that the device reboots in so much time.
    Warn { left: Duration },
    /// Reboot now.
    Reboot,
}

/// Decides, and remembers who was warned when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebootPolicy {
    warned: Option<Warned>,
    failed: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Warned {
    /// Since when people know.
    at: Moment,
    /// Which of [`AGAIN`] they were told.
    again: usize,
}

impl core::fmt::Debug for Situation<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Situation")
            .field("staged", &self.staged)
            .field("unix", &self.unix)
            .field("people", &self.people)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl RebootPolicy {
    /// What to do at this moment.
    pub fn step(&mut self, situation: &Situation<'_>) -> Step {
        let opens = match self.opens(situation) {
            Ok(opens) => opens,
            Err(why) => {
                // Whatever was announced does not happen.
                self.warned = None;
                return wait(why, LOOK_AGAIN);
            }
        };
        let patient = situation.settings.reboot_strategy == RebootStrategy::BestEffort
            && situation.people == People::Somebody;
        if patient {
            return self.warn(situation, opens);
        }
        self.warned = None;
        let (unix, now) = (situation.unix, situation.now);
        match opens(unix) {
            Some(time) if time <= unix && self.has_failed(now) => wait(Why::Failed, LOOK_AGAIN),
            Some(time) if time <= unix => Step::Reboot,
            Some(time) => wait(Why::Closed, until(unix, time)),
            None => wait(Why::NeverOpen, LOOK_AGAIN),
        }
    }

    /// A reboot could not be begun.
    pub const fn failed(&mut self, now: Moment) {
        self.failed = Some(now);
        self.warned = None;
    }

    fn has_failed(&self, now: Moment) -> bool {
        self.failed.is_some_and(|at| now.since(at) < FAILED)
    }

    /// Whether and, by a function, from which time on the device may reboot: the first such time from another one on.
    fn opens<'a>(
        &mut self,
        situation: &Situation<'a>,
    ) -> Result<impl Fn(i64) -> Option<i64> + use<'a>, Why> {
        let settings = situation.settings;
        if !situation.staged {
            self.failed = None;
            return Err(Why::NothingStaged);
        }
        if !settings.may_act_alone() {
            return Err(Why::BadSettings);
        }
        if settings.reboot_strategy == RebootStrategy::Off {
            return Err(Why::Off);
        }
        let window = Window::of(settings).map_err(|HalfAWindow| Why::BadSettings)?;
        let window = match (window, situation.zone) {
            (None, _) => None,
            (Some(_), None) => return Err(Why::NoZone),
            (Some(_), Some(_)) if situation.unix < situation.not_before => {
                return Err(Why::NoClock);
            }
            (Some(window), Some(zone)) => Some((window, zone)),
        };
        let stopping = i64::try_from(STOPPING.as_secs()).unwrap_or(i64::MAX);
        Ok(move |from| match window {
            Some((window, zone)) => window.next(from, stopping, zone),
            None => Some(from),
        })
    }

    /// Warns those who are logged in, so that the warning ends inside the window, and reboots after it.
    fn warn(&mut self, situation: &Situation<'_>, opens: impl Fn(i64) -> Option<i64>) -> Step {
        let (unix, now) = (situation.unix, situation.now);
        if self.has_failed(now) {
            return wait(Why::Failed, LOOK_AGAIN);
        }
        let passed = self.warned.map_or(Duration::ZERO, |w| now.since(w.at));
        let rest = WARNING.saturating_sub(passed);
        // When the rest of the warning is over and the window open.
        let Some(time) = opens(unix.saturating_add(seconds(rest))) else {
            self.warned = None;
            return wait(Why::NeverOpen, LOOK_AGAIN);
        };
        let left = until(unix, time);
        let Some(warned) = &mut self.warned else {
            // One look later it would be too late for the whole warning.
            if left > WARNING.saturating_add(LOOK_AGAIN) {
                return wait(Why::Closed, left.saturating_sub(WARNING));
            }
            self.warned = Some(Warned { at: now, again: 0 });
            return Step::Warn { left };
        };
        if left.is_zero() {
            return Step::Reboot;
        }
        if left > WARNING.saturating_add(LOOK_AGAIN) {
            // The clock or the settings have changed: they will be told anew.
            self.warned = None;
            return wait(Why::Closed, left.saturating_sub(WARNING));
        }
        let due = AGAIN.iter().filter(|mark| left <= **mark).count();
        if due > warned.again {
            warned.again = due;
            return Step::Warn { left };
        }
        let mark = AGAIN.get(due).copied().unwrap_or_default();
        wait(Why::Warned, left.saturating_sub(mark))
    }
}

fn wait(why: Why, sleep: Duration) -> Step {
    let sleep = sleep.clamp(Duration::from_secs(1), LOOK_AGAIN);
    Step::Wait { why, sleep }
}

fn until(unix: i64, time: i64) -> Duration {
    Duration::from_secs(u64::try_from(time.saturating_sub(unix)).unwrap_or(0))
}

/// Whole seconds, none of them lost.
fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
