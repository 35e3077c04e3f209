//! What a device does while a release is written to it: its light says so, and its watchdog is fed.

use std::{fs, io};

use boards::led::Pattern;
use boards::linux::signal::Signal;
use boards::linux::watchdog::{Feeder, LinuxWatchdog, is_allowed};

const CMDLINE: &str = "/proc/cmdline";
/// Rounds of the pattern for a failure: long enough to be seen.
const FAILED_ROUNDS: u32 = 2;

/// The watchdog was not armed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttendanceError {
    #[error(
        "arm the watchdog: there is none that can be stopped again, another program has it, or \
         tandem.watchdog=off forbids it (--watchdog)"
    )]
    NoWatchdog,
    #[error("feed the watchdog: {0}")]
    Feed(#[from] io::Error),
}

/// The device's light and watchdog, until it is dropped.
#[derive(Debug)]
pub struct Attendance {
    signal: Option<Signal>,
    _feeder: Option<Feeder>,
}

impl Attendance {
    /// Nobody attends to a disk that does not run.
    #[must_use]
    pub const fn nobody() -> Self {
        Self {
            signal: None,
            _feeder: None,
        }
    }

    /// Shows that something is written and, where `watchdog` asks for it, arms the watchdog. A light that can't be used
    /// is warned of.
    ///
    /// # Errors
    /// There is no watchdog that may be armed, or another program has it.
    pub fn begin(watchdog: bool) -> Result<Self, AttendanceError> {
        Ok(Self {
            _feeder: watchdog.then(feed).transpose()?,
            ..Self::light()
        })
    }

    /// Shows that something is written, and leaves the watchdog to whoever has it.
    #[must_use]
    pub fn light() -> Self {
        let signal = Signal::when_free(&cmdline(), Pattern::Writing).unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        });
        Self {
            signal,
            _feeder: None,
        }
    }

    /// Ends it; a failure is shown for a moment.
    pub fn end(self, failed: bool) {
        if let (Some(signal), true) = (self.signal, failed) {
            signal.finish(Pattern::Failed, FAILED_ROUNDS);
        }
    }
}

/// The kernel's command line, which names the light and may forbid the watchdog.
fn cmdline() -> String {
    fs::read_to_string(CMDLINE).unwrap_or_default()
}

fn feed() -> Result<Feeder, AttendanceError> {
    let armed = is_allowed(&cmdline()).then(LinuxWatchdog::arm).flatten();
    let watchdog = armed.ok_or(AttendanceError::NoWatchdog)?;
    Ok(Feeder::start(watchdog)?)
}
