//! `verify`: the content of a slot against its slot record.

use std::fmt::Write as _;

use bootctl::control::Control;
use bootctl::disk::{Access, AlignedBuf, Disk};
use bootctl::exit::Exit;
use bootctl::slot_record::{self, RecordError, SlotRecordHeader};
use bootctl::{Attributes, BlockIo, Slot};

use super::error::CliError;
use super::json::{Verified, VerifiedSlot, hex};
use super::{Arguments, output, target};

/// Bytes that are read at once.
const CHUNK: usize = 1024 * 1024;

/// Verifies one slot or both, and takes no lock.
pub fn run(arguments: &Arguments, wanted: Option<Slot>) -> Result<Exit, CliError> {
    let path = target::path(arguments)?;
    let mut control = Control::open(target::open(&path, Access::Read)?)?;
    let state = control.state()?.state;
    let mut slots = Vec::new();
    for slot in Slot::ALL {
        if wanted.is_none_or(|wanted| wanted == slot) {
            // Only where nobody asked for this slot may it be empty.
            let may_be_empty = wanted.is_none()
                && state.is_some_and(|state| state.get(slot) == Attributes::UNBOOTABLE);
            slots.push(verify(&mut control, slot, may_be_empty)?);
        }
    }
    let failed = slots.iter().any(|s| !matches!(s.result, "ok" | "empty"));
    let mut text = String::new();
    for slot in &slots {
        let version = slot.version.as_deref().unwrap_or("-");
        let _ = writeln!(text, "slot {}  {:<10}  {version}", slot.slot, slot.result);
    }
    if arguments.json {
        output::json(&Verified { slots })?;
    } else {
        output::text(&text)?;
    }
    if failed {
        let cause = "the content is not what the slot record says";
        return Err(CliError::new(Exit::Verification, cause));
    }
    Ok(Exit::Done)
}

fn verify(
    control: &mut Control<Disk>,
    slot: Slot,
    may_be_empty: bool,
) -> Result<VerifiedSlot, CliError> {
    let header = match read_record(control, slot) {
        Ok(header) => header,
        Err(RecordError::Io(error)) => return Err(error.into()),
        Err(error) => {
            if !may_be_empty {
                log::error!("slot {slot}: {error}");
            }
            return Ok(VerifiedSlot {
                slot: slot.as_str(),
                result: if may_be_empty { "empty" } else { "no-record" },
                version: None,
                expected: None,
                found: None,
            });
        }
    };
    let found = content(control, slot, header.image_size)?;
    let same = found == header.content;
    Ok(VerifiedSlot {
        slot: slot.as_str(),
        result: if same { "ok" } else { "mismatch" },
        version: Some(header.version.to_string()),
        expected: Some(hex(&header.content)),
        found: Some(hex(&found)),
    })
}

type DiskRecordError = RecordError<bootctl::disk::DiskError>;

fn read_record(
    control: &mut Control<Disk>,
    slot: Slot,
) -> Result<SlotRecordHeader, DiskRecordError> {
    let header = control.read_slot_record(slot)?;
    let range = control.slot_range(slot);
    slot_record::body_is_intact(control.io_mut(), range, &header)?;
    Ok(header)
}

/// BLAKE3 of the first `size` bytes of a slot. The header's check has bounded the size by the slot's.
fn content(control: &mut Control<Disk>, slot: Slot, size: u64) -> Result<[u8; 32], CliError> {
    let mut lba = control.slot_range(slot).first;
    let disk = control.io_mut();
    let sector = disk.sector_size().bytes();
    let mut buffer = AlignedBuf::new(CHUNK);
    let mut hasher = blake3::Hasher::new();
    let mut left = size;
    while left > 0 {
        let length = left.min(CHUNK as u64);
        let whole = usize::try_from(length.next_multiple_of(sector)).unwrap_or(CHUNK);
        let bytes = buffer.get_mut(..whole).unwrap_or_default();
        disk.read_sectors(lba, bytes)?;
        let used = usize::try_from(length).unwrap_or(CHUNK);
        hasher.update(bytes.get(..used).unwrap_or_default());
        lba += whole as u64 / sector;
        left -= length;
    }
    Ok(hasher.finalize().into())
}
