//! `update_engine apply`: one payload onto one disk, once.

mod device;
mod error;

use std::num::NonZeroU8;
use std::path::PathBuf;

use bootctl::Slot;
use bootctl::disk::{Access, Disk};
use bootctl::transaction::TransactionLock;
use bootctl::transition::TryCount;

pub use error::ApplyError;

use crate::Digest;
use crate::engine::{self, EngineError, Observer, Phase, Report, Target};
use crate::gates::{Admitted, Reason, admit};
use crate::incoming::Incoming;
use crate::journal::{Journal, Release};
use crate::source::Source;
use device::OpenDevice;

/// Where a device's journal is.
pub const JOURNAL_DIR: &str = "/var/lib/tandem";

/// What to apply, and what replaces what the disk says of itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Disk or image; `None` for the one that runs.
    pub disk: Option<PathBuf>,
    /// Slot that counts as the active one of a disk that does not run.
    pub active: Option<Slot>,
    /// Folder of trusted keys, instead of the active slot's.
    pub keys: Option<PathBuf>,
    pub product: Option<String>,
    pub board: Option<String>,
    /// Do everything but write.
    pub check: bool,
    pub force: Vec<Reason>,
}

/// How it ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was done; `None` after a check.
    pub report: Option<Report>,
    /// The slot that the payload is for.
    pub slot: Slot,
    pub product: String,
    pub version: String,
    pub rollback_index: u64,
    /// Payload id.
    pub id: Digest,
    /// Boot tries that the slot has.
    pub tries: u8,
}

/// Applies the payload that `source` gives.
///
/// # Errors
/// See [`ApplyError`]; its [`exit`](ApplyError::exit) is the exit code.
pub fn apply(
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, ApplyError> {
    let access = if options.check {
        Access::Read
    } else {
        Access::Write
    };
    let path = match &options.disk {
        Some(path) => path.clone(),
        None => {
            bootctl::active::active_usr()
                .map_err(|error| ApplyError::no_disk(&error))?
                .disk_path
        }
    };
    let disk = Disk::open(&path, access).map_err(ApplyError::failed)?;
    // A check reads only, and two of them do not mind each other.
    let _lock = match access {
        Access::Write => Some(TransactionLock::acquire(&disk)?),
        Access::Read => None,
    };
    let mut device = OpenDevice::read(disk, options)?;
    let (mut incoming, manifest) =
        Incoming::read(source, &device.keys, device.signatures).map_err(EngineError::from)?;
    let id = manifest.id();
    let release = admit(manifest, &device.facts(id), &options.force)
        .map_err(|refusal| device.explain(refusal))?;
    incoming.read_tables(&release).map_err(EngineError::from)?;
    let (source, tables) = incoming.into_parts();
    let outcome = |report| outcome(&release, report, device.passive(), device.tries);
    if options.check {
        engine::check(source, &tables, &release, observer)?;
        return Ok(outcome(None));
    }
    let outcome_without_report = outcome(None);
    if options.force.contains(&Reason::OnTrial) {
        device.control.waive_fallback();
    }
    let mut slot_io = device.open_slot()?;
    let mut observer = Journalling {
        inner: observer,
        journal: device.journal.take(),
    };
    let target = Target {
        active: device.active,
        tries: device.tries,
        control: &mut device.control,
        slot_io: &mut slot_io,
    };
    let report = engine::install(source, &tables, &release, target, &mut observer)?;
    // The slot is activated; that its read-only flag did not come back does not change that.
    if let Err(error) = slot_io.finish() {
        log::warn!("{error}");
    }
    Ok(Outcome {
        report: Some(report),
        ..outcome_without_report
    })
}

fn outcome(release: &Admitted, report: Option<Report>, slot: Slot, tries: TryCount) -> Outcome {
    let manifest = release.manifest();
    Outcome {
        report,
        slot,
        product: manifest.product.to_string(),
        version: manifest.version.to_string(),
        rollback_index: manifest.rollback_index,
        id: manifest.id(),
        tries: tries.get(),
    }
}

/// Notes in the journal what is about to be activated.
struct Journalling<'a> {
    inner: &'a mut dyn Observer,
    journal: Option<Journal>,
}

impl Observer for Journalling<'_> {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        self.inner.progress(phase, done, total);
    }

    fn staging(&mut self, release: &Admitted, slot: Slot) {
        self.inner.staging(release, slot);
        let Some(journal) = &mut self.journal else {
            return;
        };
        let manifest = release.manifest();
        let release = Release {
            id: manifest.id().0,
            version: manifest.version.to_string(),
            rollback_index: manifest.rollback_index,
        };
        // Neither booting nor confirming needs the journal.
        if let Err(error) = journal.staged(&release, slot) {
            log::warn!("{error}");
        }
    }
}

impl Outcome {
    /// The facts as one line of JSON.
    ///
    /// `{"result":"staged"|"checked","slot":"a"|"b","product":…,"version":…,"rollback_index":N,"id":"<64 hex>","tries":N,
    /// "blocks":N,"unchanged":N,"bytes":N}`; the last three only after "staged".
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut facts = serde_json::json!({
            "result": if self.report.is_some() { "staged" } else { "checked" },
            "slot": self.slot.as_str(),
            "product": self.product,
            "version": self.version,
            "rollback_index": self.rollback_index,
            "id": self.id.to_string(),
            "tries": self.tries,
        });
        if let (Some(report), Some(facts)) = (self.report, facts.as_object_mut()) {
            facts.insert("blocks".into(), report.blocks.into());
            facts.insert("unchanged".into(), report.unchanged.into());
            facts.insert("bytes".into(), report.bytes.into());
        }
        facts.to_string()
    }
}

fn signatures(count: u8) -> NonZeroU8 {
    NonZeroU8::new(count).unwrap_or(NonZeroU8::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_documented_shape() {
        let mut outcome = Outcome {
            report: None,
            slot: Slot::B,
            product: "demo".into(),
            version: "2.0.0".into(),
            rollback_index: 2,
            id: Digest::default(),
            tries: 3,
        };
        let zeros = "0".repeat(64);
        let common = r#""product":"demo","result":"checked","rollback_index":2,"slot":"b","tries":3,"version":"2.0.0""#;
        assert_eq!(outcome.to_json(), format!(r#"{{"id":"{zeros}",{common}}}"#));
        outcome.report = Some(Report {
            slot: Slot::B,
            blocks: 5,
            unchanged: 1,
            bytes: 20480,
        });
        let json: serde_json::Value = serde_json::from_str(&outcome.to_json()).unwrap();
        assert_eq!(json["result"], "staged");
        assert_eq!(
            (&json["blocks"], &json["unchanged"], &json["bytes"]),
            (&5.into(), &1.into(), &20480.into())
        );
        assert_eq!(json.as_object().unwrap().len(), 10);
    }
}
