//! Reboots the running system, politely where something is there to ask, and in any case.
//!
//! systemd stops its services before it reboots, ours among them, and would wait for one that stays to insist. So a process
//! of its own does that. Its unit (`KillMode=process`) lets it be until all services are stopped; then systemd ends it
//! together with everything else.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot as reboot_now};
use nix::sys::signal::SigSet;

/// The hidden verb of `update_engine` that runs that process.
pub const VERB: &str = "insist";

/// Where systemd shows that it runs.
const SYSTEMD: &str = "/run/systemd/system";
/// This program.
const PROGRAM: &str = "/proc/self/exe";
/// How long systemd may take to stop its services.
const POLITE: Duration = Duration::from_secs(120);
/// How long writing back may take; a medium that hangs must not keep us here.
const SYNC: Duration = Duration::from_secs(10);

/// Reboots. Returns only when that failed. Where systemd runs it stops this process meanwhile.
pub fn reboot() -> io::Error {
    if Path::new(SYSTEMD).is_dir() {
        if let Err(error) = start_insisting() {
            log::warn!("start {PROGRAM} {VERB}: {error}");
        }
        match ask_systemd() {
            Ok(()) => return insist(),
            Err(error) => log::error!("run systemctl reboot: {error}"),
        }
    }
    reboot_at_once()
}

/// What the process of its own does. The signals that its parent keeps for a thread of its own are to end it.
pub fn stay_and_insist() -> io::Error {
    if let Err(errno) = SigSet::all().thread_unblock() {
        log::warn!("unblock signals: {errno}");
    }
    insist()
}

/// Gives systemd its time, then reboots without it. Returns only when that failed.
fn insist() -> io::Error {
    thread::sleep(POLITE);
    log::error!("systemd did not reboot within {} s", POLITE.as_secs());
    reboot_at_once()
}

fn start_insisting() -> io::Result<()> {
    Command::new(PROGRAM)
        .arg0("update_engine")
        .arg(VERB)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map(drop)
}

fn ask_systemd() -> io::Result<()> {
    let status = Command::new("systemctl")
        .args(["--no-block", "reboot"])
        .stdin(Stdio::null())
        .status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(status.to_string()))
}

fn reboot_at_once() -> io::Error {
    write_back();
    match reboot_now(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

fn write_back() {
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        nix::unistd::sync();
        // Nobody waits any more: the reboot has begun without us.
        let _ = done.send(());
    });
    if wait.recv_timeout(SYNC).is_err() {
        log::error!("writing back took more than {} s", SYNC.as_secs());
    }
}
