//! How far an installation is, one line for every tenth.

use std::io::{IsTerminal, stderr};

use updater::engine::{Observer, Phase};

use super::print::complain;

/// Prints to standard error where a person is likely to read it.
pub struct Progress {
    shown: bool,
    last: Option<(Phase, u64)>,
}

impl Progress {
    pub fn new(verbose: bool) -> Self {
        Self {
            shown: verbose || stderr().is_terminal(),
            last: None,
        }
    }
}

impl Observer for Progress {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        let tenths = done.saturating_mul(10) / total.max(1);
        if !self.shown || self.last == Some((phase, tenths)) {
            return;
        }
        self.last = Some((phase, tenths));
        let what = match phase {
            Phase::Checking => "checking",
            Phase::Resuming => "reading what is there",
            Phase::Writing => "writing",
            Phase::Comparing => "comparing",
        };
        complain(format_args!("{what}: {} %", tenths * 10));
    }
}
