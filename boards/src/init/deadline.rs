//! The process that ends a boot which does not come to its end.
//!
//! It is started before anything is mounted, stays behind when the root is switched, and needs nothing but memory until
//! the deadline: an emergency mode, a failed service or a program that hangs does not reach it. It ends once the running
//! slot is confirmed; if that has not happened at the deadline, it resets the machine, and the loader spends the next try
//! or falls back.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bootctl::active::active_usr;
use bootctl::control::{Control, StateReport};
use bootctl::disk::{Access, Disk};
use bootctl::{BootState, Slot};
use nix::unistd::{chdir, chroot, fchdir, getpid, setsid};

use super::failure::{Progress, record_within, reset};
use super::watchdog::Watchdog;
use super::{CMDLINE, parameters, say};

/// The argument that makes `tandem-init` this process.
pub const ARGUMENT: &str = "deadline";
/// systemd spares processes with `@` when it switches roots or shuts down.
const NAME: &str = "@tandem-deadline";
const PROGRAM: &str = "/init";

const POLL: Duration = Duration::from_millis(50);
/// How often the watchdog is fed and the slot store looked at.
const LOOK: Duration = Duration::from_secs(5);
const RECORD_PATIENCE: Duration = Duration::from_secs(10);

/// Starts the process.
///
/// # Errors
/// The program can't be started a second time.
pub fn start() -> Result<()> {
    Command::new(PROGRAM)
        .arg0(NAME)
        .arg(ARGUMENT)
        .spawn()
        .with_context(|| format!("start {PROGRAM}"))?;
    Ok(())
}

/// This process was started by [`start`].
pub fn is_me() -> bool {
    getpid().as_raw() != 1
        && env::args_os().next().is_some_and(|name| name == NAME)
        && env::args_os().nth(1).is_some_and(|word| word == ARGUMENT)
}

/// Waits until the running slot is confirmed, feeding the hardware watchdog meanwhile, and then returns; at the deadline
/// it resets the machine.
pub fn run() {
    let start = Instant::now();
    if let Err(error) = setsid() {
        say(&format!("deadline: {error}"));
    }
    let mut limit = parameters::DEFAULT_DEADLINE;
    let mut proc = None;
    let mut watchdog = None;
    let mut next_look = LOOK;
    loop {
        if proc.is_none() {
            // Kept open, /proc stays in reach after it has been moved into the new root.
            proc = read_limit(&mut limit);
        }
        // Drivers are loaded, and /dev is within reach, only at the beginning.
        if watchdog.is_none() && start.elapsed() < LOOK {
            watchdog = Watchdog::arm();
        }
        if start.elapsed() >= next_look.min(limit) {
            next_look = start.elapsed().saturating_add(LOOK);
            if let Some(Err(error)) = watchdog.as_mut().map(Watchdog::feed) {
                say(&format!("feed the watchdog: {error}"));
            }
            match follow_init(proc.as_ref()).and_then(|()| judge()) {
                Ok(()) => break,
                Err(error) if start.elapsed() >= limit => expire(&error, limit),
                // Not confirmed yet, or not even mounted.
                Err(_) => {}
            }
        }
        let settled = start.elapsed() >= LOOK && proc.is_some();
        let wake = next_look.min(limit).saturating_sub(start.elapsed());
        thread::sleep(if settled { wake } else { POLL });
    }
    if let Some(Err(error)) = watchdog.map(Watchdog::disarm) {
        say(&format!("stop the watchdog: {error}"));
    }
}

fn read_limit(limit: &mut Duration) -> Option<File> {
    let cmdline = fs::read_to_string(CMDLINE).ok()?;
    *limit = parameters::deadline(&cmdline);
    // If the memory runs out, this must not be what the kernel ends.
    fs::write("/proc/self/oom_score_adj", "-1000").ok();
    File::open("/proc").ok()
}

/// Sees the filesystem as process 1 does: that is where the slot and ROOT are mounted.
fn follow_init(proc: Option<&File>) -> Result<()> {
    let proc = proc.context("find /proc")?;
    fchdir(proc)
        .and_then(|()| chdir("1/root"))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .context("enter the root of process 1")
}

/// Ok when the machine may go on running as it is.
fn judge() -> Result<()> {
    let usr = active_usr()?;
    let slot = usr
        .slot()
        .context("find the running slot: /usr is not one")?;
    let disk = Disk::open(&usr.disk_path, Access::Read)?;
    let state = Control::open(disk)?.state()?;
    if may_run(slot, &state) {
        return Ok(());
    }
    bail!("slot {slot} is not confirmed")
}

fn may_run(slot: Slot, report: &StateReport) -> bool {
    match report.state {
        Some(state) => may_run_with(slot, state),
        // The loader boots the record's slot then, and no reset would change that.
        None => report.confirmed == Some(slot),
    }
}

/// A confirmed slot may, and one that has nothing to fall back to: a reset would only spend its tries.
fn may_run_with(slot: Slot, state: BootState) -> bool {
    state.get(slot).is_confirmed() || !state.get(slot.other()).is_candidate()
}

fn expire(error: &anyhow::Error, limit: Duration) -> ! {
    let reason = format!("not confirmed within {} s: {error:#}", limit.as_secs());
    say(&reason);
    let progress = Progress {
        slot: active_usr().ok().and_then(|usr| usr.slot()),
        root: Some(Path::new("/").to_owned()),
    };
    record_within(RECORD_PATIENCE, &progress, &reason);
    reset()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootctl::{Attributes, Priority, Tries};

    fn attributes(priority: u8, tries: u8, successful: bool) -> Attributes {
        Attributes {
            priority: Priority::new(priority).unwrap(),
            tries: Tries::new(tries).unwrap(),
            successful,
        }
    }

    #[test]
    fn only_a_slot_on_trial_with_something_to_fall_back_to_is_reset() {
        let confirmed = attributes(1, 0, true);
        let trial = attributes(2, 2, false);
        // Its last try is spent, it runs now.
        let last = attributes(2, 0, false);
        let unbootable = attributes(0, 0, false);
        for (a, b, b_may_run) in [
            (confirmed, trial, false),
            (confirmed, last, false),
            (confirmed, attributes(2, 0, true), true),
            (unbootable, trial, true),
            (unbootable, last, true),
            (trial, trial, false),
        ] {
            assert_eq!(
                may_run_with(Slot::B, BootState { a, b }),
                b_may_run,
                "{a:?} {b:?}"
            );
        }
    }
}
