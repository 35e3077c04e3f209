//! `update_engine health`.

use std::path::PathBuf;

use anyhow::anyhow;
use bootctl::Slot;
use bootctl::exit::Exit;
use clap::Args;
use updater::health::{HealthError, System, Verdict, reboot};

use super::Failure;
use super::print::{complain, say};

/// Confirm the running slot if it is on trial and passes its checks; for every boot.
///
/// A confirmed slot costs no write; a release that the loader came back from is recorded with the reason. A slot on
/// trial that does not pass leaves its reason in /var/lib/tandem/journal.json, and the system is rebooted if the
/// loader has another slot to go to.
///
/// Exit codes: 0 confirmed, now or before; 1 the disk or its boot state failed; 6 a check failed, or the slot is not the
/// release that was announced; 7 the slot does not accept the manifest that announced it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Look at this disk or image instead of the running one; needs --active and --root, and never reboots.
    #[arg(long, value_name = "DEV|IMAGE", requires_all = ["active", "root"])]
    disk: Option<PathBuf>,
    /// The slot of --disk that counts as running: `a` or `b`.
    #[arg(long, value_name = "SLOT", requires = "disk")]
    active: Option<Slot>,
    /// The folder that holds usr, etc and var of that system.
    #[arg(long, value_name = "DIR", requires = "disk")]
    root: Option<PathBuf>,
    /// Do not reboot when the slot does not pass.
    #[arg(long)]
    no_reboot: bool,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let may_reboot = self.disk.is_none() && !self.no_reboot;
        let verdict = self.system().and_then(|system| {
            let verdict = system.check()?;
            Ok((system.active, verdict))
        });
        match verdict {
            Ok((slot, verdict)) => report(slot, verdict, may_reboot),
            Err(error) => Err(Failure {
                exit: error.exit(),
                error: error.into(),
            }),
        }
    }

    fn system(self) -> Result<System, HealthError> {
        match (self.disk, self.active, self.root) {
            (Some(disk), Some(active), Some(root)) => System::at(&root, disk, active),
            // The three come together.
            _ => System::running(),
        }
    }
}

fn report(slot: Slot, verdict: Verdict, may_reboot: bool) -> Result<Exit, Failure> {
    match verdict {
        Verdict::Confirmed => say(format_args!("slot {slot} is confirmed")),
        Verdict::Proven => say(format_args!(
            "slot {slot} passed its checks and is confirmed now"
        )),
        Verdict::FellBack { version, reason } => say(format_args!(
            "slot {slot} is confirmed; the loader came back from {version}: {reason}"
        )),
        Verdict::Failed {
            failure,
            has_alternative,
        } => {
            let error = anyhow!("confirm slot {slot}: {}", failure.reason);
            let exit = failure.exit;
            if !may_reboot {
                return Err(Failure { exit, error });
            }
            // The last words reach the console before the system goes down.
            complain(format_args!("update_engine: {error}"));
            if !has_alternative {
                let error = anyhow!("reboot: the loader has no other slot to go to");
                return Err(Failure { exit, error });
            }
            let error = anyhow!("reboot: {}", reboot::reboot());
            return Err(Failure { exit, error });
        }
    }
    Ok(Exit::Done)
}
