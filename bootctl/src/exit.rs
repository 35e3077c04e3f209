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

/// A message as one line: a name with control characters in it neither breaks the line nor talks to the terminal.
#[cfg(feature = "std")]
#[must_use]
pub fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.trim_end().chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

#[cfg(feature = "std")]
impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_control_characters_stays_on_its_line() {
        let name = "read a\nb\u{1b}[31m\u{9b}c ä\n";
        assert_eq!(one_line(name), "read a\\nb\\u{1b}[31m\\u{9b}c ä");
    }
}
