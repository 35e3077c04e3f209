//! Failures with an exit code of their own.

/// The part of an error chain that decides the exit code.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A rule, a size or another fact forbids it (6).
    #[error("{0}")]
    Refused(String),
    /// A signature, hash or length is wrong (7).
    #[error("{0}")]
    Unverified(String),
    /// The command line contradicts itself (2).
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// As all programs of Tandem have it.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Refused(_) => 6,
            Self::Unverified(_) => 7,
        }
    }
}

/// Returns with [`Failure::Refused`].
macro_rules! refuse {
    ($($arg:tt)*) => {
        return Err(anyhow::Error::new($crate::Failure::Refused(format!($($arg)*))))
    };
}
pub(crate) use refuse;
