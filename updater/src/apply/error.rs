//! Why nothing was applied.

use std::fmt::{Debug, Display};

use bootctl::control::ControlError;
use bootctl::exit::Exit;
use bootctl::transaction::TransactionError;

use crate::engine::EngineError;
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
    #[error("{0}")]
    Failed(String),
}

impl ApplyError {
    pub(super) fn failed(cause: impl Display) -> Self {
        Self::Failed(cause.to_string())
    }

    pub(super) fn control<E: Debug + Display>(verb: &str, cause: &ControlError<E>) -> Self {
        let text = format!("{verb}: {cause}");
        match cause.exit() {
            Exit::Refused => Self::NotAllowed(text),
            _ => Self::Failed(text),
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
            Self::Lock(_) | Self::Failed(_) => Exit::Failed,
        }
    }
}
