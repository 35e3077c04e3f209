//! The order of the writes themselves, where no cut can show that it is wrong.

use std::ops::Range;

use super::disk::{Event, Fault, Write};
use super::judge::{Case, Judged, must};
use super::operation::Operation;

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    PrimaryEntries,
    PrimaryHeader,
    BackupEntries,
    BackupHeader,
    Environment,
    Other,
}

impl Target {
    const fn is_table(&self) -> bool {
        !matches!(self, Self::Environment | Self::Other)
    }
}

/// Each copy of the table is written completely, entries before header, and flushed before the other is touched; the
/// backup first, unless the primary is rebuilt from it. Where bootability is given, the authority is written last.
pub fn order(case: &Case<'_>, log: &[Event]) -> Judged {
    if matches!(case.operation, Operation::Start) {
        return Ok(());
    }
    let both_were_good = case.tables.iter().all(Option::is_some);
    let mut epoch: Vec<Target> = Vec::new();
    let mut commits: Vec<Target> = Vec::new();
    for event in log {
        let Event::Write(write) = event else {
            let copies = epoch.iter().filter(|target| target.is_table());
            let backup = |t: &Target| matches!(t, Target::BackupEntries | Target::BackupHeader);
            let kinds: Vec<bool> = copies.map(backup).collect();
            let one_copy = kinds.windows(2).all(|pair| pair[0] == pair[1]);
            must(6, one_copy, || {
                "both copies of the table are written without a flush between".to_owned()
            })?;
            commits.extend(kinds.first().map(|backup| match backup {
                true => Target::BackupHeader,
                false => Target::PrimaryHeader,
            }));
            epoch.clear();
            continue;
        };
        let target = target(case, &(write.at..write.at + write.data.len() as u64));
        let header_first = match target {
            Target::PrimaryEntries => epoch.contains(&Target::PrimaryHeader),
            Target::BackupEntries => epoch.contains(&Target::BackupHeader),
            _ => false,
        };
        must(6, !header_first, || {
            "a header is written before its entries".to_owned()
        })?;
        epoch.push(target);
    }
    if both_were_good {
        must(6, commits.first() != Some(&Target::PrimaryHeader), || {
            "the primary copy of the table is written before the backup".to_owned()
        })?;
    }
    Ok(())
}

/// Of an operation that was done: while the mirror is not written, the authority does not give what the mirror does not
/// know; a slot is recorded as confirmed when the loader takes it for that.
pub fn stores_in_order(case: &Case<'_>, log: &[Event]) -> Judged {
    authority_last(case, log)?;
    if case.operation != Operation::MarkSuccessful {
        return Ok(());
    }
    let confirmed = &case.fixture.layout.confirmed;
    let rank = |write: &Write| {
        let place = write.at..write.at + write.data.len() as u64;
        match target(case, &place) {
            Target::Environment => 1,
            table if table.is_table() => 0,
            _ if place.start < confirmed.end && confirmed.start < place.end => 2,
            _ => 3,
        }
    };
    let ranks = log.iter().filter_map(|event| match event {
        Event::Write(write) => Some(rank(write)),
        Event::Flush => None,
    });
    must(4, ranks.is_sorted(), || {
        "the order is not mirror, authority, record".to_owned()
    })
}

fn authority_last(case: &Case<'_>, log: &[Event]) -> Judged {
    let gives = matches!(
        case.operation,
        Operation::Activate | Operation::Rollback | Operation::Install(_) | Operation::Resume(..)
    );
    if !gives {
        return Ok(());
    }
    let mut targets = log.iter().filter_map(|event| match event {
        Event::Write(write) => Some(target(
            case,
            &(write.at..write.at + write.data.len() as u64),
        )),
        Event::Flush => None,
    });
    let last = targets.rfind(|target| target.is_table() || *target == Target::Environment);
    let mirrored = case.fixture.board.has_environment();
    must(
        4,
        !mirrored || !last.as_ref().is_some_and(Target::is_table),
        || "the mirror is written after the authority that gives".to_owned(),
    )
}

/// After a failed request to the backup the primary is left alone.
pub fn stopped(case: &Case<'_>, log: &[Event], fault: Fault) -> Judged {
    if !matches!(fault, Fault::WritesFrom(_)) {
        return Ok(());
    }
    order(case, log)
}

fn target(case: &Case<'_>, place: &Range<u64>) -> Target {
    let sector = case.start.sector_size().bytes();
    let table = 16384_u64.div_ceil(sector) * sector;
    let end = case.start.len();
    let inside = |range: Range<u64>| range.start <= place.start && place.end <= range.end;
    if inside(sector..2 * sector) {
        Target::PrimaryHeader
    } else if inside(2 * sector..2 * sector + table) {
        Target::PrimaryEntries
    } else if inside(end - sector..end) {
        Target::BackupHeader
    } else if inside(end - sector - table..end - sector) {
        Target::BackupEntries
    } else if case.fixture.layout.environment.iter().any(|copy| {
        // A write is a whole sector, the environment may be less.
        place.start < copy.end && copy.start < place.end
    }) {
        Target::Environment
    } else {
        Target::Other
    }
}
