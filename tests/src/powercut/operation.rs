//! Everything that writes, run by the product's own code, and what it may do to the boot state by its description.

use std::ops::Range;

use anyhow::Result;
use bootctl::control::{Control, Proof};
use updater::engine::{self, Observer, Phase, Target};
use updater::gates::Admitted;

use super::device::{new_guids, start, try_count};
use super::disk::SimDisk;
use super::fixture::{Fixture, slot};
use super::parse::{Attr, State};
use super::release::{BLOCK, Number};

/// One operation of a running device; `passive` is the slot that does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    Activate,
    /// Also what cancelling a staged update does.
    MarkUnbootable,
    MarkSuccessful,
    Rollback,
    Repair,
    Sync,
    /// New identifiers, if the disk still has its image's.
    FirstBoot,
    /// ROOT and the backup table to the end of the disk.
    Grow,
    /// A whole installation of this release.
    Install(Number),
    /// The same, where an interrupted one has left something; it said that so many blocks are durable.
    Resume(Number, u64),
    /// The machine starts: the loader spends a try, init and `sync` follow.
    Start,
}

impl Operation {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::MarkUnbootable => "mark-unbootable",
            Self::MarkSuccessful => "mark-successful",
            Self::Rollback => "rollback",
            Self::Repair => "repair",
            Self::Sync => "sync",
            Self::FirstBoot => "first-boot",
            Self::Grow => "relocate",
            Self::Install(_) => "apply",
            Self::Resume(..) => "resume",
            Self::Start => "start",
        }
    }

    /// The release that it installs.
    #[must_use]
    pub const fn installs(self) -> Option<Number> {
        match self {
            Self::Install(number) | Self::Resume(number, _) => Some(number),
            _ => None,
        }
    }

    /// Runs it. `running` is the active slot.
    ///
    /// # Errors
    /// What the product says.
    pub fn run(
        self,
        fixture: &Fixture,
        disk: &SimDisk,
        running: usize,
        tries: u8,
    ) -> Result<(), String> {
        if self == Self::Start {
            let _ = start(fixture, &mut disk.clone(), 78);
            return Ok(());
        }
        let active = slot(running);
        let passive = active.other();
        let mut control = Control::open(disk.clone()).map_err(|e| e.to_string())?;
        let tries = try_count(tries);
        match self {
            Self::Activate => control.activate(active, passive, tries, Proof::Record),
            Self::MarkUnbootable => control.invalidate(active, passive),
            Self::MarkSuccessful => control.mark_successful(active),
            Self::Rollback => control.rollback(active, tries),
            Self::Start => Ok(()),
            Self::Repair => control.repair().map(|_| ()),
            Self::Sync => control.sync().map(|_| ()),
            Self::FirstBoot => control.first_boot(new_guids(77)).map(|_| ()),
            Self::Grow => control.grow_root().map(|_| ()),
            Self::Install(number) | Self::Resume(number, _) => {
                let release = fixture.release(number).map_err(|e| e.to_string())?;
                let (source, tables, release) = release.accept().map_err(|e| e.to_string())?;
                let mut slot_io = disk.partition(control.slot_range(passive));
                let target = Target {
                    control: &mut control,
                    slot_io: &mut slot_io,
                    active,
                    tries,
                };
                let mut marks = Marks {
                    disk,
                    image: fixture.layout.image[1 - running].clone(),
                    broken: false,
                };
                let result = match self {
                    Self::Resume(_, mark) => {
                        engine::resume(source, &tables, &release, target, mark, &mut marks)
                    }
                    _ => engine::install(source, &tables, &release, target, &mut marks),
                };
                if marks.broken {
                    return Err("blocks are called durable that are not flushed".to_owned());
                }
                return result.map(|_| ()).map_err(|e| e.to_string());
            }
        }
        .map_err(|e| e.to_string())
    }

    /// The states that the authority goes through, the first being `state`; `None` where the description refuses it.
    #[must_use]
    pub fn states(self, state: State, running: usize, tries: u8) -> Option<Vec<State>> {
        let passive = 1 - running;
        let (own, other) = (state[running], state[passive]);
        let with = |active: Attr, changed: Attr| match running {
            0 => [active, changed],
            _ => [changed, active],
        };
        let on_trial = Attr {
            priority: 2,
            tries,
            successful: false,
        };
        let second = Attr { priority: 1, ..own };
        Some(match self {
            Self::Activate if own.confirmed() => vec![state, with(second, on_trial)],
            Self::MarkUnbootable if own.confirmed() => vec![state, with(own, Attr::UNBOOTABLE)],
            Self::MarkSuccessful if own.priority > 0 => {
                let proven = Attr {
                    tries: 0,
                    successful: true,
                    ..own
                };
                vec![state, with(proven, other)]
            }
            Self::Rollback if other.candidate() => {
                let preferred = match other.successful && own.confirmed() {
                    true => on_trial,
                    false => Attr {
                        priority: 2,
                        ..other
                    },
                };
                vec![state, with(second, preferred)]
            }
            Self::Install(_) | Self::Resume(..) if own.confirmed() => {
                vec![state, with(own, Attr::UNBOOTABLE), with(second, on_trial)]
            }
            Self::Repair | Self::Sync | Self::FirstBoot | Self::Grow => vec![state],
            // The loader's choice is the loader model's business.
            Self::Start => return None,
            _ => return None,
        })
    }
}

/// Holds what is called durable against the disk's cache.
struct Marks<'a> {
    disk: &'a SimDisk,
    /// The slot's image, in bytes of the disk.
    image: Range<u64>,
    broken: bool,
}

impl Observer for Marks<'_> {
    fn progress(&mut self, _: Phase, _: u64, _: u64) {}

    fn durable(&mut self, _: &Admitted, blocks: u64) {
        let end = self.image.start + blocks * BLOCK as u64;
        self.broken |= self.disk.is_volatile(&(self.image.start..end));
    }
}
