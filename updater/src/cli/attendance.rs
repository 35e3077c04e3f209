//! What a device does while a release is written to it: its light says so, and its watchdog is fed.

use std::fs;

use anyhow::{Result, anyhow};
use boards::led::Pattern;
use boards::linux::signal::Signal;
use boards::linux::watchdog::{Feeder, LinuxWatchdog, is_allowed};

const CMDLINE: &str = "/proc/cmdline";
/// Rounds of the pattern for a failure: long enough to be seen.
const FAILED_ROUNDS: u32 = 2;

/// The device's light and watchdog, until it is dropped.
#[derive(Debug)]
pub struct Attendance {
    signal: Option<Signal>,
    _feeder: Option<Feeder>,
}

impl Attendance {
    /// Nobody attends to a disk that does not run.
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
    pub fn begin(watchdog: bool) -> Result<Self> {
        let cmdline = fs::read_to_string(CMDLINE).unwrap_or_default();
        let feeder = match watchdog {
            false => None,
            true => Some(feed(&cmdline)?),
        };
        let signal = Signal::of(&cmdline, Pattern::Writing).unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        });
        Ok(Self {
            signal,
            _feeder: feeder,
        })
    }

    /// Ends it; a failure is shown for a moment.
    pub fn end(self, failed: bool) {
        if let (Some(signal), true) = (self.signal, failed) {
            signal.finish(Pattern::Failed, FAILED_ROUNDS);
        }
    }
}

fn feed(cmdline: &str) -> Result<Feeder> {
    let armed = is_allowed(cmdline).then(LinuxWatchdog::arm).flatten();
    let watchdog = armed.ok_or_else(|| {
        anyhow!(
            "arm the watchdog: there is none that can be stopped again, another program has it, or \
             tandem.watchdog=off forbids it (--watchdog)"
        )
    })?;
    Ok(Feeder::start(watchdog)?)
}
