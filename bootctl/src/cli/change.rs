//! The verbs that write.

use bootctl::Slot;
use bootctl::control::{Control, Proof, StateReport};
use bootctl::disk::{Access, Disk, LOCK_PATIENCE};
use bootctl::exit::Exit;
use bootctl::transaction::TransactionLock;
use bootctl::transition::TryCount;

use super::error::CliError;
use super::json::{Changed, Repaired};
use super::{Arguments, output, target};

/// A transition that was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    Activate {
        slot: Slot,
        tries: TryCount,
        unverified: bool,
    },
    MarkSuccessful,
    MarkUnbootable {
        slot: Slot,
    },
    Rollback {
        tries: TryCount,
    },
}

impl Change {
    const fn verb(self) -> &'static str {
        match self {
            Self::Activate { .. } => "activate",
            Self::MarkSuccessful => "mark-successful",
            Self::MarkUnbootable { .. } => "mark-unbootable",
            Self::Rollback { .. } => "rollback",
        }
    }

    /// An installation that is under way must not find its slot bootable. To confirm the active slot is none of its
    /// business.
    const fn disturbs_installation(self) -> bool {
        !matches!(self, Self::MarkSuccessful)
    }
}

/// Carries a transition out under the whole-disk lock and prints the state after it.
pub fn run(arguments: &Arguments, change: Change) -> Result<Exit, CliError> {
    let path = target::path(arguments)?;
    let disk = target::open(&path, Access::Write)?;
    let _transaction = match change.disturbs_installation() {
        true => Some(TransactionLock::acquire(&disk)?),
        false => None,
    };
    let _lock = disk.lock(LOCK_PATIENCE)?;
    let mut control = Control::open(disk)?;
    let report = control.state()?;
    let active = target::needed(arguments, &control, &report)?;
    apply(&mut control, active, change)?;
    print(arguments, change.verb(), active, &control.state()?)?;
    Ok(Exit::Done)
}

fn apply(control: &mut Control<Disk>, active: Slot, change: Change) -> Result<(), CliError> {
    match change {
        Change::Activate {
            slot,
            tries,
            unverified,
        } => {
            let proof = match unverified {
                true => Proof::Unverified,
                false => Proof::Record,
            };
            control.activate(active, slot, tries, proof)?;
        }
        Change::MarkSuccessful => control.mark_successful(active)?,
        Change::MarkUnbootable { slot } => control.invalidate(active, slot)?,
        Change::Rollback { tries } => control.rollback(active, tries)?,
    }
    Ok(())
}

fn print(
    arguments: &Arguments,
    verb: &'static str,
    active: Slot,
    report: &StateReport,
) -> Result<(), CliError> {
    let next = report.next();
    if arguments.json {
        return output::json(&Changed {
            verb,
            active: active.as_str(),
            next: next.map(Slot::as_str),
            slots: report.state.map(Into::into),
        });
    }
    let Some(state) = report.state else {
        return Ok(());
    };
    let next = next.map_or("none", Slot::as_str);
    output::text(&format!("a {}  b {}  next {next}\n", state.a, state.b))
}

/// Repairs what is damaged and, for `sync`, makes the mirror follow. Works while an installation is under way.
pub fn repair(arguments: &Arguments, sync: bool) -> Result<Exit, CliError> {
    let path = target::path(arguments)?;
    let disk = target::open(&path, Access::Write)?;
    let _lock = disk.lock(LOCK_PATIENCE)?;
    let mut control = Control::open(disk)?;
    let (verb, report) = match sync {
        true => ("sync", control.sync()?),
        false => ("repair", control.repair()?),
    };
    if arguments.json {
        output::json(&Repaired::new(verb, &report))?;
        return Ok(Exit::Done);
    }
    let written = [
        (report.table, "partition table"),
        (report.lost.is_some() || report.environment, "environment"),
        (report.mirror, "gpt attributes"),
        (report.confirmed_record, "confirmed record"),
    ];
    let written: Vec<&str> = written.iter().filter(|w| w.0).map(|w| w.1).collect();
    match written.is_empty() {
        true => output::text("nothing to do\n")?,
        false => output::text(&format!("written: {}\n", written.join(", ")))?,
    }
    Ok(Exit::Done)
}
