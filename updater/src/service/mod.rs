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
}

impl Failure {
    /// `text` reads `verb object: cause`.
    #[must_use]
    pub fn new(exit: Exit, text: impl ToString) -> Self {
        Self {
            exit,
            text: text.to_string(),
            retry_after: None,
        }
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
                ..Self::failed(download)
            },
            None => Self::new(error.exit(), error),
        }
    }
}
