//! What ends a call, and with which exit code.

use std::fmt::{self, Display};
use std::io;

use bootctl::active::ActiveError;
use bootctl::control::ControlError;
use bootctl::disk::DiskError;
use bootctl::exit::Exit;
use bootctl::gpt::GptError;
use bootctl::slot_record::RecordError;
use bootctl::transaction::TransactionError;

/// A cause and the exit code that goes with it.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    cause: String,
}

impl CliError {
    pub fn new(exit: Exit, cause: impl Display) -> Self {
        Self {
            exit,
            cause: cause.to_string(),
        }
    }

    pub const fn exit(&self) -> Exit {
        self.exit
    }
}

impl Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl From<DiskError> for CliError {
    fn from(error: DiskError) -> Self {
        let exit = match &error {
            DiskError::Lock { cause, .. } if cause.kind() == io::ErrorKind::WouldBlock => {
                Exit::Busy
            }
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<ControlError<DiskError>> for CliError {
    fn from(error: ControlError<DiskError>) -> Self {
        Self::new(error.exit(), error)
    }
}

impl From<GptError<DiskError>> for CliError {
    fn from(error: GptError<DiskError>) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<RecordError<DiskError>> for CliError {
    fn from(error: RecordError<DiskError>) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<TransactionError> for CliError {
    fn from(error: TransactionError) -> Self {
        let exit = match &error {
            TransactionError::Busy { .. } => Exit::Busy,
            _ => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

impl From<ActiveError> for CliError {
    fn from(error: ActiveError) -> Self {
        Self::new(Exit::Failed, error)
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Failed, error)
    }
}
