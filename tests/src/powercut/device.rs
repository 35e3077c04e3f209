//! A device between two starts: what `tandem-init` and the services do with the disk once the loader has chosen.

use bootctl::control::{Control, ControlError};
use bootctl::gpt::Guid;
use bootctl::transition::TryCount;

use super::cuts::Random;
use super::disk::{SimDisk, SimError};
use super::fixture::{Fixture, slot};
use super::loader::{self, Attempt, Env};
use super::release::Quality;

/// How one start ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// This slot runs.
    Runs(Attempt),
    /// The loader found nothing that loads, and resets.
    Nothing(Vec<Attempt>),
    /// init did not go on: it resets.
    Refused(Attempt),
}

/// Starts the machine: loader, init, `sync`. Everything that fails there is logged on a real device and goes on.
#[must_use]
pub fn start(fixture: &Fixture, disk: &mut SimDisk, seed: u64) -> (Vec<Attempt>, Start) {
    let attempts = loader::boot(fixture, disk);
    let Some(last) = attempts.last().filter(|last| last.loaded).cloned() else {
        return (attempts.clone(), Start::Nothing(attempts));
    };
    if !init(disk, &last, seed) {
        return (attempts, Start::Refused(last));
    }
    if let Ok(mut control) = Control::open(disk.clone()) {
        let _ = control.sync();
    }
    (attempts, Start::Runs(last))
}

/// The part of `tandem-init` that decides whether to go on, and what it writes before anything is mounted.
fn init(disk: &SimDisk, attempt: &Attempt, seed: u64) -> bool {
    let Ok(mut control) = Control::open(disk.clone()) else {
        return false;
    };
    let slot = slot(attempt.slot);
    let record = control.state().ok().and_then(|s| s.confirmed_record.ok());
    let fresh = record.is_some_and(|record| record.fresh);
    let named = record.map(|record| match attempt.slot {
        0 => record.usr_a,
        _ => record.usr_b,
    });
    let found = control
        .gpt()
        .usr(slot)
        .is_ok_and(|p| p.unique_guid.to_string() == attempt.usr_id);
    let by_record = fresh || named.is_some_and(|id| id.to_string() == attempt.usr_id);
    if !found && !by_record {
        return false;
    }
    let recorded = record.is_some_and(|record| record.slot == slot);
    if attempt.env == Env::Lost && !recorded && control.read_slot_record(slot).is_err() {
        return false;
    }
    let _ = prepare(&mut control, fresh, seed);
    true
}

fn prepare(
    control: &mut Control<SimDisk>,
    fresh: bool,
    seed: u64,
) -> Result<(), ControlError<SimError>> {
    if fresh {
        control.first_boot(new_guids(seed))?;
    }
    control.grow_root()?;
    Ok(())
}

/// Identifiers that differ from each other and follow from the seed.
pub fn new_guids(seed: u64) -> impl FnMut() -> Guid {
    let mut random = Random::new(seed);
    move || Guid((u128::from(random.next()) << 64 | u128::from(random.next())).to_le_bytes())
}

/// The health checks of the running slot have passed.
pub fn confirm(disk: &SimDisk, running: usize) -> Result<(), String> {
    let mut control = Control::open(disk.clone()).map_err(|e| e.to_string())?;
    control
        .mark_successful(slot(running))
        .map_err(|e| e.to_string())
}

/// Whether a slot proves healthy.
#[must_use]
pub fn healthy(fixture: &Fixture, attempt: &Attempt) -> bool {
    attempt
        .content
        .and_then(|number| fixture.releases.get(number))
        .is_some_and(|release| release.quality == Quality::Good)
}

/// A number of tries that may be asked for.
#[must_use]
pub fn try_count(tries: u8) -> TryCount {
    TryCount::new(tries).unwrap_or_default()
}
