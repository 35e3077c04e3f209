//! `show`: the partition table, as `cgpt show` prints it.

use std::fmt::Write as _;

use bootctl::Attributes;
use bootctl::disk::Access;
use bootctl::exit::Exit;
use bootctl::gpt::{Gpt, Guid, Partition, TYPE_ESP, TYPE_LINUX, TYPE_USR};

use super::error::CliError;
use super::json::{self, Shown, ShownPartition};
use super::{Arguments, output, target};

/// Reads the table alone: this works on any GPT disk, and takes no lock.
pub fn run(arguments: &Arguments) -> Result<Exit, CliError> {
    let path = target::path(arguments)?;
    let gpt = Gpt::read(&mut target::open(&path, Access::Read)?)?;
    if arguments.json {
        output::json(&Shown {
            disk: path.display().to_string(),
            disk_guid: gpt.disk_guid().to_string(),
            sector_size: gpt.sector_size().bytes(),
            sectors: gpt.sector_count(),
            copies: json::copies(gpt.copies()),
            backup_at_end: gpt.backup_at_end(),
            partitions: gpt.partitions().map(shown).collect(),
        })?;
    } else {
        output::text(&as_text(&gpt))?;
    }
    Ok(Exit::Done)
}

fn shown(partition: Partition) -> ShownPartition {
    ShownPartition {
        number: partition.number,
        r#type: partition.type_guid.to_string(),
        partuuid: partition.unique_guid.to_string(),
        first: partition.first_lba,
        last: partition.last_lba,
        attributes: format!("{:016x}", partition.attributes),
        name: partition.name.to_string(),
    }
}

fn as_text(gpt: &Gpt) -> String {
    let mut text = format!("{:>12}{:>12}{:>8}  contents\n", "start", "size", "part");
    let table = u64::from(gpt.entry_count()) * 128;
    let table = table.div_ceil(gpt.sector_size().bytes());
    let (primary, backup) = (gpt.primary_fault(), gpt.backup_fault());
    let mark = |fault: bool| if fault { "INVALID" } else { "" };
    row(&mut text, 0, 1, "", "PMBR");
    row(&mut text, 1, 1, mark(primary.is_some()), "Pri GPT header");
    row(
        &mut text,
        2,
        table,
        mark(primary.is_some()),
        "Pri GPT table",
    );
    for partition in gpt.partitions() {
        let (number, size) = (partition.number.to_string(), partition.range().sectors());
        let label = format!("Label: \"{}\"", partition.name);
        row(&mut text, partition.first_lba, size, &number, &label);
        for line in details(&partition) {
            let _ = writeln!(text, "{:34}{line}", "");
        }
    }
    let last = gpt.backup_lba();
    row(
        &mut text,
        last.saturating_sub(table),
        table,
        mark(backup.is_some()),
        "Sec GPT table",
    );
    row(&mut text, last, 1, mark(backup.is_some()), "Sec GPT header");
    text
}

fn row(text: &mut String, start: u64, size: u64, part: &str, what: &str) {
    let _ = writeln!(text, "{start:>12}{size:>12}{part:>8}  {what}");
}

fn details(partition: &Partition) -> Vec<String> {
    let kind = match partition.type_guid {
        TYPE_ESP => "EFI System Partition".to_owned(),
        TYPE_LINUX => "Linux data".to_owned(),
        other => upper(other),
    };
    let mut lines = vec![
        format!("Type: {kind}"),
        format!("UUID: {}", upper(partition.unique_guid)),
    ];
    let attributes = attributes(partition);
    if !attributes.is_empty() {
        lines.push(format!("Attr: {attributes}"));
    }
    lines
}

/// Boot attributes of the USR type, then the bits that mean something on every type, each with a space behind it.
fn attributes(partition: &Partition) -> String {
    let mut text = String::new();
    if partition.type_guid == TYPE_USR {
        let boot = Attributes::from_gpt(partition.attributes);
        let (priority, tries) = (boot.priority.get(), boot.tries.get());
        let successful = u8::from(boot.successful);
        let _ = write!(
            text,
            "priority={priority} tries={tries} successful={successful} "
        );
    }
    for (bit, name) in ["required", "efi_ignore", "legacy_boot"].iter().enumerate() {
        if partition.attributes >> bit & 1 == 1 {
            let _ = write!(text, "{name}=1 ");
        }
    }
    text
}

fn upper(guid: Guid) -> String {
    guid.to_string().to_uppercase()
}
