//! What everybody may know: Flatcar's five facts and the last error.

use std::fmt;

use bootctl::exit::one_line;
use serde::{Deserialize, Serialize};

/// Flatcar's operations. Those that a payload is being worked on in are [busy](Self::is_busy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    #[default]
    #[serde(rename = "UPDATE_STATUS_IDLE")]
    Idle,
    #[serde(rename = "UPDATE_STATUS_CHECKING_FOR_UPDATE")]
    CheckingForUpdate,
    #[serde(rename = "UPDATE_STATUS_UPDATE_AVAILABLE")]
    UpdateAvailable,
    /// Blocks come in and are written.
    #[serde(rename = "UPDATE_STATUS_DOWNLOADING")]
    Downloading,
    /// Hashes are compared: of a file before the slot is touched, and of what was read back from the slot.
    #[serde(rename = "UPDATE_STATUS_VERIFYING")]
    Verifying,
    /// The slot gets its record and becomes bootable.
    #[serde(rename = "UPDATE_STATUS_FINALIZING")]
    Finalizing,
    #[serde(rename = "UPDATE_STATUS_UPDATED_NEED_REBOOT")]
    UpdatedNeedReboot,
    #[serde(rename = "UPDATE_STATUS_REPORTING_ERROR_EVENT")]
    ReportingErrorEvent,
}

impl Operation {
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::CheckingForUpdate,
        Self::UpdateAvailable,
        Self::Downloading,
        Self::Verifying,
        Self::Finalizing,
        Self::UpdatedNeedReboot,
        Self::ReportingErrorEvent,
    ];

    /// As Flatcar writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "UPDATE_STATUS_IDLE",
            Self::CheckingForUpdate => "UPDATE_STATUS_CHECKING_FOR_UPDATE",
            Self::UpdateAvailable => "UPDATE_STATUS_UPDATE_AVAILABLE",
            Self::Downloading => "UPDATE_STATUS_DOWNLOADING",
            Self::Verifying => "UPDATE_STATUS_VERIFYING",
            Self::Finalizing => "UPDATE_STATUS_FINALIZING",
            Self::UpdatedNeedReboot => "UPDATE_STATUS_UPDATED_NEED_REBOOT",
            Self::ReportingErrorEvent => "UPDATE_STATUS_REPORTING_ERROR_EVENT",
        }
    }

    /// In words, for a sentence.
    #[must_use]
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::CheckingForUpdate => "checking for an update",
            Self::UpdateAvailable => "update available",
            Self::Downloading => "downloading",
            Self::Verifying => "verifying",
            Self::Finalizing => "finalizing",
            Self::UpdatedNeedReboot => "waiting for the reboot",
            Self::ReportingErrorEvent => "reporting an error",
        }
    }

    /// Somebody is at work, and nothing else may start.
    #[must_use]
    pub const fn is_busy(self) -> bool {
        match self {
            Self::CheckingForUpdate
            | Self::Downloading
            | Self::Verifying
            | Self::Finalizing
            | Self::ReportingErrorEvent => true,
            Self::Idle | Self::UpdateAvailable | Self::UpdatedNeedReboot => false,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The release that is being looked at, installed or waiting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRelease {
    pub version: String,
    /// Size of its image in bytes.
    pub size: u64,
}

/// How the last attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// The exit code that says which kind it was.
    pub exit: u8,
    /// `verb object: cause`, one line.
    pub text: String,
    /// Seconds since 1970 by the device's clock.
    pub time: u64,
}

/// What the updater is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub operation: Operation,
    /// When a payload or a server was looked at last, in seconds since 1970; 0 for never.
    #[serde(default)]
    pub last_checked: u64,
    /// Of [`total`](Self::total) blocks, those that the operation is done with.
    #[serde(default)]
    pub done: u64,
    #[serde(default)]
    pub total: u64,
    #[serde(default)]
    pub release: Option<NewRelease>,
    #[serde(default)]
    pub last_error: Option<LastError>,
}

impl Status {
    /// The two tell of the same, but for how far it is.
    #[must_use]
    pub fn differs_in_counts_only(&self, other: &Self) -> bool {
        let counted = Self {
            done: other.done,
            total: other.total,
            ..self.clone()
        };
        counted == *other
    }

    /// From 0 to 1; 0 while nothing is counted.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people to look at")]
    pub fn progress(&self) -> f64 {
        match self.total {
            0 => 0.0,
            total => self.done.min(total) as f64 / total as f64,
        }
    }

    /// Bytes of the image that the operation is done with.
    #[must_use]
    pub fn done_bytes(&self) -> u64 {
        let size = self.release.as_ref().map_or(0, |release| release.size);
        let done = u128::from(size) * u128::from(self.done.min(self.total));
        u64::try_from(done / u128::from(self.total.max(1))).unwrap_or(size)
    }

    /// Version of the new release, as Flatcar says it: `0.0.0` where there is none.
    #[must_use]
    pub fn version(&self) -> &str {
        self.release
            .as_ref()
            .map_or("0.0.0", |release| &release.version)
    }

    /// Size of the new release's image in bytes, 0 where there is none.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.release.as_ref().map_or(0, |release| release.size)
    }

    /// Lines `KEY=VALUE`: Flatcar's five in its order, then the last error, empty where there is none.
    #[must_use]
    pub fn to_lines(&self) -> String {
        format!(
            "LAST_CHECKED_TIME={}\nPROGRESS={:.6}\nCURRENT_OP={}\nNEW_VERSION={}\nNEW_SIZE={}\nLAST_ERROR={}",
            self.last_checked,
            self.progress(),
            self.operation,
            self.version(),
            self.size(),
            self.last_error
                .as_ref()
                .map_or_else(String::new, |error| one_line(&error.text)),
        )
    }

    /// The same as an object. Its shape is documented.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "last_checked_time": self.last_checked,
            "progress": self.progress(),
            "current_op": self.operation.as_str(),
            "new_version": self.release.as_ref().map(|release| &release.version),
            "new_size": self.size(),
            "last_error": self.last_error.as_ref().map(|error| serde_json::json!({
                "exit": error.exit,
                "text": error.text,
                "time": error.time,
            })),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_flatcars_and_then_ours() {
        let mut status = Status::default();
        assert_eq!(
            status.to_lines(),
            "LAST_CHECKED_TIME=0\nPROGRESS=0.000000\nCURRENT_OP=UPDATE_STATUS_IDLE\nNEW_VERSION=0.0.0\nNEW_SIZE=0\nLAST_ERROR="
        );
        status.operation = Operation::Downloading;
        (status.last_checked, status.done, status.total) = (7, 1, 4);
        status.release = Some(NewRelease {
            version: "2.0.0".into(),
            size: 8192,
        });
        status.last_error = Some(LastError {
            exit: 7,
            text: "verify payload: no\nluck".into(),
            time: 6,
        });
        assert_eq!(
            status.to_lines(),
            "LAST_CHECKED_TIME=7\nPROGRESS=0.250000\nCURRENT_OP=UPDATE_STATUS_DOWNLOADING\nNEW_VERSION=2.0.0\nNEW_SIZE=8192\nLAST_ERROR=verify payload: no\\nluck"
        );
        assert_eq!(status.done_bytes(), 2048);
        assert_eq!(
            status.to_json().to_string(),
            r#"{"current_op":"UPDATE_STATUS_DOWNLOADING","last_checked_time":7,"last_error":{"exit":7,"text":"verify payload: no\nluck","time":6},"new_size":8192,"new_version":"2.0.0","progress":0.25}"#
        );
    }

    #[test]
    fn operations_are_written_as_they_are_called() {
        for operation in Operation::ALL {
            let text = serde_json::to_string(&operation).unwrap();
            assert_eq!(text, format!("\"{operation}\""));
        }
    }

    #[test]
    fn a_count_past_its_end_is_all_of_it() {
        let status = Status {
            done: u64::MAX,
            total: 3,
            release: Some(NewRelease {
                version: String::new(),
                size: u64::MAX,
            }),
            ..Status::default()
        };
        assert!((status.progress() - 1.0).abs() < f64::EPSILON);
        assert_eq!(status.done_bytes(), u64::MAX);
    }
}
