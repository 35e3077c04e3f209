//! The process that ends a boot which does not come to its end.
//!
//! It is started before anything is mounted, stays behind when the root is switched, and needs nothing but memory until
//! the deadline: an emergency mode, a failed service or a program that hangs does not reach it. It ends once the running
//! slot is confirmed; if that has not happened at the deadline, it resets the machine, and the loader spends the next try
//! or falls back.

mod waiting;

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bootctl::active::active_usr;
use bootctl::control::{Control, StateReport};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::Gpt;
use bootctl::{BootState, Priority, Slot};
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;
use nix::unistd::{chdir, chroot, fchdir, getpid, setsid};

use self::waiting::{Answer, Looks, Mending};
use super::failure::{Progress, record_within, reset};
use super::{CMDLINE, mounts, parameters, say};
use crate::led::Pattern;
use crate::linux::signal::Signal;
use crate::linux::watchdog::{LinuxWatchdog, is_allowed};
use crate::watchdog::{Watchdog, interval};

/// The argument that makes `tandem-init` this process.
pub const ARGUMENT: &str = "deadline";
/// systemd spares processes with `@` when it switches roots or shuts down.
const NAME: &str = "@tandem-deadline";
const PROGRAM: &str = "/init";

const POLL: Duration = Duration::from_millis(50);
/// How often the slot store is looked at, and the watchdog fed, unless that wants it more often.
const LOOK: Duration = Duration::from_secs(5);
const RECORD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a look may take before this process does something else meanwhile.
const ANSWER: Duration = Duration::from_secs(2);
/// The same at the deadline.
const LAST_ANSWER: Duration = Duration::from_secs(10);

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

/// Waits until the running slot is confirmed, feeding the hardware watchdog meanwhile, hands that over, and returns; at
/// the deadline it resets the machine.
pub fn run() {
    let start = Instant::now();
    if let Err(error) = setsid() {
        say(&format!("deadline: {error}"));
    }
    let mut system = None;
    let mut watchdog: Option<LinuxWatchdog> = None;
    let mut light = Light::default();
    let mut next_look = LOOK;
    let mut looks = Looks::new();
    let mut mending = Mending::default();
    let judgement = loop {
        if system.is_none() {
            system = System::find();
        }
        let limit = system
            .as_ref()
            .map_or(parameters::DEFAULT_DEADLINE, System::limit);
        let is_mending = system.as_ref().is_some_and(System::is_mending);
        let limit = limit.saturating_add(mending.so_far(start.elapsed(), is_mending));
        // Drivers are loaded, and /dev is within reach, only at the beginning.
        if watchdog.is_none()
            && start.elapsed() < LOOK
            && system.as_ref().is_some_and(System::may_arm)
        {
            watchdog = LinuxWatchdog::arm();
        }
        let every = watchdog
            .as_ref()
            .map_or(LOOK, |w| interval(w.timeout()).min(LOOK));
        next_look = next_look.min(start.elapsed().saturating_add(every));
        if start.elapsed() >= next_look.min(limit) {
            next_look = start.elapsed().saturating_add(every);
            if let Some(Err(error)) = watchdog.as_mut().map(Watchdog::feed) {
                say(&format!("feed the watchdog: {error}"));
            }
            // The last word is waited for, but a watchdog for nothing.
            let is_last = start.elapsed() >= limit;
            let patience = match is_last {
                true if watchdog.is_none() => LAST_ANSWER,
                true => every,
                false => ANSWER.min(every / 2),
            };
            match looks.take(|| look(system.as_ref()), patience) {
                Ok(judgement) => break judgement,
                Err(error) if is_last => {
                    light.show(system.as_ref(), Pattern::Failed);
                    expire(&error, limit)
                }
                // Not known yet: a confirmed slot is not called a trial.
                Err(_) if looks.is_waiting() => {}
                // Not confirmed yet, or not even mounted.
                Err(_) => light.show(system.as_ref(), Pattern::OnTrial),
            }
        }
        let settled = start.elapsed() >= LOOK && system.is_some();
        let wake = next_look.min(limit).saturating_sub(start.elapsed());
        thread::sleep(if settled { wake } else { POLL.min(every) });
    };
    if let Some(Err(error)) = watchdog.map(Watchdog::release) {
        say(&format!("stop the watchdog: {error}"));
    }
    light.finish(system.as_ref(), judgement);
}

/// What the process keeps of the system that it was started in.
struct System {
    cmdline: String,
    /// Kept open, it stays in reach after it has been moved into the new root.
    proc: File,
    /// The initramfs. It is in memory, so that it answers.
    root: File,
}

impl System {
    fn find() -> Option<Self> {
        let cmdline = fs::read_to_string(CMDLINE).ok()?;
        // If the memory runs out, this must not be what the kernel ends.
        fs::write("/proc/self/oom_score_adj", "-1000").ok();
        let proc = File::open("/proc").ok()?;
        let root = File::open("/").ok()?;
        Some(Self {
            cmdline,
            proc,
            root,
        })
    }

    /// `e2fsck` is at work on ROOT.
    fn is_mending(&self) -> bool {
        let mark = mounts::MENDING.trim_start_matches('/');
        fstatat(&self.root, mark, AtFlags::empty()).is_ok()
    }

    fn limit(&self) -> Duration {
        parameters::deadline(&self.cmdline)
    }

    fn may_arm(&self) -> bool {
        is_allowed(&self.cmdline)
    }
}

/// The board's light, from the first look on: a confirmed slot is not called a trial.
#[derive(Default)]
struct Light {
    signal: Option<Signal>,
    shown: Option<Pattern>,
    broken: bool,
}

impl Light {
    fn show(&mut self, system: Option<&System>, pattern: Pattern) {
        let Some(system) = system.filter(|_| !self.broken) else {
            return;
        };
        if let Some(signal) = &self.signal {
            if self.shown != Some(pattern) {
                signal.show(pattern);
            }
        } else {
            match Signal::of(&system.cmdline, pattern) {
                Ok(signal) => self.signal = signal,
                Err(error) => {
                    self.broken = true;
                    say(&format!("{error}"));
                }
            }
        }
        self.shown = Some(pattern);
    }

    /// Long enough to be seen.
    fn finish(mut self, system: Option<&System>, judgement: Judgement) {
        let (pattern, rounds) = match judgement {
            Judgement::Good => (Pattern::Good, 1),
            Judgement::FellBack => (Pattern::Failed, 10),
        };
        self.show(system, pattern);
        if let Some(signal) = self.signal {
            signal.finish(pattern, rounds);
        }
    }
}

/// Begins a look.
fn look(system: Option<&System>) -> Result<Answer<Judgement>> {
    let system = system.context("find /proc")?;
    let proc = system.proc.try_clone().context("keep /proc")?;
    let (done, answer) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        // Nobody may be waiting any more.
        done.send(follow_init(&proc).and_then(|()| judge())).ok();
    })?;
    Ok(answer)
}

/// Sees the filesystem as process 1 does: that is where the slot and ROOT are mounted. For all threads of this process.
fn follow_init(proc: &File) -> Result<()> {
    fchdir(proc)
        .and_then(|()| chdir("1/root"))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .context("enter the root of process 1")
}

/// How a machine that may go on running does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Good,
    /// The other slot holds a release that did not prove itself.
    FellBack,
}

/// Ok when the machine may go on running as it is.
fn judge() -> Result<Judgement> {
    let usr = active_usr()?;
    let slot = usr
        .slot()
        .context("find the running slot: /usr is not one")?;
    let open = || Disk::open(&usr.disk_path, Access::Read);
    let report = match Control::open(open()?).and_then(|mut control| control.state()) {
        Ok(report) => report,
        Err(error) => return judge_by_table(open()?, slot).with_context(|| error.to_string()),
    };
    if may_run(slot, &report) {
        return Ok(report.state.map_or(Judgement::Good, |s| judgement(slot, s)));
    }
    bail!("slot {slot} is not confirmed")
}

/// Where all else can't be read, the disk descriptor, say, which no loader needs: a slot that is confirmed in the partition
/// table is confirmed.
fn judge_by_table(mut disk: Disk, slot: Slot) -> Result<Judgement> {
    let state = Gpt::read(&mut disk)?.boot_state()?;
    match may_run_with(slot, state) {
        true => Ok(judgement(slot, state)),
        false => bail!("slot {slot} is not confirmed in the partition table"),
    }
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

/// A slot that has a priority but no try left was given up.
fn judgement(slot: Slot, state: BootState) -> Judgement {
    let other = state.get(slot.other());
    if other.priority > Priority::NEVER && !other.is_candidate() {
        Judgement::FellBack
    } else {
        Judgement::Good
    }
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
    use bootctl::{Attributes, Tries};

    fn attributes(priority: u8, tries: u8, successful: bool) -> Attributes {
        Attributes {
            priority: Priority::new(priority).unwrap(),
            tries: Tries::new(tries).unwrap(),
            successful,
        }
    }

    #[test]
    fn a_release_that_was_given_up_is_shown() {
        let a = attributes(1, 0, true);
        for (b, shown) in [
            (attributes(0, 0, false), Judgement::Good),
            (attributes(2, 3, false), Judgement::Good),
            (attributes(2, 0, true), Judgement::Good),
            (attributes(2, 0, false), Judgement::FellBack),
        ] {
            assert_eq!(judgement(Slot::A, BootState { a, b }), shown, "{b:?}");
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
