//! Finds the payload that is meant: a file, a web address, or what the settings lead to.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use bootctl::exit::Exit;

use super::Failure;
use super::place::Place;
use super::work::Stop;
use crate::apply::Session;
use crate::control_socket::Payload;
use crate::fetch::{self, FetchOptions, HttpPayload};
use crate::payload::MAX_PREFIX;
use crate::resume::{self, Saved};
use crate::settings::Settings;
use crate::source::Source;
use crate::stick::{Found as Newest, Look, NotTaken};

/// Where to look.
#[derive(Debug)]
pub enum Finder {
    /// Where somebody said, with the descriptor that came along.
    Asked(Payload, Option<OwnedFd>),
    /// In the folder of payloads that the settings name.
    Stick,
}

/// Where it is.
#[derive(Debug)]
pub(super) enum Found {
    Here(Source),
    Afar(Box<Download>),
}

impl Finder {
    /// Looks. Opens files, and no connection. Where nobody has asked, a folder that is of no use, or whose payload is left
    /// alone or has to wait, does not stand in the server's way.
    pub(super) fn find(
        self,
        place: &Place,
        session: &mut Session,
        unasked: bool,
        stop: &Stop,
    ) -> Result<Found, Failure> {
        match self {
            Self::Asked(Payload::Descriptor, Some(descriptor)) => {
                let file = File::from(descriptor);
                // Looked at again where it is opened.
                match file
                    .metadata()
                    .is_ok_and(|found| found.file_type().is_fifo() || found.file_type().is_socket())
                {
                    true => Ok(Found::Here(Source::stream(stop.ending(file)))),
                    false => here(file),
                }
            }
            Self::Asked(Payload::Descriptor, None) => Err(Failure::new(
                Exit::Usage,
                "open payload: no descriptor came with the request",
            )),
            Self::Asked(Payload::Url(url), _) => Download::found(place, session, url),
            Self::Asked(Payload::Configured, _) => configured(place, session, unasked),
            Self::Stick => on_stick(session)?.map_or_else(Err, |found| here(found.file)),
        }
    }
}

/// What the folder of payloads holds, else what the server has. The one is at hand, and the other can wait for a reboot.
fn configured(place: &Place, session: &mut Session, unasked: bool) -> Result<Found, Failure> {
    let nothing = match on_stick(session) {
        Ok(Ok(found)) => {
            let id = found.manifest.id().0;
            // Why it is not taken it says itself where there is no server.
            let is_alone = session.settings().polled_server().is_none();
            if is_alone || !unasked || is_next(place, &id)? {
                return here(found.file);
            }
            let text = "find update: the payload at hand is not wanted, or has to wait";
            Failure::new(Exit::NoUpdate, text)
        }
        Ok(Err(nothing)) => nothing,
        Err(failure) if unasked => {
            log::warn!("{failure}");
            failure
        }
        Err(failure) => return Err(failure),
    };
    let settings = session.settings();
    let Some(server) = settings.polled_server() else {
        return Err(nothing);
    };
    if settings.group.is_empty() {
        let text = "find update: a server has payloads for groups, and this device is in none (GROUP in update.conf)";
        return Err(Failure::new(Exit::Refused, text));
    }
    let url = fetch::latest_payload(server, &settings.group, session.board());
    Download::found(place, session, url)
}

/// The device would install that payload now, although nobody asks for it.
fn is_next(place: &Place, id: &[u8; 32]) -> Result<bool, Failure> {
    Ok(place.reluctance(id)?.is_none() && place.wait(id).is_zero())
}

/// The newest payload in the folder that the settings name, or in words that there is none.
fn on_stick(session: &mut Session) -> Result<Result<Newest, Failure>, Failure> {
    let Some(folder) = session.settings().payload_dir.clone() else {
        let text = "find update: there is no place to look (--payload, or SERVER or PAYLOAD_DIR in update.conf)";
        return Ok(Err(Failure::new(Exit::Refused, text)));
    };
    let look = session
        .newest_in(Path::new(folder.as_str()))
        .map_err(Failure::failed)?;
    for (path, why) in &look.others {
        log::info!("{}: {why}", path.display().to_string().escape_debug());
    }
    Ok(match look.best {
        Some(found) => Ok(found),
        None => Err(nothing(&folder, &look)),
    })
}

/// A payload that is damaged or refused is no lack of updates, and must not pass for it.
fn nothing(folder: &str, look: &Look) -> Failure {
    let fault = look
        .others
        .iter()
        .map(|(path, why)| (path, why, exit(why)))
        .find(|(.., exit)| !matches!(exit, Exit::NoUpdate | Exit::AlreadyStaged));
    match fault {
        Some((path, why, exit)) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.escape_debug();
            Failure::new(exit, format!("find update: {name} in {folder}: {why}"))
        }
        None => {
            let text = format!("find update: no newer payload in {folder} (PAYLOAD_DIR)");
            Failure::new(Exit::NoUpdate, text)
        }
    }
}

fn exit(why: &NotTaken) -> Exit {
    match why {
        NotTaken::Open(_) | NotTaken::NotAFile => Exit::Failed,
        NotTaken::Incoming(_) => Exit::Verification,
        NotTaken::Refused(refusal) => refusal.exit(),
        NotTaken::Older(_) => Exit::NoUpdate,
    }
}

fn here(file: File) -> Result<Found, Failure> {
    let source = Source::from_file(file);
    let source = source.map_err(|error| Failure::failed(format!("open payload: {error}")))?;
    Ok(Found::Here(source))
}

/// A payload on a web server.
#[derive(Debug)]
pub(super) struct Download {
    url: String,
    options: FetchOptions,
    /// What an earlier attempt has received from there.
    saved: Option<Saved>,
}

impl Download {
    fn found(place: &Place, session: &Session, url: String) -> Result<Found, Failure> {
        if !fetch::is_web_address(&url) {
            let text = "open payload: that is no http or https address (--payload)";
            return Err(Failure::new(Exit::Usage, text));
        }
        let options = Self::options(place, session.settings())?;
        let saved = place.state.as_deref().and_then(resume::load);
        let from_there = |saved: &Saved| {
            let origin = saved.mark.origin.as_ref();
            origin.is_some_and(|origin| origin.url == url)
        };
        let saved = saved.filter(from_there);
        Ok(Found::Afar(Box::new(Self {
            url,
            options,
            saved,
        })))
    }

    fn options(place: &Place, settings: &Settings) -> Result<FetchOptions, Failure> {
        let options = FetchOptions::from_settings(settings);
        let mut options = options.map_err(|error| Failure::failed(with_keys(&error)))?;
        options.program = place.program.clone();
        Ok(options)
    }

    /// Its bytes: those that were received before come from the state directory, and of the others the first ones are
    /// asked for alone. Once `stop` is set they end.
    pub fn source(&self, again: bool, stop: &Stop) -> Source {
        let saved = self.saved.as_ref().filter(|_| again);
        let origin = saved.and_then(|saved| Some((saved, saved.mark.origin.as_ref()?)));
        let options = self.options.clone();
        let (prefix, payload) = match origin {
            Some((saved, origin)) => (saved.prefix.clone(), HttpPayload::again(origin, options)),
            None => {
                let payload = HttpPayload::new(&self.url, options, None);
                (Vec::new(), payload.head_first(MAX_PREFIX as u64))
            }
        };
        stop.also(payload.canceller());
        Source::resumed(prefix, payload)
    }

    /// An earlier attempt has received the beginning.
    pub const fn goes_on(&self) -> bool {
        self.saved.is_some()
    }
}

fn with_keys(error: &fetch::OptionsError) -> String {
    format!("{error} (CA_FILE, CLIENT_CERT_FILE, CLIENT_KEY_FILE in update.conf)")
}
