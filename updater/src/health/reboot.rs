//! Reboots the running system, politely where something is there to ask, and in any case.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::reboot::{RebootMode, reboot as reboot_now};
use nix::sys::signal::{SigSet, Signal};

/// Where systemd shows that it runs.
const SYSTEMD: &str = "/run/systemd/system";
/// How long systemd may take to stop its services.
const POLITE: Duration = Duration::from_secs(120);
/// How long writing back may take; a medium that hangs must not keep us here.
const SYNC: Duration = Duration::from_secs(10);

/// Reboots. Returns only when that failed.
pub fn reboot() -> io::Error {
    // systemd stops us together with the other services; with SIGTERM blocked somebody is left to insist when one of
    // those hangs.
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    if let Err(errno) = terminate.thread_block() {
        log::warn!("block SIGTERM: {errno}");
    }
    if Path::new(SYSTEMD).is_dir() {
        match ask_systemd() {
            Ok(()) => {
                thread::sleep(POLITE);
                log::error!("systemd did not reboot within {} s", POLITE.as_secs());
            }
            Err(error) => log::error!("run systemctl reboot: {error}"),
        }
    }
    write_back();
    match reboot_now(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
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
