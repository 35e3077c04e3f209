//! The command line: Flatcar's flags, with one dash or two, and ours.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use bootctl::Slot;
use bootctl::exit::Exit;
use clap::{ArgAction, ArgGroup, Parser};
use updater::control_socket::Request;
use updater::gates::Reason;
use updater::print::{complain, say, start_log};
use updater::service::Failure;
use updater::service::keeper::peek;
use updater::service::place::Place;
use updater::service::status::Status;

use super::live::Live;
use super::show;
use super::talk::{Conversation, wish};

/// Asks for updates, cancels them, and tells what the updater is doing.
///
/// Every flag may be written with one dash or with two.
///
/// Exit codes: 0 done, 1 I/O or download cut off, 2 usage, 3 no update, 4 already staged, 5 busy, 6 refused,
/// 7 verification failed.
#[derive(Debug, Parser)]
#[command(
    name = "update_engine_client",
    version,
    help_expected = true,
    group(ArgGroup::new("verb").required(true))
)]
pub struct Arguments {
    /// Print what the updater is doing, as KEY=VALUE.
    #[arg(long, group = "verb")]
    status: bool,
    /// Look whether there is an update, and install nothing.
    #[arg(long = "check_for_update", group = "verb")]
    check_for_update: bool,
    /// Install an update and wait until it is staged.
    #[arg(long, group = "verb")]
    update: bool,
    /// Forget the last error, and what a check has found. A staged update stays; -cancel takes it back.
    #[arg(long = "reset_status", group = "verb")]
    reset_status: bool,
    /// Go back to the other slot at the next boot.
    #[arg(long, group = "verb")]
    rollback: bool,
    /// End the update that is under way, at the next block, or take a staged one back. The slot is unbootable then.
    #[arg(long, group = "verb")]
    cancel: bool,
    /// Show how far the update that is under way is, until it ends.
    #[arg(long, group = "verb")]
    follow: bool,
    /// Print the status each time it changes.
    #[arg(long = "watch_for_updates", group = "verb")]
    watch_for_updates: bool,
    /// Print what has happened to this device, oldest first.
    #[arg(long, group = "verb")]
    history: bool,
    /// The payload to install or to check, - for standard input. Without it the one that the settings lead to: in
    /// PAYLOAD_DIR, else on SERVER.
    #[arg(long, value_name = "FILE|URL|-")]
    payload: Option<PathBuf>,
    /// Rules to override: downgrade (older version, lower index, min_version), rolled-back (it failed here before),
    /// on-trial (the active slot is not confirmed), board (health will not confirm it where the disk is for another one),
    /// same (it runs or is staged already).
    #[arg(long, value_name = "REASON,…", value_delimiter = ',')]
    force: Vec<Reason>,
    /// Print facts as one object of JSON, and no progress.
    #[arg(long)]
    json: bool,
    /// Tell more; twice for everything (`RUST_LOG` overrides).
    #[arg(short, long, action = ArgAction::Count)]
    verbose: u8,
    /// Work on this disk or image, which does not run, instead of the one that does.
    #[arg(long, value_name = "DEV|IMAGE")]
    disk: Option<PathBuf>,
    /// Slot of --disk that counts as active.
    #[arg(long, value_name = "a|b", requires = "disk")]
    active: Option<Slot>,
    /// Folder of trusted keys (*.pub.pem), instead of those of the active slot.
    #[arg(long, value_name = "DIR", requires = "disk")]
    keys: Option<PathBuf>,
    /// Folder with the socket and the lock of the service, instead of /run/tandem.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Folder for journal, history and status of --disk; without it nothing is remembered.
    #[arg(long, value_name = "DIR", requires = "disk")]
    state: Option<PathBuf>,
    /// Root folder whose settings count for --disk (etc/tandem/update.conf over usr/lib/tandem/update.conf), instead of
    /// those in its active slot.
    #[arg(long, value_name = "DIR", requires = "disk")]
    root: Option<PathBuf>,
}

impl Arguments {
    /// Does what was asked for and says on standard error what went wrong.
    pub fn run(self) -> Exit {
        start_log(self.verbose);
        self.dispatch().unwrap_or_else(|failure| {
            complain(format_args!("update_engine_client: {failure}"));
            failure.exit
        })
    }

    fn dispatch(self) -> Result<Exit, Failure> {
        let place = self.place();
        let json = self.json;
        let works = self.update || self.check_for_update;
        if !works && (self.payload.is_some() || !self.force.is_empty()) {
            let text = "use --payload, --force: they go with -update and -check_for_update";
            return Err(Failure::new(Exit::Usage, text));
        }
        if works {
            let (wish, descriptor) = wish(self.payload.as_deref(), self.force)?;
            let request = match self.update {
                true => Request::Update(wish),
                false => Request::Check(wish),
            };
            return act(&place, &request, descriptor.as_ref(), json);
        }
        let request = match () {
            () if self.history => return show::history(&place, json),
            () if self.status => return status(&place, json),
            () if self.watch_for_updates => return watch(&place, json),
            () if self.follow => Request::Follow,
            () if self.cancel => Request::Cancel,
            () if self.rollback => Request::Rollback,
            () => Request::Reset,
        };
        act(&place, &request, None, json)
    }

    fn place(&self) -> Place {
        let given = Place {
            disk: self.disk.clone(),
            active: self.active,
            keys: self.keys.clone(),
            state: self.state.clone(),
            run: self.run.clone(),
            root: self.root.clone(),
            ..Place::default()
        };
        given.complete()
    }
}

/// Asks for something that takes a while, and prints what came of it.
fn act(
    place: &Place,
    request: &Request,
    descriptor: Option<&OwnedFd>,
    json: bool,
) -> Result<Exit, Failure> {
    let mut live = Live::new(json);
    let mut conversation = match request {
        // Where no service runs, nothing is under way that could be followed.
        Request::Follow => Conversation::with_service(place)?
            .ok_or_else(|| Failure::new(Exit::NoUpdate, "follow update: none is under way"))?,
        _ => Conversation::begin(place)?,
    };
    let descriptor = descriptor.map(|descriptor| descriptor as &dyn AsFd);
    let done = conversation.ask(request, descriptor, |status| live.show(status));
    live.finish();
    let done = done?;
    match (json, done.facts.is_null()) {
        (true, false) => say(done.facts),
        (true, true) => say("{}"),
        (false, _) if done.text.is_empty() => {}
        (false, _) => say(done.text),
    }
    Ok(Exit::Done)
}

fn status(place: &Place, json: bool) -> Result<Exit, Failure> {
    let print = |status: &Status| show::status(status, place, json);
    match Conversation::with_service(place)? {
        Some(mut conversation) => drop(conversation.ask(&Request::Status, None, print)?),
        None => print(&peek(place)?),
    }
    Ok(Exit::Done)
}

/// Ends only with the service.
fn watch(place: &Place, json: bool) -> Result<Exit, Failure> {
    let mut conversation = Conversation::with_service(place)?.ok_or_else(|| {
        Failure::failed("watch for updates: the service does not run (update_engine run)")
    })?;
    conversation.ask(&Request::Watch, None, |status| match json {
        true => say(status.to_json()),
        false => say(format_args!("{}\n", status.to_lines())),
    })?;
    Ok(Exit::Done)
}

/// `-status` as `--status`: Flatcar's users write flags of several letters with one dash. Flags of one letter, which
/// may be repeated (`-vv`), stay as they are.
pub fn with_two_dashes(argument: OsString) -> OsString {
    let bytes = argument.as_bytes();
    let long = match bytes {
        [b'-', name @ ..] => {
            name.len() > 1 && name[0] != b'-' && name.iter().any(|letter| *letter != name[0])
        }
        _ => false,
    };
    if !long {
        return argument;
    }
    let mut with_two = vec![b'-'];
    with_two.extend_from_slice(bytes);
    OsString::from_vec(with_two)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = line.split(' ').map(OsString::from).map(with_two_dashes);
        Arguments::try_parse_from(words)
    }

    #[test]
    fn flatcars_flags_are_taken_with_one_dash_and_with_two() {
        for dashes in ["-", "--"] {
            let parsed = |flag: &str| parse(&format!("client {dashes}{flag}")).unwrap();
            assert!(parsed("status").status);
            assert!(parsed("check_for_update").check_for_update);
            assert!(parsed("update").update);
            assert!(parsed("reset_status").reset_status);
            assert!(parsed("watch_for_updates").watch_for_updates);
        }
        let both = parse("client -vv -update -payload - -force=same,board -json").unwrap();
        assert_eq!((both.verbose, both.force.len(), both.json), (2, 2, true));
        assert_eq!(both.payload, Some("-".into()));
    }

    #[test]
    fn exactly_one_verb_is_needed() {
        for line in [
            "client",
            "client -json",
            "client -status -update",
            "client -nonsense",
            "client -status --keys d",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
