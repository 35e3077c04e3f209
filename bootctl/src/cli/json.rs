//! The shapes of `--json`. A key is always there; what is unknown or does not apply is `null`.
//!
//! `status`:
//!
//! ```json
//! {
//!   "disk": "disk.img", "sector_size": 512,
//!   "board": "x86_64-grub", "product": "demo",
//!   "running": false, "active": "a", "trial": false, "next": "b",
//!   "slots": {
//!     "a": {"attributes": {"priority": 1, "tries": 0, "successful": true, "candidate": true, "confirmed": true},
//!           "record": {"product": "demo", "version": "1.0.0", "rollback_index": 0, "image_size": 4194304,
//!                      "content": "<64 hex digits>", "payload_id": "<64 hex digits>", "flashed": true},
//!           "record_error": null, "partuuid": "…"},
//!     "b": {"attributes": …, "record": null, "record_error": "there is no slot record", "partuuid": "…"}
//!   },
//!   "table": {"copies": "both", "backup_at_end": true},
//!   "environment": {"kind": "grub-block", "state": "ok", "reason": null, "boot": null},
//!   "mirror": {"a": {…attributes…}, "b": {…}},
//!   "confirmed_record": {"slot": "a", "fresh": true},
//!   "last_result": null, "reset": null
//! }
//! ```
//!
//! `attributes` are `null` while the environment is lost. `trial`: the active slot is not confirmed. `copies`: `both`,
//! `primary-only`, `backup-only` or `differ`. `environment.kind`: `gpt`, `grub-block`, `uboot-env` or
//! `uboot-env-redundant`; `state`: `ok`, `damaged` (usable, the next repair mends it) or `lost`, with its reason;
//! `boot`: on the running disk what the loader said when it started this system, `ok`, `lost` or `readonly`. `mirror`
//! is `null` where the GPT is the authority. `last_result` is the updater's, on the running disk only. `reset`, there
//! too: `{"watchdog": "watchdog0", "kernel_logs": 1}`, the watchdog that caused the last reset, if its driver says so, and
//! how many logs the kernel left in pstore.
//!
//! `next`: `{"next": "a"}`. `activate`, `mark-successful`, `mark-unbootable`, `rollback`:
//! `{"verb": "activate", "active": "a", "next": "b", "slots": {"a": {…attributes…}, "b": {…}}}`, the state after it.
//!
//! `repair`, `sync`: what was written,
//! `{"verb": "sync", "table": false, "lost": null, "environment": false, "mirror": false, "confirmed_record": false}`;
//! `lost` is the reason if the environment had to be rebuilt.
//!
//! `verify`: `{"slots": [{"slot": "a", "result": "ok", "version": "1.0.0", "expected": "<hex>", "found": "<hex>"}]}`;
//! `result`: `ok`, `mismatch`, `no-record` (`version`, `expected` and `found` are `null`) or `empty` (unbootable and
//! without a record).
//!
//! `show`: `{"disk": …, "disk_guid": …, "sector_size": 512, "sectors": N, "copies": "both", "backup_at_end": true,
//! "partitions": [{"number": 1, "type": …, "partuuid": …, "first": N, "last": N, "attributes": "<16 hex digits>",
//! "name": …}]}`, sectors counted from 0, `last` included.

use bootctl::control::RepairReport;
use bootctl::gpt::Copies;
use bootctl::slot_record::SlotRecordHeader;
use bootctl::{Attributes, BootState, Slot};
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Status {
    pub disk: String,
    pub sector_size: u64,
    pub board: String,
    pub product: String,
    pub running: bool,
    pub active: Option<&'static str>,
    pub trial: Option<bool>,
    pub next: Option<&'static str>,
    pub slots: Pair<SlotStatus>,
    pub table: Table,
    pub environment: Environment,
    pub mirror: Option<Pair<AttributesJson>>,
    pub confirmed_record: Option<Confirmed>,
    pub last_result: Option<String>,
    pub reset: Option<Reset>,
}

#[derive(Debug, Serialize)]
pub struct Reset {
    pub watchdog: Option<String>,
    pub kernel_logs: usize,
}

#[derive(Debug, Serialize)]
pub struct Pair<T> {
    pub a: T,
    pub b: T,
}

impl<T> Pair<T> {
    pub fn of(mut make: impl FnMut(Slot) -> T) -> Self {
        Self {
            a: make(Slot::A),
            b: make(Slot::B),
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct AttributesJson {
    pub priority: u8,
    pub tries: u8,
    pub successful: bool,
    pub candidate: bool,
    pub confirmed: bool,
}

impl From<Attributes> for AttributesJson {
    fn from(attributes: Attributes) -> Self {
        Self {
            priority: attributes.priority.get(),
            tries: attributes.tries.get(),
            successful: attributes.successful,
            candidate: attributes.is_candidate(),
            confirmed: attributes.is_confirmed(),
        }
    }
}

impl From<BootState> for Pair<AttributesJson> {
    fn from(state: BootState) -> Self {
        Self::of(|slot| state.get(slot).into())
    }
}

#[derive(Debug, Serialize)]
pub struct SlotStatus {
    pub attributes: Option<AttributesJson>,
    pub record: Option<Record>,
    pub record_error: Option<String>,
    pub partuuid: String,
}

#[derive(Debug, Serialize)]
pub struct Record {
    pub product: String,
    pub version: String,
    pub rollback_index: u64,
    pub image_size: u64,
    pub content: String,
    pub payload_id: String,
    pub flashed: bool,
}

impl From<&SlotRecordHeader> for Record {
    fn from(header: &SlotRecordHeader) -> Self {
        Self {
            product: header.product.to_string(),
            version: header.version.to_string(),
            rollback_index: header.rollback_index,
            image_size: header.image_size,
            content: hex(&header.content),
            payload_id: hex(&header.payload_id),
            flashed: header.flashed,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Table {
    pub copies: &'static str,
    pub backup_at_end: bool,
}

#[derive(Debug, Serialize)]
pub struct Environment {
    pub kind: &'static str,
    pub state: &'static str,
    pub reason: Option<String>,
    pub boot: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Confirmed {
    pub slot: &'static str,
    pub fresh: bool,
}

#[derive(Debug, Serialize)]
pub struct Next {
    pub next: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct Changed {
    pub verb: &'static str,
    pub active: &'static str,
    pub next: Option<&'static str>,
    pub slots: Option<Pair<AttributesJson>>,
}

#[derive(Debug, Serialize)]
pub struct Repaired {
    pub verb: &'static str,
    pub table: bool,
    pub lost: Option<String>,
    pub environment: bool,
    pub mirror: bool,
    pub confirmed_record: bool,
}

impl Repaired {
    pub fn new(verb: &'static str, report: &RepairReport) -> Self {
        Self {
            verb,
            table: report.table,
            lost: report.lost.map(|reason| reason.to_string()),
            environment: report.environment,
            mirror: report.mirror,
            confirmed_record: report.confirmed_record,
        }
    }
}

#[derive(Debug, Serialize)]
pub struct Verified {
    pub slots: Vec<VerifiedSlot>,
}

#[derive(Debug, Serialize)]
pub struct VerifiedSlot {
    pub slot: &'static str,
    pub result: &'static str,
    pub version: Option<String>,
    pub expected: Option<String>,
    pub found: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Shown {
    pub disk: String,
    pub disk_guid: String,
    pub sector_size: u64,
    pub sectors: u64,
    pub copies: &'static str,
    pub backup_at_end: bool,
    pub partitions: Vec<ShownPartition>,
}

#[derive(Debug, Serialize)]
pub struct ShownPartition {
    pub number: u32,
    pub r#type: String,
    pub partuuid: String,
    pub first: u64,
    pub last: u64,
    pub attributes: String,
    pub name: String,
}

/// The name of a finding.
pub const fn copies(copies: Copies) -> &'static str {
    match copies {
        Copies::Both => "both",
        Copies::PrimaryOnly => "primary-only",
        Copies::BackupOnly => "backup-only",
        Copies::Differ => "differ",
    }
}

/// Lower case.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
