//! The hardware watchdog, where there is one: it catches what no process can, a kernel that no longer runs any.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};

const NODE: &str = "/dev/watchdog0";
/// Contains 0 if an armed watchdog can be stopped again.
const NO_WAY_OUT: &str = "/sys/class/watchdog/watchdog0/nowayout";

/// An armed watchdog. The driver's own time-out counts; 15 s, the shortest of the usual ones, leaves room for a late
/// [`feed`](Self::feed) every 5 s.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
}

impl Watchdog {
    /// Opens, and thereby arms, the first watchdog; `None` if there is none yet, somebody else has it, or it could not
    /// be stopped again, since then it would reset a machine that runs well.
    pub fn arm() -> Option<Self> {
        let stoppable = fs::read_to_string(NO_WAY_OUT).is_ok_and(|text| text.trim() == "0");
        if !stoppable {
            return None;
        }
        let device = OpenOptions::new().write(true).open(NODE).ok()?;
        Some(Self { device })
    }

    /// Starts the count anew.
    ///
    /// # Errors
    /// The driver's.
    pub fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b".")
    }

    /// Stops it. Dropped without this, it resets the machine.
    ///
    /// # Errors
    /// The driver's; the watchdog is still armed then.
    pub fn disarm(mut self) -> io::Result<()> {
        // The one character after which closing the device means stopping it.
        self.device.write_all(b"V")
    }
}
