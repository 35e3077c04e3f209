//! One payload onto one disk: [`apply`] does it in one go, a [`Session`] step by step.

mod device;
mod error;
mod noting;
mod session;

use std::fmt;
use std::path::PathBuf;

use bootctl::Slot;

pub use error::ApplyError;
pub use session::{Candidate, Offer, Session};

use crate::Digest;
use crate::engine::{Observer, Report};
use crate::gates::Reason;
use crate::source::Source;

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
    /// Root folder whose settings count for a disk that does not run, instead of those in its active slot.
    pub root: Option<PathBuf>,
    /// Folder of the journal and of the mark, instead of `/var/lib/tandem` for the disk that runs and none for any other.
    pub state: Option<PathBuf>,
    /// Go on where an earlier attempt with the same payload and slot has ended. Without it the mark is left alone where it
    /// is still true, and what it says is not used.
    pub resume: bool,
}

/// How it ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was done; `None` after a check.
    pub report: Option<Report>,
    /// All of the payload was looked at, and not only its manifest.
    pub whole: bool,
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

/// Applies the payload that `source` gives: one [`Session`] from its beginning to its end.
///
/// # Errors
/// See [`ApplyError`]; its [`exit`](ApplyError::exit) is the exit code.
pub fn apply(
    source: Source,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, ApplyError> {
    let mut session = Session::open(options)?;
    let offer = session.verify(source)?;
    let candidate = session.admit(offer)?;
    match options.check {
        true => session.check(candidate, observer),
        false => session.install(candidate, observer),
    }
}

/// In a sentence.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slot,
            product,
            version,
            tries,
            ..
        } = self;
        match self.report {
            None if !self.whole => {
                write!(f, "{product} {version} is available for slot {slot}")
            }
            None => write!(
                f,
                "payload of {product} {version} is good for slot {slot}; nothing was written"
            ),
            Some(report) => write!(
                f,
                "{product} {version} is staged in slot {slot} with {tries} tries ({} blocks, {} of them there already); reboot to try it",
                report.blocks, report.unchanged
            ),
        }
    }
}

impl Outcome {
    /// The facts as one line of JSON.
    ///
    /// `{"result":"staged"|"checked"|"available","slot":"a"|"b","product":…,"version":…,"rollback_index":N,"id":"<64 hex>","tries":N,
    /// "blocks":N,"unchanged":N,"resumed":N,"bytes":N}`; the last four only after "staged".
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut facts = serde_json::json!({
            "result": match self.report {
                Some(_) => "staged",
                None if self.whole => "checked",
                None => "available",
            },
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
            facts.insert("resumed".into(), report.resumed.into());
            facts.insert("bytes".into(), report.bytes.into());
        }
        facts.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_documented_shape() {
        let mut outcome = Outcome {
            report: None,
            whole: true,
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
        outcome.whole = false;
        assert!(outcome.to_json().contains(r#""result":"available""#));
        outcome.report = Some(Report {
            slot: Slot::B,
            blocks: 5,
            unchanged: 1,
            resumed: 1,
            bytes: 20480,
        });
        let json: serde_json::Value = serde_json::from_str(&outcome.to_json()).unwrap();
        assert_eq!(json["result"], "staged");
        assert_eq!(
            (&json["blocks"], &json["unchanged"], &json["bytes"]),
            (&5.into(), &1.into(), &20480.into())
        );
        assert_eq!(json["resumed"], 1);
        assert_eq!(json.as_object().unwrap().len(), 11);
    }
}
