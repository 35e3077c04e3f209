//! When the device may reboot by itself: a window in local time, in locksmith's words.
//!
//! What counts is what a clock on the wall shows. `Thu 04:00` with a length of `1h` means: on a Thursday, while that
//! clock shows 04:00 to 04:59. Where the clocks go forward over a part of the window, the window is shorter on that day
//! or missing; where they go back into it, it opens twice. So no change of the clocks makes a device reboot while people
//! read another time than they wrote into its settings.
//!
//! Pure: the time and the zone come from outside.

use crate::settings::{Settings, Weekday, WindowStart};

#[cfg(feature = "std")]
mod zone;
#[cfg(feature = "std")]
pub use zone::{LocalZone, ZoneError};

const DAY: i64 = 86_400;
const WEEK: i64 = 7 * DAY;
/// 1970-01-01 was a Thursday; weeks are counted from a Monday.
const EPOCH_IN_WEEK: i64 = 3 * DAY;
/// More changes of the clocks than any zone has in the years that are looked at.
const CHANGES_MAX: usize = 64;

/// A time zone. Times are seconds since 1970 in UTC.
pub trait Zone {
    /// Seconds by which local time is ahead of UTC then; `None` where that is unknown.
    fn offset(&self, unix: i64) -> Option<i64>;

    /// When it changes next after that.
    fn next_change(&self, unix: i64) -> Option<i64>;
}

/// A window that opens every day or once a week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Seconds after the begin of its period, which is a day or a week from Monday on.
    start: i64,
    period: i64,
    length: i64,
}

/// One of the two keys that make a window is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "LOCKSMITHD_REBOOT_WINDOW_START and LOCKSMITHD_REBOOT_WINDOW_LENGTH in update.conf make a window only together"
)]
pub struct HalfAWindow;

impl Window {
    /// A window of `length` seconds.
    #[must_use]
    pub fn new(start: WindowStart, length: u32) -> Self {
        let day = start.day.map_or(0, |day| DAY.saturating_mul(index(day)));
        Self {
            start: day.saturating_add(i64::from(start.minute).saturating_mul(60)),
            period: if start.day.is_some() { WEEK } else { DAY },
            length: length.into(),
        }
    }

    /// The window that the settings ask for; `None`: at any time.
    ///
    /// # Errors
    /// They ask for half of one.
    pub fn of(settings: &Settings) -> Result<Option<Self>, HalfAWindow> {
        match (settings.window_start, settings.window_length) {
            (None, None) => Ok(None),
            (Some(start), Some(length)) => Ok(Some(Self::new(start, length))),
            _ => Err(HalfAWindow),
        }
    }

    /// Whether it is open at that time. Closed where the local time is unknown.
    #[must_use]
    pub fn is_open(&self, unix: i64, zone: &dyn Zone) -> bool {
        let position = |offset| self.position(unix, offset);
        zone.offset(unix).is_some_and(|o| position(o) < self.length)
    }

    /// The first time from `unix` on at which it is open and stays so for `margin` seconds, or for half of its length
    /// where that is less; `None` when there is none in the coming years, or the local time is unknown.
    #[must_use]
    pub fn next(&self, unix: i64, margin: i64, zone: &dyn Zone) -> Option<i64> {
        let margin = margin.min(self.length / 2);
        let mut from = unix;
        for _ in 0..CHANGES_MAX {
            let opens = self.opens(from, zone)?;
            match self.closes(opens, zone) {
                Some(closes) if closes.saturating_sub(opens) < margin => from = closes,
                _ => return Some(opens),
            }
        }
        None
    }

    /// The first time from `unix` on at which it is open.
    fn opens(&self, unix: i64, zone: &dyn Zone) -> Option<i64> {
        let mut from = unix;
        // Between two changes of the clocks local time runs as evenly as any other.
        for _ in 0..CHANGES_MAX {
            let position = self.position(from, zone.offset(from)?);
            let wait = match position < self.length {
                true => 0,
                false => self.period.saturating_sub(position),
            };
            let opens = from.saturating_add(wait);
            match zone.next_change(from) {
                Some(change) if change <= opens && change > from => from = change,
                _ => return Some(opens),
            }
        }
        None
    }

    /// When it closes after `unix`, at which it is open; `None`: not in the coming years.
    fn closes(&self, unix: i64, zone: &dyn Zone) -> Option<i64> {
        let mut from = unix;
        for _ in 0..CHANGES_MAX {
            let position = self.position(from, zone.offset(from)?);
            if position >= self.length {
                return Some(from);
            }
            let change = zone.next_change(from).filter(|change| *change > from);
            if self.length >= self.period {
                return None;
            }
            let closes = from.saturating_add(self.length.saturating_sub(position));
            match change {
                Some(change) if change <= closes => from = change,
                _ => return Some(closes),
            }
        }
        None
    }

    /// Seconds since the window opened last, by the clock on the wall.
    fn position(&self, unix: i64, offset: i64) -> i64 {
        unix.saturating_add(offset)
            .saturating_add(EPOCH_IN_WEEK)
            .saturating_sub(self.start)
            .rem_euclid(self.period)
    }
}

const fn index(day: Weekday) -> i64 {
    match day {
        Weekday::Monday => 0,
        Weekday::Tuesday => 1,
        Weekday::Wednesday => 2,
        Weekday::Thursday => 3,
        Weekday::Friday => 4,
        Weekday::Saturday => 5,
        Weekday::Sunday => 6,
    }
}

#[cfg(test)]
mod tests;
