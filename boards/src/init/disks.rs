//! The disk that the loader booted from.
//!
//! The loader can only name partitions, by their PARTUUIDs. A copy of the disk may carry the same ones, and a USB disk
//! may turn up seconds after its copy, so nothing is chosen before no disk has appeared for a while.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bootctl::confirmed::ConfirmedRecord;
use bootctl::control::Control;
use bootctl::disk::{Access, Disk};
use bootctl::gpt::{Gpt, Guid, ROOT};
use bootctl::{BlockIo, Slot};

use super::parameters::Parameters;
use super::say;

/// Disks have to be there by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// A disk is searched for by its confirmed record only when its PARTUUIDs have not turned up by then.
const BY_RECORD_AFTER: Duration = Duration::from_secs(10);
/// A USB storage device whose disk does not appear is not waited for any longer.
const USB_PATIENCE: Duration = Duration::from_secs(15);
/// No disk has appeared for so long.
const QUIET: Duration = Duration::from_secs(1);
/// The same where the disk still carries the PARTUUIDs of the image it was written from, as others may.
const QUIET_FRESH: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);

const BLOCK: &str = "/sys/block";
const USB: &str = "/sys/bus/usb/devices";

/// What is known of one disk.
#[derive(Clone, Debug)]
struct Seen {
    /// As in `/sys/block`.
    name: String,
    /// Every partition's number and PARTUUID.
    partitions: Vec<(u32, Guid)>,
    /// Of a disk of ours.
    record: Option<ConfirmedRecord>,
}

/// The disk to boot from.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// As in `/sys/block`.
    pub name: String,
    /// The slot of its confirmed record.
    pub confirmed: Option<Slot>,
    fresh: bool,
}

impl Chosen {
    /// It still has the identifiers of the image that it was written from.
    pub const fn fresh(&self) -> bool {
        self.fresh
    }

    /// The disk's node.
    pub fn node(&self) -> PathBuf {
        node(&self.name)
    }

    /// Whether the slot has a valid record: what is written there is complete.
    pub fn has_slot_record(&self, slot: Slot) -> bool {
        Disk::open(self.node(), Access::Read)
            .ok()
            .and_then(|disk| Control::open(disk).ok())
            .is_some_and(|mut control| control.read_slot_record(slot).is_ok())
    }
}

/// Waits for the disk with the wanted partitions.
///
/// # Errors
/// It does not appear in time; two partitions carry the same wanted PARTUUID; the wanted ones don't belong together.
pub fn wait_for(parameters: &Parameters) -> Result<Chosen> {
    let start = Instant::now();
    let mut names = BTreeMap::new();
    let mut changed = start;
    let mut seen = Vec::new();
    loop {
        let now = block_devices();
        if now != names || seen.is_empty() {
            if now != names {
                changed = Instant::now();
            }
            seen = now.keys().filter_map(|name| look_at(name)).collect();
            names = now;
        }
        let by_record = start.elapsed() >= BY_RECORD_AFTER;
        if let Some(chosen) = choose(&seen, parameters, by_record)? {
            let quiet = if chosen.fresh { QUIET_FRESH } else { QUIET };
            let usb_due = usb_disk_is_due() && start.elapsed() < USB_PATIENCE;
            if changed.elapsed() >= quiet && !usb_due {
                return Ok(chosen);
            }
        }
        if start.elapsed() >= PATIENCE {
            let disks: Vec<_> = names.keys().map(String::as_str).collect();
            bail!(
                "find the disk with mount.usr=PARTUUID={}: not on any of [{}] after {} s",
                parameters.usr,
                disks.join(" "),
                PATIENCE.as_secs()
            );
        }
        thread::sleep(POLL);
    }
}

/// The disk with the wanted partitions; `None` while it is not there.
///
/// With `by_record`, a disk whose table has other PARTUUIDs is taken too, if it is the only one of ours and its
/// confirmed record either names the wanted ones or says that it is still fresh: then a first boot was cut short, or
/// somebody has given the partitions other identifiers.
fn choose(seen: &[Seen], wanted: &Parameters, by_record: bool) -> Result<Option<Chosen>> {
    let Some((usr_disk, number)) = unique(seen, wanted.usr)? else {
        return Ok(by_record.then(|| choose_by_record(seen, wanted)).flatten());
    };
    if number != wanted.slot.partition_number() {
        bail!(
            "boot slot {}: mount.usr= is partition {number} of {}",
            wanted.slot,
            usr_disk.name
        );
    }
    match unique(seen, wanted.root)? {
        Some((root_disk, ROOT)) if root_disk.name == usr_disk.name => {}
        Some((root_disk, number)) => bail!(
            "boot slot {} of {}: root= is partition {number} of {}",
            wanted.slot,
            usr_disk.name,
            root_disk.name
        ),
        // A torn table may have new identifiers for the slots and the old one for ROOT, or the other way round.
        None if usr_disk.partitions.iter().any(|(n, _)| *n == ROOT) => {
            say(&format!(
                "root= is not on {}, its ROOT is used",
                usr_disk.name
            ));
        }
        None => bail!("boot slot {}: {} has no ROOT", wanted.slot, usr_disk.name),
    }
    Ok(Some(usr_disk.chosen()))
}

fn choose_by_record(seen: &[Seen], wanted: &Parameters) -> Option<Chosen> {
    let mut ours = seen.iter().filter_map(|disk| Some((disk, disk.record?)));
    let (disk, record) = ours.next()?;
    let named = match wanted.slot {
        Slot::A => record.usr_a,
        Slot::B => record.usr_b,
    };
    if ours.next().is_some() || !(record.fresh || named == wanted.usr) {
        return None;
    }
    say(&format!(
        "no partition has PARTUUID={}; {} is the only disk of ours",
        wanted.usr, disk.name
    ));
    Some(disk.chosen())
}

/// The partition that carries this PARTUUID.
fn unique(seen: &[Seen], wanted: Guid) -> Result<Option<(&Seen, u32)>> {
    let mut carriers = seen.iter().flat_map(|disk| {
        let carries = disk.partitions.iter().filter(move |(_, g)| *g == wanted);
        carries.map(move |(number, _)| (disk, *number))
    });
    let first = carriers.next();
    if let (Some((a, m)), Some((b, n))) = (first, carriers.next()) {
        bail!(
            "find PARTUUID={wanted}: partition {m} of {} and partition {n} of {} both have it; remove one of the disks",
            a.name,
            b.name
        );
    }
    Ok(first)
}

impl Seen {
    fn chosen(&self) -> Chosen {
        Chosen {
            name: self.name.clone(),
            confirmed: self.record.map(|record| record.slot),
            fresh: self.record.is_some_and(|record| record.fresh),
        }
    }
}

/// A disk with a valid table; `None` for any other.
fn look_at(name: &str) -> Option<Seen> {
    let mut disk = Disk::open(node(name), Access::Read).ok()?;
    if disk.sector_count() == 0 {
        return None;
    }
    let gpt = Gpt::read(&mut disk).ok()?;
    let partitions = gpt
        .partitions()
        .map(|p| (p.number, p.unique_guid))
        .collect();
    let record = Control::open(disk)
        .ok()
        .and_then(|mut control| control.state().ok())
        .and_then(|state| state.confirmed_record.ok());
    Some(Seen {
        name: name.to_owned(),
        partitions,
        record,
    })
}

/// Names and sizes, as text, of the block devices that may be disks.
fn block_devices() -> BTreeMap<String, String> {
    let not_a_disk = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"];
    let entries = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !not_a_disk.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| {
            let size = fs::read_to_string(Path::new(BLOCK).join(&name).join("size"));
            (name, size.unwrap_or_default())
        })
        .collect()
}

/// Some USB storage interface (class 08) has no block device yet.
fn usb_disk_is_due() -> bool {
    let interfaces = fs::read_dir(USB).into_iter().flatten().flatten();
    let storage = interfaces
        .filter_map(|entry| fs::read_to_string(entry.path().join("bInterfaceClass")).ok())
        .filter(|class| class.trim() == "08")
        .count();
    let devices = fs::read_dir(BLOCK).into_iter().flatten().flatten();
    let disks = devices
        .filter_map(|entry| fs::canonicalize(entry.path()).ok())
        .filter(|path| {
            path.components()
                .any(|c| c.as_os_str().to_string_lossy().starts_with("usb"))
        })
        .count();
    disks < storage
}

fn node(name: &str) -> PathBuf {
    // In sysfs a `/` of a device's name is written `!`.
    Path::new("/dev").join(name.replace('!', "/"))
}

#[cfg(test)]
mod tests;
