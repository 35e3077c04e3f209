//! Why a release did not prove itself.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Longest detail that is kept, in bytes: the tail of a check's output and a line of our own.
pub const DETAIL_MAX: usize = 4608;

/// The kind of failure; it decides whether the release is refused afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// A required health check failed or took too long.
    Health,
    /// It is not the release that its signed manifest announced, or does not accept that manifest.
    Announcement,
    /// The kernel panicked.
    Panic,
    /// The hardware watchdog or the deadline of init ended the boot.
    Watchdog,
    /// The loader could not load its kernel, initrd or device tree.
    Load,
    /// Init could not go on.
    Init,
    /// The medium or the slot store failed; the release itself is not to blame.
    Medium,
    /// Nobody knows. Also what a cause that a later version wrote is read as.
    #[serde(other)]
    Unexplained,
}

impl Cause {
    /// The release itself is to blame, so that it is refused at once.
    #[must_use]
    pub const fn own_fault(self) -> bool {
        !matches!(self, Self::Medium | Self::Unexplained)
    }

    /// One word, as in the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Announcement => "announcement",
            Self::Panic => "panic",
            Self::Watchdog => "watchdog",
            Self::Load => "load",
            Self::Init => "init",
            Self::Medium => "medium",
            Self::Unexplained => "unexplained",
        }
    }
}

/// A cause with what is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    pub cause: Cause,
    /// At most [`DETAIL_MAX`] bytes; may have several lines.
    #[serde(default)]
    pub detail: String,
}

impl Reason {
    /// A reason whose detail is cut to [`DETAIL_MAX`] bytes and freed of control characters other than line ends.
    #[must_use]
    pub fn new(cause: Cause, detail: &str) -> Self {
        let printable = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
        let mut detail: String = detail.chars().map(printable).collect();
        truncate(&mut detail, DETAIL_MAX);
        Self { cause, detail }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.as_str())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Cuts `text` to at most `max` bytes at a character boundary.
pub(crate) fn truncate(text: &mut String, max: usize) {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_of_a_later_version_is_unexplained() {
        let reason: Reason =
            serde_json::from_str(r#"{"cause":"cosmic-ray","detail":"x"}"#).unwrap();
        assert_eq!(reason.cause, Cause::Unexplained);
    }

    #[test]
    fn detail_is_cut_between_characters() {
        let reason = Reason::new(Cause::Health, &"ä".repeat(DETAIL_MAX));
        assert_eq!(reason.detail.len(), DETAIL_MAX);
        let reason = Reason::new(Cause::Health, &format!("x{}", "ä".repeat(DETAIL_MAX)));
        assert_eq!(reason.detail.len(), DETAIL_MAX - 1);
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let reason = Reason::new(Cause::Health, "a\u{1b}[2J\nb\0");
        assert_eq!(reason.detail, "a?[2J\nb?");
    }

    #[test]
    fn words_are_those_of_the_journal() {
        for cause in [
            Cause::Health,
            Cause::Announcement,
            Cause::Panic,
            Cause::Watchdog,
            Cause::Load,
            Cause::Init,
            Cause::Medium,
            Cause::Unexplained,
        ] {
            let json = serde_json::to_string(&cause).unwrap();
            assert_eq!(json, format!("\"{}\"", cause.as_str()));
        }
    }
}
