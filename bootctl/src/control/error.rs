//! What can go wrong on a disk of ours.

use core::fmt::{Debug, Display};

use super::LayoutError;
use crate::exit::Exit;
use crate::gpt::{EditError, GptError};
use crate::slot_record::RecordError;
use crate::store::StoreError;
use crate::transition::Refusal;
use crate::vars::LostReason;

/// Why an operation of [`Control`](super::Control) did not happen, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ControlError<E: Debug + Display> {
    #[error("{0}")]
    Io(E),
    #[error("{0}")]
    Gpt(GptError<E>),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error("{0}")]
    Store(StoreError<E>),
    #[error("{0}")]
    Record(RecordError<E>),
    #[error("the boot environment is lost ({0}); tandem-bootctl repair rebuilds it")]
    Lost(LostReason),
    #[error(
        "U-Boot's own environment is lost ({0}); only the boot script can have U-Boot make it anew, at the next boot. If it stays lost, U-Boot keeps it elsewhere than the fw_env.config that this disk was built with says"
    )]
    LostForLoader(LostReason),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(
        "the boot environment is lost ({0}), and neither the GPT attributes nor the confirmed record name a confirmed slot"
    )]
    NoSource(LostReason),
}

impl<E: Debug + Display> ControlError<E> {
    /// The exit code that a program ends with.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Refused(_) | Self::NoSource(_) => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

impl<E: Debug + Display> From<GptError<E>> for ControlError<E> {
    fn from(error: GptError<E>) -> Self {
        Self::Gpt(error)
    }
}

impl<E: Debug + Display> From<EditError> for ControlError<E> {
    fn from(error: EditError) -> Self {
        Self::Gpt(GptError::Edit(error))
    }
}

impl<E: Debug + Display> From<StoreError<E>> for ControlError<E> {
    fn from(error: StoreError<E>) -> Self {
        Self::Store(error)
    }
}
