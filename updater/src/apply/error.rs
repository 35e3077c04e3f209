//! Why nothing was applied.

use std::fmt::{Debug, Display};

use bootctl::active::ActiveError;
use bootctl::control::ControlError;
use bootctl::exit::Exit;
use bootctl::transaction::TransactionError;

use crate::engine::EngineError;
use crate::fetch::FetchError;
use crate::gates::Refusal;
use crate::keys::KeysError;

/// Why a payload was not applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("accept payload: {refusal}{detail}")]
    Refused {
        refusal: Box<Refusal>,
        detail: String,
    },
    #[error("{0}")]
    NotAllowed(String),
    #[error(transparent)]
    Lock(#[from] TransactionError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("{0}")]
    NoKeys(String),
    /// No disk was named, and this machine runs from none of ours.
    #[error("{0}")]
    NoDisk(String),
    #[error("{0}")]
    Failed(String),
}

impl ApplyError {
    pub(super) fn failed(cause: impl Display) -> Self {
        Self::Failed(cause.to_string())
    }

    /// A disk has to be named where the machine runs from none of ours; where that can't be told something is broken.
    pub(super) fn no_disk(cause: &ActiveError) -> Self {
        let text = format!("{cause}; name one with --disk");
        match cause {
            ActiveError::NoUsrMount | ActiveError::NotAPartition { .. } => Self::NoDisk(text),
            _ => Self::Failed(text),
        }
    }

    pub(super) fn control<E: Debug + Display>(verb: &str, cause: &ControlError<E>) -> Self {
        let text = format!("{verb}: {cause}");
        match cause.exit() {
            Exit::Refused => Self::NotAllowed(text),
            _ => Self::Failed(text),
        }
    }

    /// The download that failed, if it was one.
    #[must_use]
    pub fn download(&self) -> Option<&FetchError> {
        match self {
            Self::Engine(error) => error.read_cause()?.get_ref()?.downcast_ref(),
            _ => None,
        }
    }

    /// The exit code that goes with it.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Engine(error) => error.exit(),
            Self::Refused { refusal, .. } => refusal.exit(),
            Self::NotAllowed(_) => Exit::Refused,
            Self::Lock(TransactionError::Busy { .. }) => Exit::Busy,
            Self::Keys(_) | Self::NoKeys(_) => Exit::Verification,
            Self::NoDisk(_) => Exit::Usage,
            Self::Lock(_) | Self::Failed(_) => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_machine_without_a_slot_needs_the_flag_as_with_bootctl() {
        let none = ApplyError::no_disk(&ActiveError::NoUsrMount);
        assert_eq!(none.exit(), Exit::Usage);
        assert!(none.to_string().ends_with("; name one with --disk"));
        let broken = ApplyError::no_disk(&ActiveError::Read {
            path: "/proc/self/mountinfo".into(),
            cause: io::ErrorKind::PermissionDenied.into(),
        });
        assert_eq!(broken.exit(), Exit::Failed);
    }
}
