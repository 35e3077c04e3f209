//! Exit codes, the same for every program of ours.

use core::fmt;

/// How a program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// I/O, slot store or partition table failed, or a download was cut off.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no update.
    NoUpdate = 3,
    /// This very payload is already staged; a reboot is needed.
    AlreadyStaged = 4,
    /// Somebody else is installing or committing.
    Busy = 5,
    /// Refused by a rule: product, board, version, size, on trial, active slot and the like.
    Refused = 6,
    /// Verification failed: signature, keys, manifest, table, block, content.
    Verification = 7,
}

impl Exit {
    /// The code that the operating system sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}

#[cfg(feature = "std")]
impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
