//! What happens when the boot can't go on.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bootctl::Slot;
use nix::sys::reboot::{RebootMode, reboot};

use super::{CMDLINE, say};
use crate::led::Pattern;
use crate::linux::signal::Signal;

/// Long enough to read the reason.
const PAUSE: Duration = Duration::from_secs(10);
/// A disk that doesn't answer must not keep the machine from resetting.
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

const FOLDER: &str = "var/lib/tandem";
const FILE: &str = "boot-failure";

/// How far the boot has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub slot: Option<Slot>,
    /// Where ROOT is mounted and can be written.
    pub root: Option<PathBuf>,
}

/// Says and records why, and resets the machine after a pause.
pub fn give_up(progress: &Progress, reason: &str) -> ! {
    say(reason);
    let cmdline = fs::read_to_string(CMDLINE).unwrap_or_default();
    // Shown until the machine is reset.
    let _signal = Signal::of(&cmdline, Pattern::Failed);
    record_within(RECORD_PATIENCE, progress, reason);
    say(&format!("reset in {} seconds", PAUSE.as_secs()));
    thread::sleep(PAUSE);
    reset()
}

/// Resets the machine. Nothing is synchronised: that is the caller's business, within bounds.
pub fn reset() -> ! {
    loop {
        // An error is the only way back.
        let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
        say(&format!("reset the machine: {error}"));
        thread::sleep(PAUSE);
    }
}

/// Records the reason and synchronises all filesystems, but waits no longer than `patience` for it.
pub fn record_within(patience: Duration, progress: &Progress, reason: &str) {
    let (done, finished) = mpsc::channel();
    let (progress, reason) = (progress.clone(), reason.to_owned());
    let worker = thread::Builder::new().spawn(move || {
        if let Some(root) = &progress.root
            && let Err(error) = record(root, progress.slot, &reason)
        {
            say(&format!("record the failure: {error}"));
        }
        nix::unistd::sync();
        // Nobody may be waiting any more.
        done.send(()).ok();
    });
    match worker {
        Ok(_) if finished.recv_timeout(patience).is_err() => say("record the failure: timed out"),
        Ok(_) => {}
        Err(error) => say(&format!("record the failure: {error}")),
    }
}

/// Replaces `var/lib/tandem/boot-failure` under `root` by one durable line, `slot=b REASON`.
fn record(root: &Path, slot: Option<Slot>, reason: &str) -> io::Result<()> {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder)?;
    let next = folder.join("boot-failure.new");
    let mut file = File::create(&next)?;
    file.write_all(line(slot, reason).as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, folder.join(FILE))?;
    File::open(&folder)?.sync_all()
}

fn line(slot: Option<Slot>, reason: &str) -> String {
    let slot = slot.map_or("unknown", Slot::as_str);
    let reason: String = reason
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("slot={slot} {reason}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_failure_is_one_line() {
        let root = tempfile::tempdir().unwrap();
        record(root.path(), Some(Slot::A), "first").unwrap();
        record(
            root.path(),
            Some(Slot::B),
            "mount /dev/vda4:\nno such device",
        )
        .unwrap();
        let folder = root.path().join(FOLDER);
        assert_eq!(
            fs::read_to_string(folder.join(FILE)).unwrap(),
            "slot=b mount /dev/vda4: no such device\n"
        );
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
    }

    #[test]
    fn a_slot_that_was_never_known_is_said_to_be_so() {
        assert_eq!(line(None, "x"), "slot=unknown x\n");
    }
}
