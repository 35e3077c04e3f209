//! The command line of `update_engine`.

mod apply;
mod health;
mod progress;
mod run;

use bootctl::exit::Exit;
use clap::{ArgAction, Parser, Subcommand};
use updater::print;

/// Installs signed releases into the slot that is not running, and confirms the running one.
#[derive(Debug, Parser)]
#[command(name = "update_engine", version, help_expected = true)]
pub struct Arguments {
    /// Tell more; twice for everything (`RUST_LOG` overrides).
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Apply(apply::Arguments),
    Health(health::Arguments),
    /// The download process of another program of ours: speaks with it over standard input. Not for people.
    #[command(name = updater::fetch::VERB, hide = true)]
    Fetch,
    /// What stays behind when systemd was asked to reboot, and does it if that does not. Not for people.
    #[command(name = updater::health::reboot::VERB, hide = true)]
    Insist,
    Run(run::Arguments),
}

impl Arguments {
    /// Does what was asked for and says on standard error what went wrong.
    pub fn run(self) -> Exit {
        print::start_log(self.verbose);
        let result = match self.verb {
            Verb::Apply(arguments) => arguments.run(self.verbose > 0),
            Verb::Health(arguments) => arguments.run(),
            Verb::Fetch => fetch(),
            Verb::Insist => insist(),
            Verb::Run(arguments) => arguments.run(),
        };
        result.unwrap_or_else(|failure| {
            // Every error names its cause itself; the chain would say it twice.
            print::complain(format_args!("update_engine: {}", failure.error));
            failure.exit
        })
    }
}

/// Why a verb failed, and the exit code for it.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

fn fetch() -> Result<Exit, Failure> {
    updater::fetch::run_child().map_err(|error| Failure {
        exit: Exit::Failed,
        error: anyhow::anyhow!("run the download process: {error}"),
    })?;
    Ok(Exit::Done)
}

fn insist() -> Result<Exit, Failure> {
    Err(Failure {
        exit: Exit::Failed,
        error: anyhow::anyhow!("reboot: {}", updater::health::reboot::stay_and_insist()),
    })
}
