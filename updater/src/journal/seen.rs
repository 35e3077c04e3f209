//! The newest release that trusted keys have vouched for.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::data::Release;
use crate::version;

/// A signed release, when it was made and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    #[serde(flatten)]
    pub release: Release,
    /// `created` of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// When it was seen first, in seconds since 1970 by the device's clock.
    pub time: u64,
}

impl Seen {
    pub(super) fn new(release: Release, created: Option<&str>, time: u64) -> Self {
        Self {
            release,
            created: created.map(str::to_owned),
            time,
        }
    }

    /// When it was made, in seconds since 1970, where its manifest begins with a day such as `2026-11-21`.
    #[must_use]
    pub fn made(&self) -> Option<i64> {
        let day: Date = self.created.as_ref()?.get(..10)?.parse().ok()?;
        let begin = day.to_zoned(TimeZone::UTC).ok()?;
        Some(begin.timestamp().as_second())
    }

    /// How old it is, in seconds at the time `unix`: since the day on which it was made or, where it does not say that,
    /// since it was seen first. `None` while the clock is behind that.
    #[must_use]
    pub fn age(&self, unix: i64) -> Option<u64> {
        let since = self.made().or_else(|| i64::try_from(self.time).ok())?;
        u64::try_from(unix.checked_sub(since)?).ok()
    }

    /// By the day on which they were made where both say it, else by their versions.
    pub(super) fn is_newer_than(&self, old: &Self) -> bool {
        let days = match (self.made(), old.made()) {
            (Some(new), Some(old)) => new.cmp(&old),
            _ => std::cmp::Ordering::Equal,
        };
        let versions = || version::compare(&self.release.version, &old.release.version);
        days.then_with(versions).is_gt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, history};

    const DAY: i64 = 86_400;
    /// 2026-11-21.
    const MADE: i64 = 1_795_219_200;

    fn release(version: &str) -> Release {
        Release {
            id: [1; 32],
            version: version.to_owned(),
            rollback_index: 0,
        }
    }

    fn seen(version: &str, created: Option<&str>) -> Seen {
        Seen::new(release(version), created, 100)
    }

    #[test]
    fn age_is_that_of_the_release_and_not_of_the_look() {
        let dated = seen("1", Some("2026-11-21"));
        assert_eq!(dated.age(MADE + 3 * DAY), Some(259_200));
        assert_eq!(dated.age(MADE - 1), None);
        assert_eq!(seen("1", Some("2026-11-21T10.00")).made(), Some(MADE));
        for vague in [None, Some(""), Some("yesterday-or-so"), Some("2026-13-01")] {
            assert_eq!(seen("1", vague).age(160), Some(60), "{vague:?}");
            assert_eq!(seen("1", vague).age(99), None);
        }
        assert_eq!(dated.age(i64::MIN), None);
    }

    #[test]
    fn newer_is_what_was_made_later_and_else_what_has_the_higher_version() {
        let old = seen("2.0", Some("2026-11-21"));
        assert!(seen("1.9", Some("2026-11-22")).is_newer_than(&old));
        assert!(!seen("2.1", Some("2026-11-20")).is_newer_than(&old));
        assert!(seen("2.1", Some("2026-11-21")).is_newer_than(&old));
        assert!(seen("2.1", None).is_newer_than(&old));
        assert!(!seen("1.9", None).is_newer_than(&old) && !old.is_newer_than(&old));
    }

    #[test]
    fn the_same_release_again_costs_no_write_and_does_not_get_younger() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::load(dir.path());
        assert_eq!(journal.newest_signed(), None);
        journal.seen(&release("2"), None).unwrap();
        let first = journal.newest_signed().unwrap().clone();
        let path = dir.path().join("journal.json");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, serde_json::to_vec(&serde_json::json!({
            "format": 1,
            "newest_signed": { "id": "01".repeat(32), "version": "2", "rollback_index": 0, "time": 5 },
        })).unwrap()).unwrap();
        for version in ["2", "1"] {
            journal.seen(&release(version), None).unwrap();
            assert_eq!(journal.newest_signed().unwrap().time, 5);
        }
        assert!(first.time > 5);
        assert!(history::read(dir.path()).unwrap().is_empty());
        journal.seen(&release("3"), Some("2026-11-21")).unwrap();
        let again = Journal::load(dir.path());
        let newest = again.newest_signed().unwrap();
        assert_eq!(newest.release.version, "3");
        assert_eq!(newest.created.as_deref(), Some("2026-11-21"));
    }
}
