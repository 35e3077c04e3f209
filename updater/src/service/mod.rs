//! What the updater is doing and may be told to do: the state behind `update_engine run` and `update_engine_client`.
//!
//! [`machine`] decides and touches nothing. [`keeper`] holds the one status of a device and writes it down; [`work`]
//! carries out what the machine asks for, on the disk that [`place`] names; [`run`] serves clients.

pub mod find;
pub mod keeper;
pub mod machine;
pub mod place;
pub mod run;
pub mod status;
mod store;
pub mod work;

use std::time::Duration;

use bootctl::exit::Exit;

/// Why something was not done: one line for the user, and the exit code that says which kind it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    pub exit: Exit,
    /// `verb object: cause`
    pub text: String,
    /// How long a server asked us to stay away.
    pub retry_after: Option<Duration>,
    /// The file on the server is another one by now.
    pub changed: bool,
}

impl Failure {
    /// `text` reads `verb object: cause`.
    #[must_use]
    pub fn new(exit: Exit, text: impl ToString) -> Self {
        Self {
            exit,
            text: text.to_string(),
            retry_after: None,
            changed: false,
        }
    }

    /// After an attempt that began with what was received earlier it may mean no more than that the server has another
    /// payload by now.
    const fn is_stale(&self) -> bool {
        let verdict = matches!(
            self.exit,
            Exit::NoUpdate | Exit::AlreadyStaged | Exit::Refused | Exit::Verification
        );
        self.changed || verdict
    }

    /// I/O.
    #[must_use]
    pub fn failed(text: impl ToString) -> Self {
        Self::new(Exit::Failed, text)
    }
}

impl From<crate::apply::ApplyError> for Failure {
    fn from(error: crate::apply::ApplyError) -> Self {
        match error.download() {
            Some(download) => Self {
                retry_after: download.retry_after(),
                changed: download.is_changed(),
                ..Self::failed(download)
            },
            None => Self::new(error.exit(), error),
        }
    }
}
