//! Why bytes can't be had from a server, in words that say what to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of an explanation that are kept.
const MAX_DETAIL: usize = 512;

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The address can't be used.
    Address,
    /// A certificate, key or proxy that was configured can't be used.
    Configuration,
    /// The server's name is not known.
    Resolve,
    /// No connection.
    Connect,
    /// The proxy does not let us through.
    Proxy,
    /// The proxy wants a user's name and password, or others than it got.
    ProxyPassword,
    /// The server's certificate is not to be trusted.
    Certificate,
    /// The server's certificate is not valid at the time that this device's clock shows.
    Clock,
    /// No agreement on an encrypted connection, for another reason.
    Tls,
    /// The server went silent, or nearly so.
    Stalled,
    /// The connection broke.
    CutOff,
    /// The server says no.
    Status(u16),
    /// Too many redirects, or one that leads nowhere.
    Redirect,
    /// A redirect from an encrypted to an open connection.
    Downgrade,
    /// The file is another one than when the download began.
    Changed,
    /// The server's answer makes no sense.
    Answer,
    /// The download process can't be started, or ended too early.
    Process,
    /// The download process broke its own rules.
    Protocol,
    /// Cancelled on this side.
    Cancelled,
}

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub kind: FailureKind,
    /// The cause, for a person.
    pub detail: String,
    /// Seconds that the server asks us to stay away.
    pub retry_after: Option<u64>,
}

impl Failure {
    pub(super) fn new(kind: FailureKind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
        }
    }

    /// Whether another attempt, soon, may do better.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.kind {
            FailureKind::Resolve
            | FailureKind::Connect
            | FailureKind::Stalled
            | FailureKind::CutOff => true,
            FailureKind::Status(code) => {
                matches!(code, 408 | 425 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }

    /// What arrives from the other process is cut to a length and rid of what a terminal would obey.
    pub(super) fn tamed(self) -> Self {
        let detail = self.detail.chars().map(|c| match c.is_control() {
            true => ' ',
            false => c,
        });
        let mut length = 0_usize;
        let detail = detail
            .take_while(|c| {
                length = length.saturating_add(c.len_utf8());
                length <= MAX_DETAIL
            })
            .collect();
        Self { detail, ..self }
    }

    /// What changes it, where that is known.
    fn hint(&self) -> &'static str {
        match self.kind {
            FailureKind::Clock => "; check the clock (`date`)",
            FailureKind::Status(404 | 410) => {
                "; check the address, or SERVER and GROUP in update.conf"
            }
            FailureKind::Status(401 | 403) => "; the server wants other credentials",
            FailureKind::ProxyPassword => {
                "; give name and password in http_proxy or https_proxy (http://name:password@proxy:port)"
            }
            FailureKind::Proxy => "; check http_proxy, https_proxy and no_proxy",
            FailureKind::Resolve => "; check the network and the address",
            FailureKind::Downgrade => "; the server must redirect to https",
            FailureKind::Changed => "; start again",
            _ => "",
        }
    }
}

/// A download that failed: `download ADDRESS: cause; what to do`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("download {url}: {}{}", failure.detail, failure.hint())]
pub struct FetchError {
    pub(super) url: String,
    pub failure: Failure,
}

impl FetchError {
    /// How long the server asks us to stay away, where it said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.failure.retry_after.map(Duration::from_secs)
    }

    /// The file on the server changed while it was downloaded: what was fetched before belongs to another payload.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.failure.kind == FailureKind::Changed
    }
}

impl From<FetchError> for std::io::Error {
    fn from(error: FetchError) -> Self {
        Self::other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_cannot_write_to_the_terminal() {
        let evil = Failure::new(FailureKind::Answer, "a\x1b[31m\n\u{9b}b").tamed();
        assert_eq!(evil.detail, "a [31m  b");
        let long = Failure::new(FailureKind::Answer, "ü".repeat(4000)).tamed();
        assert_eq!(long.detail.len(), MAX_DETAIL);
    }

    #[test]
    fn a_message_names_address_cause_and_remedy() {
        let error = FetchError {
            url: "https://up.example/x".into(),
            failure: Failure::new(FailureKind::Status(404), "the server says 404 Not Found"),
        };
        assert_eq!(
            error.to_string(),
            "download https://up.example/x: the server says 404 Not Found; check the address, or SERVER and GROUP in update.conf"
        );
    }
}
