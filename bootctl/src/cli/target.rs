//! Which disk is meant, and which of its slots is active.

use std::path::{Path, PathBuf};

use bootctl::Slot;
use bootctl::active::{active_slot, active_usr, mounted_partitions};
use bootctl::control::{Control, StateReport};
use bootctl::disk::{Access, Disk};
use bootctl::exit::Exit;

use super::Arguments;
use super::error::CliError;

/// Path of the disk that `--disk` names, else of the one under `/usr`.
pub fn path(arguments: &Arguments) -> Result<PathBuf, CliError> {
    match &arguments.disk {
        Some(path) => Ok(path.clone()),
        None => active_usr()
            .map(|usr| usr.disk_path)
            .map_err(|error| CliError::new(Exit::Usage, format!("{error}; name one with --disk"))),
    }
}

/// Opens a disk.
pub fn open(path: &Path, access: Access) -> Result<Disk, CliError> {
    Ok(Disk::open(path, access)?)
}

/// What is active on a disk.
#[derive(Clone, Copy, Debug)]
pub struct Active {
    /// The machine runs from this disk.
    pub running: bool,
    /// `None` where nothing says so.
    pub slot: Option<Slot>,
}

/// The running slot; on a disk that is not running what `--active` says, else the best confirmed one, else, with the
/// environment lost, that of the confirmed record.
pub fn active(
    arguments: &Arguments,
    control: &Control<Disk>,
    report: &StateReport,
) -> Result<Active, CliError> {
    let running = active_slot(control.io())?;
    let given = arguments.active;
    if given.is_some() {
        refuse_mounted(control.io(), running)?;
    }
    let best = match report.state {
        Some(state) => state.best_confirmed(),
        None => report.confirmed,
    };
    Ok(Active {
        running: running.is_some(),
        slot: running.or(given).or(best),
    })
}

/// As [`active`], for a verb that can't do without.
pub fn needed(
    arguments: &Arguments,
    control: &Control<Disk>,
    report: &StateReport,
) -> Result<Slot, CliError> {
    active(arguments, control, report)?.slot.ok_or_else(|| {
        let cause = "no slot of this disk is confirmed; say which one is active with --active";
        CliError::new(Exit::Refused, cause)
    })
}

/// What a disk in use has mounted is active, whatever anybody says.
fn refuse_mounted(disk: &Disk, running: Option<Slot>) -> Result<(), CliError> {
    let mounted = mounted_partitions(disk)?;
    if running.is_none() && mounted.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = mounted.iter().map(ToString::to_string).collect();
    let cause = format!(
        "--active: partition {} of this disk is mounted",
        list.join(", ")
    );
    Err(CliError::new(Exit::Refused, cause))
}
