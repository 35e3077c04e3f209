//! What the journal adds to a status: how the last operation ended, what fell back and why, what was tried, and how old
//! the newest release is that somebody vouched for.

use std::time::{SystemTime, UNIX_EPOCH};

use bootctl::exit::one_line;
use serde_json::{Map, Value, json};
use updater::journal::{Attempts, Failed, Journal, Seen};

#[derive(Debug, Default)]
pub struct Remembered<'a> {
    result: &'a str,
    fallback: Option<&'a Failed>,
    attempts: Option<&'a Attempts>,
    newest: Option<&'a Seen>,
    /// Seconds since it was made.
    age: Option<u64>,
}

impl<'a> Remembered<'a> {
    /// Of a device that remembers nothing, nothing.
    pub fn of(journal: Option<&'a Journal>) -> Self {
        let Some(journal) = journal else {
            return Self::default();
        };
        let newest = journal.newest_signed();
        Self {
            result: journal.last_result(),
            fallback: journal.last_fallback(),
            attempts: journal.last_attempts(),
            newest,
            age: newest.and_then(|newest| newest.age(now())),
        }
    }

    /// Lines `KEY=VALUE`, with nothing after the sign where there is nothing to say.
    pub fn to_lines(&self) -> String {
        let fallback = self.fallback.map(|failed| {
            let Failed {
                release, reason, ..
            } = failed;
            one_line(&format!("{}: {reason}", release.version))
        });
        let attempts = self.attempts.map(|attempts| {
            let last = attempts.outcomes.last();
            let last = last.map_or("unknown", |ending| ending.ended.as_str());
            let (version, count) = (&attempts.release.version, attempts.attempts);
            one_line(&format!("{version}: {count}, last: {last}"))
        });
        let newest = self.newest.map(|newest| one_line(&newest.release.version));
        let age = self.age.map(|age| age.to_string());
        let lines = [
            ("LAST_RESULT", Some(one_line(self.result))),
            ("LAST_FALLBACK", fallback),
            ("ATTEMPTS", attempts),
            ("NEWEST_SIGNED", newest),
            ("NEWEST_SIGNED_AGE", age),
        ];
        let lines = lines.map(|(key, value)| format!("{key}={}", value.unwrap_or_default()));
        lines.join("\n")
    }

    /// The same as members of an object. Their shape is documented.
    pub fn to_json(&self) -> Map<String, Value> {
        let fallback = self.fallback.map(|failed| {
            json!({
                "version": failed.release.version,
                "cause": failed.reason.cause.as_str(),
                "detail": failed.reason.detail,
                "time": failed.time,
                "refused": failed.is_refused(),
            })
        });
        let attempts = self.attempts.map(|attempts| {
            let last = attempts.outcomes.last();
            json!({
                "version": attempts.release.version,
                "count": attempts.attempts,
                "last": last.map(|ending| ending.ended.as_str()),
                "detail": last.map(|ending| &ending.detail),
            })
        });
        let newest = self.newest.map(|newest| {
            json!({
                "version": newest.release.version,
                "created": newest.created,
                "seen": newest.time,
                "age": self.age,
            })
        });
        [
            ("last_result", self.result.into()),
            ("last_fallback", json!(fallback)),
            ("attempts", json!(attempts)),
            ("newest_signed", json!(newest)),
        ]
        .map(|(key, value): (&str, Value)| (key.to_owned(), value))
        .into_iter()
        .collect()
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since
        .ok()
        .and_then(|time| i64::try_from(time.as_secs()).ok())
        .unwrap_or(0)
}
