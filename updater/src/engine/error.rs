//! Why an installation failed.

use std::fmt::{Debug, Display};

use bootctl::Slot;
use bootctl::control::ControlError;
use bootctl::exit::Exit;

use crate::decode::DecodeError;
use crate::incoming::IncomingError;
use crate::install::InstallError;
use crate::journal::Ended;
use crate::signature::{BlockMismatch, What};
use crate::source::SourceError;

/// Why an installation failed, or what was found wrong with a payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    #[error("unpack payload: {0}")]
    Decode(#[from] DecodeError),
    #[error("install payload: {0}")]
    Install(#[from] InstallError),
    #[error("{verb}: {cause}")]
    Slot { verb: &'static str, cause: String },
    #[error("{verb} slot {slot}: {cause}")]
    Control {
        verb: &'static str,
        slot: Slot,
        cause: String,
        exit: Exit,
    },
    #[error("install payload: cancelled")]
    Cancelled,
    #[error("lock disk: {0}")]
    Busy(String),
    #[error("start unpacking: {0}")]
    Memory(std::io::Error),
    #[error("compare slot: the comparing thread ended early")]
    Thread,
    #[error("write slot record: it can't hold this release's name, version or tables")]
    RecordName,
}

impl EngineError {
    pub(super) fn slot(verb: &'static str, cause: &dyn Display) -> Self {
        let cause = cause.to_string();
        Self::Slot { verb, cause }
    }

    pub(super) fn control<E: Debug + Display>(
        verb: &'static str,
        slot: Slot,
        cause: &ControlError<E>,
    ) -> Self {
        Self::Control {
            verb,
            slot,
            exit: cause.exit(),
            cause: cause.to_string(),
        }
    }

    /// Whom the failure of an attempt is to be blamed on.
    #[must_use]
    pub const fn blames(&self) -> Ended {
        match self {
            Self::Cancelled => Ended::Cancelled,
            Self::Source(_)
            | Self::Incoming(_)
            | Self::Install(InstallError::Block(BlockMismatch {
                what: What::Stored, ..
            })) => Ended::Transport,
            Self::Decode(_)
            | Self::RecordName
            | Self::Install(
                InstallError::Content { .. }
                | InstallError::Block(BlockMismatch {
                    what: What::Unpacked,
                    ..
                }),
            ) => Ended::Payload,
            _ => Ended::Medium,
        }
    }

    /// Bytes of the payload could not be had.
    #[must_use]
    pub const fn is_source(&self) -> bool {
        self.read_cause().is_some()
    }

    /// Why bytes of the payload could not be had.
    #[must_use]
    pub const fn read_cause(&self) -> Option<&std::io::Error> {
        match self {
            Self::Source(SourceError::Read { cause, .. })
            | Self::Incoming(IncomingError::Source(SourceError::Read { cause, .. })) => Some(cause),
            _ => None,
        }
    }

    /// The exit code that goes with it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Source(SourceError::Read { .. })
            | Self::Incoming(IncomingError::Source(SourceError::Read { .. }))
            | Self::Slot { .. }
            | Self::Memory(_)
            | Self::Cancelled
            | Self::Thread => Exit::Failed,
            Self::Control { exit, .. } => *exit,
            Self::Busy(_) => Exit::Busy,
            Self::Source(_)
            | Self::Incoming(_)
            | Self::Decode(_)
            | Self::Install(_)
            | Self::RecordName => Exit::Verification,
        }
    }
}

impl From<BlockMismatch> for EngineError {
    fn from(error: BlockMismatch) -> Self {
        Self::Install(error.into())
    }
}
