//! What the service and its clients say to each other, on `/run/tandem/control.sock`.
//!
//! One line of JSON is a [`Request`]; the answer is any number of [`Reply::Status`] and then one [`Reply::Done`] or
//! [`Reply::Failed`], after which the next request may follow. A payload file goes with its request as a descriptor,
//! never as a path. The service knows by the kernel whom it talks to: root may act, everybody else who could connect
//! may look.

mod line;

use std::path::{Path, PathBuf};

use bootctl::exit::Exit;
use serde::{Deserialize, Serialize};

pub use line::{Channel, LINE_MAX, LineError};

use crate::gates::Reason;
use crate::service::Failure;
use crate::service::status::Status;

/// Name of the socket in the folder where programs that run find each other.
const NAME: &str = "control.sock";

/// Where the socket is, in `run`.
#[must_use]
pub fn path(run: &Path) -> PathBuf {
    run.join(NAME)
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// The status, once.
    Status,
    /// The status each time it changes, until nobody works any more.
    Follow,
    /// The status each time it changes.
    Watch,
    /// Look for an update, or at a payload.
    Check(Wish),
    /// Install an update, and follow it.
    Update(Wish),
    /// End what is under way, or take back what is staged.
    Cancel,
    Rollback,
    Reset,
}

impl Request {
    /// It changes nothing.
    #[must_use]
    pub const fn only_looks(&self) -> bool {
        matches!(self, Self::Status | Self::Follow | Self::Watch)
    }
}

/// Which payload, and what is forced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    #[serde(default)]
    pub payload: Payload,
    #[serde(default, with = "reasons")]
    pub force: Vec<Reason>,
}

/// Where the payload is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// Wherever the settings say.
    #[default]
    Configured,
    /// Behind the descriptor that comes with the request.
    Descriptor,
    Url(String),
}

/// What the service answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Status(Status),
    Done(Done),
    Failed(Failed),
}

/// It was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// In a sentence; empty where there is nothing to say.
    #[serde(default)]
    pub text: String,
    /// The facts, as `--json` prints them; null where there are none.
    #[serde(default)]
    pub facts: serde_json::Value,
}

/// It was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub exit: u8,
    pub text: String,
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        Self::Failed(Failed {
            exit: failure.exit.code(),
            text: failure.text,
        })
    }
}

impl From<Failed> for Failure {
    /// A code that this version does not know is a failure like any other.
    fn from(failed: Failed) -> Self {
        let known = [
            Exit::Usage,
            Exit::NoUpdate,
            Exit::AlreadyStaged,
            Exit::Busy,
            Exit::Refused,
            Exit::Verification,
        ];
        let exit = known.into_iter().find(|exit| exit.code() == failed.exit);
        Self::new(exit.unwrap_or(Exit::Failed), failed.text)
    }
}

/// Reasons by their names.
mod reasons {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::gates::Reason;

    pub fn serialize<S: Serializer>(reasons: &[Reason], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(reasons.iter().map(|reason| reason.as_str()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Reason>, D::Error> {
        let names = Vec::<String>::deserialize(from)?;
        let parse = |name: &String| name.parse().map_err(D::Error::custom);
        names.iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_documented_ones() {
        let lines = [
            (Request::Status, r#"{"verb":"status"}"#),
            (Request::Rollback, r#"{"verb":"rollback"}"#),
            (
                Request::Update(Wish {
                    payload: Payload::Url("http://h/p".into()),
                    force: vec![Reason::RolledBack],
                }),
                r#"{"verb":"update","payload":{"url":"http://h/p"},"force":["rolled-back"]}"#,
            ),
            (
                Request::Check(Wish {
                    payload: Payload::Descriptor,
                    force: vec![],
                }),
                r#"{"verb":"check","payload":"descriptor","force":[]}"#,
            ),
        ];
        for (request, line) in lines {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        let short: Request = serde_json::from_str(r#"{"verb":"update","new":1}"#).unwrap();
        assert_eq!(short, Request::Update(Wish::default()));
        let failed = Reply::from(Failure::new(Exit::Busy, "a b: c"));
        assert_eq!(
            serde_json::to_string(&failed).unwrap(),
            r#"{"failed":{"exit":5,"text":"a b: c"}}"#
        );
    }

    #[test]
    fn only_three_requests_change_nothing() {
        let looks = |line: &str| serde_json::from_str::<Request>(line).unwrap().only_looks();
        for verb in ["status", "follow", "watch"] {
            assert!(looks(&format!("{{\"verb\":\"{verb}\"}}")), "{verb}");
        }
        for verb in ["check", "update", "cancel", "rollback", "reset"] {
            assert!(!looks(&format!("{{\"verb\":\"{verb}\"}}")), "{verb}");
        }
    }

    #[test]
    fn an_exit_code_of_a_later_version_is_a_failure() {
        for (code, exit) in [(0, 1), (3, 3), (7, 7), (99, 1)] {
            let text = String::new();
            assert_eq!(Failure::from(Failed { exit: code, text }).exit.code(), exit);
        }
    }
}
