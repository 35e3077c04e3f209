//! What a slot on trial has to pass: the built-in check, then the required checks, each within its time.

use std::path::Path;
use std::time::{Duration, Instant};

use bootctl::control::Control;
use bootctl::exit::Exit;
use bootctl::slot_record::SlotRecordHeader;
use bootctl::{BlockIo, Slot};

use super::announcement::{self, AnnouncementError};
use super::checks::{self, Check, Tier};
use super::os_release::OsRelease;
use super::run::{Limits, run};
use crate::journal::{Cause, Reason};
use crate::keys;
use crate::settings::Settings;

/// Time from SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// A slot did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// What the program ends with.
    pub exit: Exit,
}

impl Failure {
    pub(super) fn medium(detail: &str) -> Self {
        Self {
            reason: Reason::new(Cause::Medium, detail),
            exit: Exit::Failed,
        }
    }

    fn health(detail: &str) -> Self {
        Self {
            reason: Reason::new(Cause::Health, detail),
            exit: Exit::Refused,
        }
    }
}

impl From<AnnouncementError> for Failure {
    fn from(error: AnnouncementError) -> Self {
        Self {
            reason: Reason::new(Cause::Announcement, &error.to_string()),
            exit: error.exit(),
        }
    }
}

/// The built-in check. A disk that was flashed carries no signatures, so that only the slot's own words count there.
pub(super) fn check_announcement<B: BlockIo>(
    control: &mut Control<B>,
    slot: Slot,
    header: &SlotRecordHeader,
    root: &Path,
    settings: &Settings,
) -> Result<(), Failure> {
    if !header.flashed {
        // At most 4 MiB: the header was checked.
        let mut body = vec![0; usize::try_from(header.body_len).unwrap_or(0)];
        control
            .read_slot_record_body(slot, header, &mut body)
            .map_err(|error| Failure::medium(&format!("slot {slot}: {error}")))?;
        let keys = keys::load_system(root).map_err(AnnouncementError::from)?;
        let required = settings.trial_signatures(keys.len());
        let board = control.descriptor().board.as_str();
        announcement::check_manifest(header, &body, &keys, required, board)?;
    }
    let os = OsRelease::read(root).map_err(AnnouncementError::from)?;
    announcement::check_os_release(header, &os)?;
    Ok(())
}

/// The scripts of a release and a device, with the time that is left for them.
#[derive(Debug)]
pub(super) struct Scripts<'a> {
    root: &'a Path,
    environment: Vec<(&'a str, &'a str)>,
    each: Duration,
    all: Duration,
    start: Instant,
}

impl<'a> Scripts<'a> {
    pub fn new(root: &'a Path, settings: &Settings, environment: Vec<(&'a str, &'a str)>) -> Self {
        Self {
            root,
            environment,
            each: Duration::from_secs(settings.health_timeout.into()),
            all: Duration::from_secs(settings.health_deadline.into()),
            start: Instant::now(),
        }
    }

    /// Runs the required checks in order, up to the first that fails.
    pub fn required(&self) -> Result<(), Failure> {
        let checks = checks::list(self.root, Tier::Required)
            .map_err(|error| Failure::health(&error.to_string()))?;
        for check in checks {
            self.run(&check).map_err(|why| Failure::health(&why))?;
        }
        Ok(())
    }

    /// Runs the wanted checks; what fails is logged.
    pub fn wanted(&self) {
        match checks::list(self.root, Tier::Wanted) {
            Err(error) => log::warn!("{error}"),
            Ok(checks) => {
                for check in checks {
                    if let Err(why) = self.run(&check) {
                        log::warn!("{why}");
                    }
                }
            }
        }
    }

    fn run(&self, check: &Check) -> Result<(), String> {
        let name = check.name();
        let left = self.all.saturating_sub(self.start.elapsed());
        if left.is_zero() {
            let all = self.all.as_secs();
            return Err(format!(
                "{name}: not run, the {all} s for all checks were over (HEALTH_DEADLINE)"
            ));
        }
        let limits = Limits {
            time: self.each.min(left),
            grace: GRACE,
        };
        let outcome = run(&check.path, &self.environment, limits);
        if outcome.passed() {
            log::info!("{name}: passed");
            return Ok(());
        }
        Err(format!("{name}: {outcome}"))
    }
}
