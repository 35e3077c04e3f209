//! `update_engine run`.

use std::path::PathBuf;

use bootctl::Slot;
use bootctl::exit::Exit;
use clap::Args;
use updater::service::place::Place;
use updater::service::run::run;

use super::Failure;

/// Serve update_engine_client until SIGTERM.
///
/// Exit codes: 0 told to end, 1 the disk can't be read or the socket not be made, 2 this machine runs from no disk of
/// ours.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Serve this disk or image, which does not run, instead of the one that does; needs --state.
    #[arg(long, value_name = "DEV|IMAGE", requires = "state")]
    disk: Option<PathBuf>,
    /// Slot of --disk that counts as active.
    #[arg(long, value_name = "a|b", requires = "disk")]
    active: Option<Slot>,
    /// Folder of trusted keys (*.pub.pem), instead of those of the active slot.
    #[arg(long, value_name = "DIR", requires = "disk")]
    keys: Option<PathBuf>,
    /// Folder for journal, history and status of --disk.
    #[arg(long, value_name = "DIR", requires = "disk")]
    state: Option<PathBuf>,
    /// Folder for the socket, instead of /run/tandem or that of --state.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Root folder whose settings count for --disk (etc/tandem/update.conf over usr/lib/tandem/update.conf), instead of
    /// those in its active slot.
    #[arg(long, value_name = "DIR", requires = "disk")]
    root: Option<PathBuf>,
}

impl Arguments {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let place = Place {
            disk: self.disk,
            active: self.active,
            keys: self.keys,
            state: self.state,
            run: self.run,
            root: self.root,
            ..Place::default()
        };
        match run(&place.complete()) {
            Ok(()) => Ok(Exit::Done),
            Err(failure) => Err(Failure {
                exit: failure.exit,
                error: failure.into(),
            }),
        }
    }
}
