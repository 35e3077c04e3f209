//! `status` and `next`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bootctl::control::{Control, StateReport};
use bootctl::disk::{Access, Disk};
use bootctl::exit::Exit;
use bootctl::slot_record::RecordError;
use bootctl::{Priority, Slot};

use super::error::CliError;
use super::json::{self, Confirmed, Environment, Pair, Record, SlotStatus, Status, Table};
use super::target::Active;
use super::{Arguments, output, reset, target};

/// The updater's journal; a longer one is not one of ours.
const JOURNAL: &str = "/var/lib/tandem/journal.json";
const MAX_JOURNAL: u64 = 1024 * 1024;

/// Prints what the disk says, and takes no lock.
pub fn run(arguments: &Arguments) -> Result<Exit, CliError> {
    let path = target::path(arguments)?;
    let mut control = Control::open(target::open(&path, Access::Read)?)?;
    let report = control.state()?;
    let active = target::active(arguments, &control, &report)?;
    let status = collect(&path, &mut control, &report, active)?;
    if arguments.json {
        output::json(&status)?;
    } else {
        output::text(&as_text(&status, &report))?;
    }
    Ok(Exit::Done)
}

/// Prints the slot that the loader tries first.
pub fn next(arguments: &Arguments) -> Result<Exit, CliError> {
    let path = target::path(arguments)?;
    let mut control = Control::open(target::open(&path, Access::Read)?)?;
    let report = control.state()?;
    let next = report.next().map(Slot::as_str);
    if arguments.json {
        output::json(&json::Next { next })?;
    }
    let Some(slot) = next else {
        return Err(CliError::new(Exit::Refused, "no slot is a candidate"));
    };
    if !arguments.json {
        output::text(&format!("{slot}\n"))?;
    }
    Ok(Exit::Done)
}

fn collect(
    path: &Path,
    control: &mut Control<Disk>,
    report: &StateReport,
    active: Active,
) -> Result<Status, CliError> {
    let a = slot_status(control, report, Slot::A)?;
    let b = slot_status(control, report, Slot::B)?;
    let descriptor = control.descriptor();
    let trial = report.state.zip(active.slot);
    let environment = Environment {
        kind: descriptor.store.kind(),
        state: match (report.lost, report.degraded) {
            (Some(_), _) => "lost",
            (None, true) => "damaged",
            (None, false) => "ok",
        },
        reason: report.lost.map(|reason| reason.to_string()),
        boot: active.running.then(loader_said).flatten(),
    };
    Ok(Status {
        disk: path.display().to_string(),
        sector_size: control.gpt().sector_size().bytes(),
        board: descriptor.board.to_string(),
        product: descriptor.product.to_string(),
        running: active.running,
        active: active.slot.map(Slot::as_str),
        trial: trial.map(|(state, slot)| !state.get(slot).is_confirmed()),
        next: report.next().map(Slot::as_str),
        slots: Pair { a, b },
        table: Table {
            copies: json::copies(report.copies),
            backup_at_end: report.backup_at_end,
        },
        environment,
        mirror: report.mirror.map(Pair::from),
        confirmed_record: report.confirmed_record.ok().map(|record| Confirmed {
            slot: record.slot.as_str(),
            fresh: record.fresh,
        }),
        last_result: active.running.then(last_result).flatten(),
        reset: active.running.then(|| reset::last(Path::new("/"))),
    })
}

fn slot_status(
    control: &mut Control<Disk>,
    report: &StateReport,
    slot: Slot,
) -> Result<SlotStatus, CliError> {
    let partuuid = control.gpt().usr(slot).map(|p| p.unique_guid.to_string());
    let (record, record_error) = match control.read_slot_record(slot) {
        Ok(header) => (Some(Record::from(&header)), None),
        Err(RecordError::Io(error)) => return Err(error.into()),
        Err(error) => (None, Some(error.to_string())),
    };
    Ok(SlotStatus {
        attributes: report.state.map(|state| state.get(slot).into()),
        record,
        record_error,
        partuuid: partuuid.unwrap_or_default(),
    })
}

fn as_text(status: &Status, report: &StateReport) -> String {
    let mut text = String::new();
    let slots = [(Slot::A, &status.slots.a), (Slot::B, &status.slots.b)];
    let _ = writeln!(
        text,
        "{}  board {}  product {}",
        status.disk, status.board, status.product
    );
    for (slot, facts) in slots {
        let name = slot.as_str();
        let version = match (&facts.record, &facts.record_error) {
            (Some(record), _) => format!("{} {}", record.product, record.version),
            (None, Some(error)) => format!("({error})"),
            (None, None) => String::new(),
        };
        let attributes = report.state.map(|state| state.get(slot));
        let shown = attributes.map_or("P? T? S?".to_owned(), |a| a.to_string());
        let runs = status.running && status.active == Some(name);
        let kind = match attributes {
            Some(a) if a.is_confirmed() => "confirmed",
            // Its last try may be spent already: that is the one it runs on.
            Some(_) if runs => "on trial",
            Some(a) if a.is_candidate() => "staged",
            Some(a) if a.priority > Priority::NEVER => "tries spent",
            Some(_) => "unbootable",
            None => "unknown",
        };
        let active = if status.active == Some(name) {
            "  active"
        } else {
            ""
        };
        let next = if status.next == Some(name) {
            "  next"
        } else {
            ""
        };
        let _ = writeln!(
            text,
            "slot {name}  {shown}  {kind:<11}  {version}{active}{next}"
        );
    }
    let at_end = if status.table.backup_at_end {
        "at the end"
    } else {
        "not at the end"
    };
    let _ = writeln!(
        text,
        "table        {}, backup {at_end}",
        status.table.copies
    );
    let environment = &status.environment;
    let reason = environment.reason.as_ref().map(|r| format!(" ({r})"));
    let boot = environment
        .boot
        .as_ref()
        .map(|b| format!(", this boot {b}"));
    let _ = writeln!(
        text,
        "environment  {} {}{}{}",
        environment.kind,
        environment.state,
        reason.unwrap_or_default(),
        boot.unwrap_or_default()
    );
    let _ = match &report.confirmed_record {
        Ok(record) => writeln!(text, "confirmed    {}", record.slot),
        Err(error) => writeln!(text, "confirmed    {error}"),
    };
    if let Some(result) = &status.last_result {
        let _ = writeln!(text, "last result  {result}");
    }
    if let Some(reset) = &status.reset {
        if let Some(watchdog) = &reset.watchdog {
            let _ = writeln!(text, "last reset   by {watchdog}");
        }
        if reset.kernel_logs > 0 {
            let logs = reset.kernel_logs;
            let _ = writeln!(text, "kernel logs  {logs} in /sys/fs/pstore");
        }
    }
    text
}

/// What the loader said about the environment when it started this system.
fn loader_said() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cmdline").ok()?;
    let mut words = text.split_ascii_whitespace();
    let said = words.find_map(|word| word.strip_prefix("tandem.env="));
    Some(said.unwrap_or("ok").to_owned())
}

/// The last result of the updater on this machine.
fn last_result() -> Option<String> {
    let mut text = String::new();
    let journal = File::open(JOURNAL).ok()?;
    journal.take(MAX_JOURNAL).read_to_string(&mut text).ok()?;
    let journal: serde_json::Value = serde_json::from_str(&text).ok()?;
    let result = journal.get("last_result")?.as_str()?;
    (!result.is_empty()).then(|| result.to_owned())
}
