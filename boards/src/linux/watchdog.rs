//! `/dev/watchdog0` (Linux: `Documentation/watchdog/watchdog-api.rst`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bootctl::ioctl;

use crate::watchdog::{Watchdog, interval};

const NODE: &str = "/dev/watchdog0";
/// Contains 0 if an armed watchdog can be stopped again.
const NO_WAY_OUT: &str = "/sys/class/watchdog/watchdog0/nowayout";
/// What every device is asked for; one that can't keeps what it has.
const WANTED: Duration = Duration::from_secs(30);
/// `tandem.watchdog=off` on the kernel command line: an emulated one resets the machine as soon as it is armed.
const PARAMETER: &str = "tandem.watchdog=";

/// The first watchdog of the machine, armed.
#[derive(Debug)]
pub struct LinuxWatchdog {
    device: File,
    timeout: Duration,
}

/// Whether a kernel command line lets a watchdog be armed.
#[must_use]
pub fn is_allowed(cmdline: &str) -> bool {
    let words = cmdline.split_ascii_whitespace();
    let last = words.filter_map(|w| w.strip_prefix(PARAMETER)).next_back();
    last != Some("off")
}

impl LinuxWatchdog {
    /// Opens, and thereby arms, the first watchdog, asks for a time-out and reads back which it has; `None` if there is
    /// none yet, somebody else has it, or it could not be stopped again, since then it would reset a machine that runs
    /// well.
    #[must_use]
    pub fn arm() -> Option<Self> {
        Self::arm_at(Path::new(NODE), Path::new(NO_WAY_OUT))
    }

    fn arm_at(node: &Path, no_way_out: &Path) -> Option<Self> {
        let stoppable = fs::read_to_string(no_way_out).is_ok_and(|text| text.trim() == "0");
        if !stoppable {
            return None;
        }
        let device = OpenOptions::new().write(true).open(node).ok()?;
        let wanted = u32::try_from(WANTED.as_secs()).unwrap_or(u32::MAX);
        // A time-out out of its range is refused, and what it has counts.
        let asked = ioctl::set_watchdog_timeout(&device, wanted);
        let seconds = ioctl::watchdog_timeout(&device).or(asked);
        // A driver without either: the shortest of the usual ones.
        let timeout = seconds.map_or(SHORTEST_USUAL, |s| Duration::from_secs(s.into()));
        Some(Self { device, timeout })
    }
}

/// Hardware that counts to less, such as a Raspberry Pi's with its 16 s, is fed by the kernel in between.
const SHORTEST_USUAL: Duration = Duration::from_secs(10);

impl Watchdog for LinuxWatchdog {
    type Error = io::Error;

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn feed(&mut self) -> io::Result<()> {
        self.device.write_all(b".")
    }

    fn release(mut self) -> io::Result<()> {
        // The one character after which closing the device means stopping it.
        self.device.write_all(b"V")
    }
}

/// Feeds a watchdog while its program does something else, until it is dropped.
///
/// A program that is killed leaves the watchdog armed, and the machine is reset.
#[derive(Debug)]
pub struct Feeder {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Feeder {
    /// Begins to feed.
    ///
    /// # Errors
    /// No thread can be started; the watchdog is stopped then.
    pub fn start<W>(watchdog: W) -> io::Result<Self>
    where
        W: Watchdog<Error = io::Error> + Send + 'static,
    {
        let (stop, stopped) = mpsc::channel();
        // A thread that can't be started would take the watchdog with it, armed.
        let (hand_over, taken) = mpsc::sync_channel::<W>(1);
        let thread = thread::Builder::new().spawn(move || {
            let Ok(mut watchdog) = taken.recv() else {
                return;
            };
            let pause = interval(watchdog.timeout());
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                // Once may come to nothing; if all do, the machine is reset, which is what it is for.
                watchdog.feed().ok();
            }
            watchdog.release().ok();
        });
        match thread {
            Ok(thread) => {
                hand_over
                    .send(watchdog)
                    .map_err(|_| io::Error::other("the thread ended"))?;
                Ok(Self {
                    stop: Some(stop),
                    thread: Some(thread),
                })
            }
            Err(error) => {
                watchdog.release()?;
                Err(error)
            }
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn only_one_that_can_be_stopped_is_armed() {
        let folder = tempfile::tempdir().unwrap();
        let [node, flag] = ["watchdog0", "nowayout"].map(|name| folder.path().join(name));
        assert!(LinuxWatchdog::arm_at(&node, &flag).is_none());
        fs::write(&node, "").unwrap();
        assert!(LinuxWatchdog::arm_at(&node, &flag).is_none());
        fs::write(&flag, "1\n").unwrap();
        assert!(LinuxWatchdog::arm_at(&node, &flag).is_none());
        fs::write(&flag, "0\n").unwrap();
        let mut watchdog = LinuxWatchdog::arm_at(&node, &flag).unwrap();
        // A plain file knows no time-outs.
        assert_eq!(watchdog.timeout(), SHORTEST_USUAL);
        watchdog.feed().unwrap();
        watchdog.feed().unwrap();
        watchdog.release().unwrap();
        assert_eq!(fs::read(&node).unwrap(), b"..V");
    }

    #[test]
    fn the_command_line_can_leave_it_alone() {
        for (line, allowed) in [
            ("", true),
            ("tandem.watchdog=off", false),
            ("tandem.watchdog=off tandem.watchdog=on", true),
            ("xtandem.watchdog=off", true),
        ] {
            assert_eq!(is_allowed(line), allowed, "{line}");
        }
    }

    #[derive(Clone, Default)]
    struct Mock(Arc<Mutex<String>>);

    impl Watchdog for Mock {
        type Error = io::Error;

        fn timeout(&self) -> Duration {
            Duration::ZERO
        }

        fn feed(&mut self) -> io::Result<()> {
            self.0.lock().unwrap().push('.');
            Err(io::Error::other("once"))
        }

        fn release(self) -> io::Result<()> {
            self.0.lock().unwrap().push('V');
            Ok(())
        }
    }

    #[test]
    fn it_is_fed_until_the_work_is_done_and_then_stopped() {
        let mock = Mock::default();
        let feeder = Feeder::start(mock.clone()).unwrap();
        while mock.0.lock().unwrap().len() < 2 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(feeder);
        let log = mock.0.lock().unwrap().clone();
        assert!(log.starts_with("..") && log.ends_with('V'), "{log}");
    }
}
