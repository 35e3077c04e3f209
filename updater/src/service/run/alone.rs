//! What the running device does without being told, as [`crate::policy`] decides it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use bootctl::exit::Exit;

use super::inherited::inherited;
use super::shared::Shared;
use crate::control_socket::Payload;
use crate::health::reboot::reboot;
use crate::journal::{self, Journal, Seen};
use crate::logins::Logins;
use crate::policy::{Doing, Policy, World};
use crate::reboot_policy::People;
use crate::reboot_window::LocalZone;
use crate::schedule::{self, Moment, Outcome};
use crate::service::Failure;
use crate::service::find::Finder;
use crate::service::place::Boot;
use crate::service::status::Operation;
use crate::service::work::Job;
use crate::settings::{self, Settings};

/// 2026-01-01, in seconds since 1970: this program is younger. A clock that starts anew is behind it.
const YOUNGER: i64 = 1_767_225_600;

/// The running device, as its policy sees it.
pub struct Device {
    shared: Arc<Shared>,
    root: PathBuf,
    /// What is wrong with the settings, as far as that has been said.
    said: BTreeSet<String>,
    /// The running slot was seen to be confirmed, which it then stays.
    confirmed: bool,
    /// The release that the last reboot should have started: there is none for it any more.
    inherited: Option<String>,
    /// The release that runs, as far as its slot says it.
    running: Option<[u8; 32]>,
    /// The last work whose end the policy has heard of.
    ended: Option<u64>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// Follows the policy until this process ends, in a thread of its own.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(), Failure> {
    let mut device = Device::new(Arc::clone(shared));
    let follow = move || {
        let mut policy = Policy::start(&mut device);
        loop {
            let sleep = policy.turn(&mut device);
            device.shared.rest(device.ended, sleep);
        }
    };
    thread::Builder::new()
        .name("policy".into())
        .spawn(follow)
        .map(drop)
        .map_err(|error| Failure::failed(format!("start policy: {error}")))
}

impl Device {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let place = shared.place();
        let (status, _) = shared.status();
        let waiting = status.operation == Operation::UpdatedNeedReboot;
        let waiting = waiting.then(|| status.version().to_owned());
        let run = place.run.as_deref();
        let journal = place.journal();
        let inherited = run.and_then(|run| inherited(run, waiting.as_deref(), journal.as_ref()));
        if let Some(version) = inherited.as_ref().filter(|_| waiting == inherited) {
            log::warn!(
                "{version} was staged when this machine started, and was not booted; this device does not reboot for it by itself"
            );
        }
        Self {
            root: place.root.clone().unwrap_or_else(|| "/".into()),
            shared,
            said: BTreeSet::new(),
            confirmed: false,
            inherited,
            running: None,
            ended: None,
        }
    }

    /// What the disk says, which somebody may have changed without asking the service.
    fn boot(&mut self) -> Boot {
        let boot = self.shared.place().boot().unwrap_or_else(|error| {
            // A device that can't read its own disk does nothing.
            log::warn!("{error}");
            Boot::default()
        });
        self.confirmed |= boot.confirmed;
        self.running = boot.running;
        if boot.staged.is_none() {
            self.inherited = None;
        }
        boot
    }
}

impl World for Device {
    fn settings(&mut self) -> Settings {
        let mut found = BTreeSet::new();
        let settings = settings::load_with(&self.root, &mut |problem| {
            if !self.said.contains(problem) {
                log::warn!("{problem}");
            }
            found.insert(problem.to_owned());
        });
        self.said = found;
        settings
    }

    fn now(&mut self) -> Moment {
        schedule::now()
    }

    fn unix(&mut self) -> i64 {
        i64::try_from(journal::now()).unwrap_or(i64::MAX)
    }

    fn not_before(&mut self) -> i64 {
        let journal = self.shared.place().journal();
        let newest = journal.as_ref().and_then(Journal::newest_signed);
        // A day that somebody got wrong in a release that never ran here must not keep the device from rebooting.
        let runs = newest.filter(|seen| self.running == Some(seen.release.id));
        runs.and_then(Seen::made).unwrap_or(0).max(YOUNGER)
    }

    fn random(&mut self) -> u64 {
        schedule::random()
    }

    fn doing(&mut self) -> Doing {
        let (status, ended) = self.shared.doing();
        self.ended = ended.as_ref().map(|(number, _)| *number);
        let busy = status.operation.is_busy();
        let waits = status.operation == Operation::UpdatedNeedReboot;
        // The disk is asked only where something may follow from it.
        let boot = match !busy && (waits || !self.confirmed) {
            true => self.boot(),
            false => Boot::default(),
        };
        let staged = boot.staged.filter(|_| waits).map(|staged| staged.version);
        Doing {
            confirmed: self.confirmed,
            busy,
            staged: staged.filter(|version| self.inherited.as_ref() != Some(version)),
            ended: ended.map(|(number, end)| (number, outcome(end.err()))),
        }
    }

    fn zone(&mut self) -> Option<LocalZone> {
        let zone = LocalZone::read(&self.root);
        zone.inspect_err(|error| log::warn!("{error}")).ok()
    }

    fn people(&mut self) -> People {
        Logins::look(Path::new("/")).people()
    }

    fn tell(&mut self, line: &str) {
        Logins::look(Path::new("/")).tell(line);
    }

    fn look(&mut self, _: &Settings, stick: bool) -> Option<u64> {
        let finder = match stick {
            true => Finder::Stick,
            false => Finder::Asked(Payload::Configured, None),
        };
        let job = Job {
            unasked: true,
            ..Job::default()
        };
        let started = self.shared.start(job, finder);
        started.inspect_err(|error| log::info!("{error}")).ok()
    }

    fn reboot(&mut self) {
        log::error!("reboot: {}", reboot());
    }
}

/// What a piece of work says about whoever was asked.
fn outcome(failure: Option<Failure>) -> Outcome {
    match failure {
        Some(failure) if !is_answer(failure.exit) => Outcome::Failed {
            retry_after: failure.retry_after,
        },
        _ => Outcome::Answered,
    }
}

const fn is_answer(exit: Exit) -> bool {
    matches!(exit, Exit::NoUpdate | Exit::AlreadyStaged | Exit::Refused)
}
