//! What becomes of a device after a cut: it starts, repairs what there is to repair, proves healthy or does not, and the
//! interrupted operation is repeated.

use super::device::{Start, confirm, healthy, start};
use super::disk::{Event, SimDisk};
use super::facts::Facts;
use super::fixture::Board;
use super::judge::{Case, Damage, Judged, Violation, foreign_variables, must, show};
use super::medium::Medium;
use super::operation::Operation;
use super::parse::{State, best};

/// What a release on trial does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Future {
    /// What its quality says.
    Healthy,
    /// It never proves healthy, until its tries are spent.
    Failing,
}

pub const FUTURES: [Future; 2] = [Future::Healthy, Future::Failing];

/// A recovery that went well.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Everything that was written on the way, up to the moment when the device had settled.
    pub log: Vec<Event>,
    /// A slot on trial ran on the way, so that the two futures differ.
    pub met_trial: bool,
}

/// No state needs more starts than this: nine tries of two slots.
const MAX_STARTS: usize = 20;

/// Lets a device recover from `medium`, whose environment's other variables must survive if they can.
///
/// # Errors
/// The first promise that is broken on the way.
pub fn recover(
    case: &Case<'_>,
    medium: &Medium,
    facts: &Facts,
    future: Future,
    damage: &Damage,
) -> Result<Recovered, Violation> {
    let mut disk = SimDisk::new(medium.clone(), None);
    if let Some(lba) = damage.unreadable {
        disk.make_unreadable(lba);
    }
    let fixture = case.fixture;
    let both_lost = facts.authority.is_none() && facts.record.is_none();
    // With neither store the loader has to guess once.
    let allowed = starts_allowed(facts.authority) + usize::from(both_lost);
    let mut met_trial = false;
    let mut starts = 0;
    let running = loop {
        starts += 1;
        must(11, starts <= allowed.min(MAX_STARTS), || {
            format!("no good slot after {allowed} starts, from {facts:?}")
        })?;
        let (attempts, outcome) = start(fixture, &mut disk, starts as u64);
        for attempt in &attempts {
            must(11, attempt.content.is_some(), || {
                format!(
                    "the loader took slot {}, which is no complete image: {facts:?}",
                    attempt.slot
                )
            })?;
        }
        let Start::Runs(runs) = outcome else {
            return Err(Violation {
                invariant: 11,
                what: format!("nothing runs: {outcome:?} from {facts:?}"),
            });
        };
        let now = Facts::of(fixture, &disk.now());
        case.judge_anytime(&disk.now(), &now, damage)?;
        let confirmed = now
            .authority
            .is_some_and(|state| state[runs.slot].confirmed());
        if confirmed {
            break runs.slot;
        }
        met_trial = true;
        if future == Future::Healthy && healthy(fixture, &runs) {
            match confirm(&disk, runs.slot) {
                Ok(()) => break runs.slot,
                // What was guessed and proves healthy has lost its place to the slot that is known to be confirmed.
                Err(_) if both_lost => {}
                Err(error) => {
                    return Err(Violation {
                        invariant: 11,
                        what: format!("mark-successful of slot {}: {error}", runs.slot),
                    });
                }
            }
        }
    };
    let log = disk.take_log();
    settled(case, &mut disk, facts, damage)?;
    quiet(case, &mut disk, running)?;
    repeat(case, &disk, running)?;
    must(0, disk.abuse().is_none(), || format!("{:?}", disk.abuse()))?;
    Ok(Recovered { log, met_trial })
}

/// One, and one more for each try of a slot that has not proven itself.
fn starts_allowed(authority: Option<State>) -> usize {
    let tries = authority
        .iter()
        .flatten()
        .filter(|attr| attr.candidate() && !attr.successful);
    1 + tries.map(|attr| usize::from(attr.tries)).sum::<usize>()
}

/// Everything is mended.
fn settled(case: &Case<'_>, disk: &mut SimDisk, before: &Facts, damage: &Damage) -> Judged {
    let medium = disk.now();
    let sector = medium.sector_size().bytes();
    // A slot is mended when it is written the next time.
    let left = disk.unreadable().into_iter().find(|lba| {
        let byte = lba * sector;
        !case
            .fixture
            .layout
            .usr
            .iter()
            .any(|usr| usr.contains(&byte))
    });
    must(11, left.is_none(), || {
        format!("sector {left:?} can still not be read")
    })?;
    let facts = Facts::of(case.fixture, &medium);
    case.judge_anytime(&medium, &facts, damage)?;
    let Some(state) = facts.authority else {
        return must(11, false, || "the environment is still lost".to_owned());
    };
    must(
        6,
        facts.tables[0].is_some() && facts.tables[0] == facts.tables[1],
        || format!("the copies of the table are not mended: {facts:?}"),
    )?;
    must(6, facts.backup_at_end, || {
        "the backup is not at the end".to_owned()
    })?;
    let follows = |mirror: State| {
        mirror.iter().zip(&state).all(|(mirror, now)| {
            mirror.priority == now.priority
                && mirror.successful == now.successful
                && mirror.tries >= now.tries
        })
    };
    must(4, facts.tables[0].is_some_and(follows), || {
        format!("the mirror does not follow the authority: {facts:?}")
    })?;
    let recorded = facts.record.as_ref().map(|record| record.slot);
    must(
        5,
        recorded.is_some_and(|slot| state[slot].confirmed()),
        || format!("the confirmed record names no confirmed slot: {facts:?}"),
    )?;
    if let Some(before) = before.authority {
        for slot in [0, 1] {
            must(4, state[slot].tries <= before[slot].tries, || {
                format!("tries rose from {} to {}", show(&before), show(&state))
            })?;
        }
    }
    let kept =
        |copies: &[Option<Vec<u8>>]| copies.iter().all(|value| value.as_deref() == Some(b"kept"));
    let had = kept(&foreign_variables(case.fixture, &case.start));
    let torn = damage.touches_environment(case.fixture);
    // The script of this board keeps nothing but its own in its sector.
    let shared = case.fixture.board != Board::Arm64Env;
    if had && shared && !torn && before.copies_intact(case.fixture) {
        let copies = foreign_variables(case.fixture, &medium);
        must(7, kept(&copies), || {
            "a variable of somebody else is gone".to_owned()
        })?;
    }
    Ok(())
}

/// A confirmed slot that is the loader's choice costs no write.
fn quiet(case: &Case<'_>, disk: &mut SimDisk, running: usize) -> Judged {
    let facts = Facts::of(case.fixture, &disk.now());
    let chosen = facts.authority.and_then(|state| {
        let slot = best(&state, |_, attr| attr.candidate())?;
        (state[slot].tries == 0).then_some(slot)
    });
    if chosen != Some(running) {
        return Ok(());
    }
    // The record may still name the other slot, which is confirmed too.
    let _ = confirm(disk, running);
    let _ = disk.take_log();
    let (_, outcome) = start(case.fixture, disk, 99);
    let again = confirm(disk, running);
    let log = disk.take_log();
    must(8, log.is_empty() && again.is_ok(), || {
        format!(
            "the start of a confirmed slot cost {} events ({outcome:?}, {again:?})",
            log.len()
        )
    })
}

/// The operation can be repeated, ends where its description says, and then finds nothing to do.
fn repeat(case: &Case<'_>, disk: &SimDisk, running: usize) -> Judged {
    if case.operation == Operation::Start || running != case.running {
        return Ok(());
    }
    let install = case.operation.installs().is_some();
    let sample = disk
        .now()
        .key()
        .iter()
        .fold(0, |sum: u64, key| sum.wrapping_add(*key));
    if install && !sample.is_multiple_of(case.repeat_one_of.max(1)) {
        return Ok(());
    }
    let again = Case::new(
        case.fixture,
        &disk.now(),
        running,
        case.operation,
        case.tries,
    );
    let _ = disk.take_log();
    let result = case.operation.run(case.fixture, disk, running, case.tries);
    let log = disk.take_log();
    let Some(states) = &again.states else {
        return must(11, result.is_err() && log.is_empty(), || {
            format!(
                "repeating it should be refused: {result:?}, {} events",
                log.len()
            )
        });
    };
    must(11, result.is_ok(), || {
        format!("it can't be repeated: {result:?}")
    })?;
    completed(&again, disk, states, &log)?;
    if !install {
        let result = case.operation.run(case.fixture, disk, running, case.tries);
        let log = disk.take_log();
        must(11, result.is_ok() && log.is_empty(), || {
            format!(
                "done twice it writes again: {result:?}, {} events",
                log.len()
            )
        })?;
    }
    Ok(())
}

/// What must hold when an operation has returned without an error.
pub fn completed(case: &Case<'_>, disk: &SimDisk, states: &[State], log: &[Event]) -> Judged {
    must(4, !matches!(log.last(), Some(Event::Write(_))), || {
        "it returned before everything was flushed".to_owned()
    })?;
    let medium = disk.now();
    let facts = Facts::of(case.fixture, &medium);
    let last = states.last().copied();
    must(4, facts.authority == last, || {
        let found = facts.authority.map(|state| show(&state));
        format!(
            "the authority holds {found:?} afterwards, not {:?}",
            last.map(|s| show(&s))
        )
    })?;
    let moves = states.len() > 1;
    let mirrors = facts.tables.iter().all(|table| *table == last);
    must(
        4,
        !moves || mirrors || states.first() == states.last(),
        || format!("the tables hold {:?} afterwards", facts.tables),
    )?;
    let copies = facts
        .copies
        .iter()
        .take(case.fixture.layout.environment.len());
    must(
        4,
        !moves || copies.clone().all(|copy| *copy == last),
        || format!("the environments hold {:?} afterwards", facts.copies),
    )?;
    let record = facts.record.as_ref().map(|record| record.slot);
    let wanted = match case.operation {
        Operation::MarkUnbootable
        | Operation::MarkSuccessful
        | Operation::Install(_)
        | Operation::Resume(..)
        | Operation::Activate => Some(case.running),
        _ => record,
    };
    must(3, record == wanted && record.is_some(), || {
        format!("the confirmed record names {record:?} afterwards, not {wanted:?}")
    })?;
    if let Some(number) = case.operation.installs() {
        let passive = 1 - case.running;
        must(
            1,
            facts.content[passive] == Some(number) && facts.slot_record[passive],
            || format!("slot {passive} does not hold the release: {facts:?}"),
        )?;
    }
    Ok(())
}
