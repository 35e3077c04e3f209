//! What a device does without being told: it looks for updates, and reboots into them.
//!
//! [`Policy`] brings together when to look ([`crate::schedule`]), a stick that somebody put in ([`crate::stick`]) and when
//! to reboot ([`crate::reboot_policy`]). All that it sees and does goes through [`World`]: the service's, or a test's.

use std::path::Path;
use std::time::Duration;

use crate::reboot_policy::{People, RebootPolicy, Situation, Step, Why};
use crate::reboot_window::{LocalZone, Zone};
use crate::schedule::{Facts, Hold, Moment, Next, Outcome, Schedule};
use crate::settings::{RebootStrategy, Settings};
use crate::stick::{News, Watch};

/// How often a folder of payloads and everything else is looked at.
const TURN: Duration = Duration::from_secs(60);
/// How long the payloads of a stick have to stay as they are.
const COPYING: Duration = Duration::from_secs(5);
const TURN_MIN: Duration = Duration::from_secs(1);

/// What the service is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// The running slot is confirmed.
    pub confirmed: bool,
    /// A check or an installation is under way.
    pub busy: bool,
    /// Version of the release that is staged.
    pub staged: Option<String>,
    /// Number of the last piece of work that ended, and how.
    pub ended: Option<(u64, Outcome)>,
}

/// What a policy sees, and what it can do.
pub trait World {
    /// The settings as they are now; people change them.
    fn settings(&mut self) -> Settings;
    fn now(&mut self) -> Moment;
    /// Seconds since 1970 by the clock that people set.
    fn unix(&mut self) -> i64;
    /// See [`Situation::not_before`].
    fn not_before(&mut self) -> i64;
    fn random(&mut self) -> u64;
    fn doing(&mut self) -> Doing;
    /// `None`: it can't be read.
    fn zone(&mut self) -> Option<LocalZone>;
    fn people(&mut self) -> People;
    /// Tells those who are logged in.
    fn tell(&mut self, line: &str);
    /// Begins to look for an update and to install what is found; the number of that piece of work, or `None` if it
    /// could not be begun. With `stick` only the folder of payloads counts, not the server.
    fn look(&mut self, settings: &Settings, stick: bool) -> Option<u64>;
    /// Reboots. Returns only if that failed.
    fn reboot(&mut self);
}

/// The memory of what a device does without being told.
#[derive(Debug)]
pub struct Policy {
    schedule: Schedule,
    stick: Watch,
    reboot: RebootPolicy,
    /// The piece of work that was begun here, and whether it counts for the schedule.
    awaited: Option<(u64, bool)>,
    said: Option<Why>,
}

impl Policy {
    /// The policy of a service that starts now.
    pub fn start(world: &mut dyn World) -> Self {
        let now = world.now();
        Self {
            schedule: Schedule::start(now, &mut || world.random()),
            stick: Watch::default(),
            reboot: RebootPolicy::default(),
            awaited: None,
            said: None,
        }
    }

    /// Does what is due, and says how long to sleep until the next turn at the most.
    pub fn turn(&mut self, world: &mut dyn World) -> Duration {
        let settings = world.settings();
        let doing = world.doing();
        self.learn(world, &settings, &doing);
        let update = self.update(world, &settings, &doing);
        let reboot = self.reboot(world, &settings, &doing);
        update.min(reboot).clamp(TURN_MIN, TURN)
    }

    /// Failed checks since the last one that was answered.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.schedule.failures()
    }

    fn learn(&mut self, world: &mut dyn World, settings: &Settings, doing: &Doing) {
        let (Some((number, counts)), Some((ended, outcome))) = (self.awaited, doing.ended) else {
            return;
        };
        // Only the last end is known; what began later ended later.
        if ended < number {
            return;
        }
        self.awaited = None;
        if counts {
            self.plan(world, settings, outcome);
        }
    }

    fn plan(&mut self, world: &mut dyn World, settings: &Settings, outcome: Outcome) {
        let now = world.now();
        let random = &mut || world.random();
        self.schedule.checked(now, settings, outcome, random);
        let minutes = self.schedule.left(now).as_secs() / 60;
        log::info!("the next look for an update is in {minutes} min");
    }

    fn update(&mut self, world: &mut dyn World, settings: &Settings, doing: &Doing) -> Duration {
        let facts = Facts {
            confirmed: doing.confirmed,
            busy: doing.busy || self.awaited.is_some(),
            staged: doing.staged.is_some(),
        };
        let hold = Hold::of(settings, &facts);
        let now = world.now();
        match self.schedule.next(now, hold) {
            Next::Check => {
                self.awaited = world.look(settings, false).map(|number| (number, true));
                if self.awaited.is_none() {
                    self.plan(world, settings, Outcome::Failed { retry_after: None });
                }
                TURN
            }
            Next::Sleep(time) => {
                // A stick is noticed at once, but neither now nor later while something speaks against it.
                let folder = settings.payload_dir.as_ref().filter(|_| hold.is_none());
                let news = folder.map(|folder| self.stick.look(Path::new(folder.as_str())));
                match news {
                    Some(News::Here) => {
                        self.awaited = world.look(settings, true).map(|number| (number, false));
                        time
                    }
                    Some(News::Growing) => time.min(COPYING),
                    Some(News::Nothing) | None => time,
                }
            }
        }
    }

    fn reboot(&mut self, world: &mut dyn World, settings: &Settings, doing: &Doing) -> Duration {
        let staged = doing.staged.as_deref().filter(|_| !doing.busy);
        // Looking who is there costs more than all the rest, and matters to one strategy only.
        let asks = staged.is_some() && settings.reboot_strategy == RebootStrategy::BestEffort;
        let people = match asks {
            true => world.people(),
            false => People::Nobody,
        };
        let zone = match staged.is_some() && settings.window_start.is_some() {
            true => world.zone(),
            false => None,
        };
        let situation = Situation {
            staged: staged.is_some(),
            settings,
            unix: world.unix(),
            not_before: world.not_before(),
            zone: zone.as_ref().map(|zone| zone as &dyn Zone),
            people,
            now: world.now(),
        };
        let version = staged.unwrap_or_default();
        match self.reboot.step(&situation) {
            Step::Wait { why, sleep } => {
                if self.said.replace(why) != Some(why) && why != Why::NothingStaged {
                    log::info!("reboot into {version}: not now: {why}");
                }
                sleep
            }
            Step::Warn { left } => {
                let minutes = left.as_secs().div_ceil(60);
                let unit = if minutes == 1 { "minute" } else { "minutes" };
                world.tell(&format!(
                    "tandem: this device reboots into {version} in {minutes} {unit}"
                ));
                TURN_MIN
            }
            Step::Reboot => {
                log::info!("rebooting into {version}");
                world.tell(&format!("tandem: this device reboots into {version} now"));
                world.reboot();
                let now = world.now();
                self.reboot.failed(now);
                TURN
            }
        }
    }
}

#[cfg(test)]
mod tests;
