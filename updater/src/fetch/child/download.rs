//! A download with all its attempts.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ureq::http::Uri;
use ureq::http::header::{IF_RANGE, RANGE};
use ureq::{Body, BodyReader};

use super::agent::Agents;
use super::answer::{Verdict, Wanted};
use super::explain::{explain, explain_io};
use super::pace::Pace;
use super::proxy;
use super::redirect::{self, MAX_REDIRECTS};
use super::retry::Retry;
use crate::fetch::failure::{Failure, FailureKind};
use crate::fetch::wire::{self, MAX_DATA, Request, Trouble, Validator};

/// So many bytes have to come within the time for a stall; a connection that drips is given up.
const MIN_IN_STALL: u64 = 4096;

/// How often it is told that bytes before what is wanted are thrown away, where the server knows no ranges. That may take
/// long, and whoever listens takes silence for a process that is broken.
const TELL_SKIPPED: Duration = Duration::from_secs(5);

/// Why a download ends before its end.
#[derive(Debug)]
enum Stop {
    Failed(Failure),
    /// Nobody listens any more.
    Gone(io::Error),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Fetches what is wanted and says on `out` how it went.
///
/// # Errors
/// The other side is gone.
pub fn run(request: &Request, out: &mut UnixStream) -> io::Result<()> {
    match Download::new(request, out).and_then(Download::run) {
        Ok(()) => wire::send_end(out),
        Err(Stop::Failed(failure)) => wire::send_failure(out, &failure.tamed()),
        Err(Stop::Gone(error)) => Err(error),
    }
}

struct Download<'a> {
    request: &'a Request,
    out: &'a mut UnixStream,
    agents: Agents,
    start: Uri,
    /// First byte that is missing.
    at: u64,
    known: Option<Validator>,
    has_told: bool,
    /// A connection closed, which may have been the end of the file.
    may_be_complete: bool,
    pace: Option<Pace>,
    buffer: Vec<u8>,
}

impl<'a> Download<'a> {
    fn new(request: &'a Request, out: &'a mut UnixStream) -> Result<Self, Stop> {
        let start = redirect::parse(&request.url).ok_or_else(|| {
            let detail = "that is no http or https address";
            Failure::new(FailureKind::Address, detail)
        })?;
        let pace = request.rate.map(Pace::new);
        let chunk = pace.as_ref().map_or(MAX_DATA, Pace::chunk);
        Ok(Self {
            request,
            out,
            agents: Agents::new(request)?,
            start,
            at: request.offset,
            known: request.validator.clone(),
            has_told: false,
            may_be_complete: false,
            pace,
            buffer: vec![0; chunk.min(MAX_DATA)],
        })
    }

    fn run(mut self) -> Result<(), Stop> {
        let mut retry = Retry::new(self.request.patience);
        while !self.is_complete() {
            let before = self.at;
            let failure = match self.attempt() {
                Ok(()) => return Ok(()),
                Err(Stop::Failed(failure)) if failure.is_transient() => failure,
                Err(stop) => return Err(stop),
            };
            let asked = failure.retry_after.map(Duration::from_secs);
            let brought = self.at.saturating_sub(before);
            let Some(wait) = retry.after(brought, asked, random()) else {
                return Err(failure.into());
            };
            let trouble = Trouble {
                at: self.at,
                wait: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                failure: failure.tamed(),
            };
            wire::send_trouble(self.out, &trouble)?;
            std::thread::sleep(wait);
        }
        Ok(())
    }

    /// Everything that was wanted is there, as far as the length is known.
    fn is_complete(&self) -> bool {
        let length = self.known.as_ref().and_then(|known| known.length);
        length == Some(self.at) || self.request.end.is_some_and(|end| end <= self.at)
    }

    /// One request, with its redirects, from the first byte that is missing. Returns at the end of the file.
    fn attempt(&mut self) -> Result<(), Stop> {
        let mut url = self.start.clone();
        for _ in 0..=MAX_REDIRECTS {
            wire::send_alive(self.out)?;
            let host = url.host().unwrap_or_default().to_owned();
            let proxy = proxy::choose(&self.request.proxies, &url)?;
            let agent = self.agents.through(proxy);
            let wanted = Wanted {
                offset: self.at,
                end: self.request.end,
                known: self.known.as_ref(),
            };
            let mut call = agent.get(&url);
            if let Some(range) = wanted.range() {
                call = call.header(RANGE, range);
            }
            if let Some(tag) = wanted.if_range() {
                call = call.header(IF_RANGE, tag);
            }
            let answer = call.call().map_err(|error| explain(error, &host))?;
            match wanted.judge(answer.status(), answer.headers()) {
                Verdict::Redirect(location) => url = redirect::follow(&url, &location)?,
                Verdict::Complete => return Ok(()),
                Verdict::Failed(failure) => return Err(failure.into()),
                // The server knows no ranges: it can't be asked whether there is more.
                Verdict::Body { skip, .. } if skip > 0 && self.may_be_complete => return Ok(()),
                Verdict::Body {
                    skip,
                    head,
                    ends_file,
                } => {
                    self.tell(head)?;
                    return self.take(answer.into_body(), skip, ends_file, &host);
                }
            }
        }
        let detail = format!("the server redirects more than {MAX_REDIRECTS} times");
        Err(Failure::new(FailureKind::Redirect, detail).into())
    }

    /// Says once what the server says about the file; from then on it has to stay that file.
    fn tell(&mut self, head: Validator) -> io::Result<()> {
        if !self.has_told {
            wire::send_head(self.out, &head)?;
            self.has_told = true;
        }
        let known = self.known.get_or_insert_with(|| head.clone());
        known.length = known.length.or(head.length);
        Ok(())
    }

    fn take(&mut self, body: Body, skip: u64, ends_file: bool, host: &str) -> Result<(), Stop> {
        // How much is enough is not the client's business.
        let body = body.into_with_config().limit(u64::MAX).reader();
        let mut body = Incoming {
            body,
            host,
            drip: Drip::new(self.request.patience.stall),
        };
        let mut skip = Skip::new(skip);
        while skip.left > 0 || !self.is_complete() {
            let room = match skip.left {
                0 => self.missing(),
                left => left,
            };
            let room = usize::try_from(room)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let chunk = self.buffer.get_mut(..room).unwrap_or_default();
            let count = body.read(chunk)?;
            let chunk = chunk.get(..count).unwrap_or_default();
            if chunk.is_empty() {
                return self.body_ended(skip.left == 0 && ends_file);
            }
            match skip.left {
                0 => {
                    wire::send_data(self.out, chunk)?;
                    self.at = self.at.saturating_add(count as u64);
                    self.may_be_complete = false;
                }
                _ => skip.took(count, self.out)?,
            }
            if let Some(pace) = &mut self.pace {
                std::thread::sleep(pace.took(count, Instant::now()));
            }
        }
        Ok(())
    }

    /// Bytes up to the end of what is wanted, as far as that is known.
    fn missing(&self) -> u64 {
        let length = self.known.as_ref().and_then(|known| known.length);
        let ends = [length, self.request.end];
        let end = ends.into_iter().flatten().min().unwrap_or(u64::MAX);
        end.saturating_sub(self.at)
    }

    fn body_ended(&mut self, is_end: bool) -> Result<(), Stop> {
        let has_length = self
            .known
            .as_ref()
            .is_some_and(|known| known.length.is_some());
        if is_end && !has_length {
            return Ok(());
        }
        self.may_be_complete = !has_length;
        Err(Failure::new(FailureKind::CutOff, "the connection ended").into())
    }
}

/// What comes before the first byte that is wanted.
struct Skip {
    left: u64,
    untold: u32,
    told: Instant,
}

impl Skip {
    fn new(left: u64) -> Self {
        Self {
            left,
            untold: 0,
            told: Instant::now(),
        }
    }

    fn took(&mut self, count: usize, out: &mut UnixStream) -> io::Result<()> {
        self.left = self.left.saturating_sub(count as u64);
        self.untold = self
            .untold
            .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.told.elapsed() >= TELL_SKIPPED {
            wire::send_skipped(out, self.untold)?;
            self.untold = 0;
            self.told = Instant::now();
        }
        Ok(())
    }
}

/// The body of an answer; an error in it is explained, and one that drips ends.
struct Incoming<'h> {
    body: BodyReader<'static>,
    host: &'h str,
    drip: Drip,
}

impl Incoming<'_> {
    fn read(&mut self, chunk: &mut [u8]) -> Result<usize, Failure> {
        let began = Instant::now();
        let count = self
            .body
            .read(chunk)
            .map_err(|error| explain_io(error, self.host))?;
        match self.drip.is_flowing(began.elapsed(), count as u64) {
            true => Ok(count),
            false => Err(Failure::new(
                FailureKind::Stalled,
                "the server sends next to nothing",
            )),
        }
    }
}

/// Time spent waiting for a body, against bytes that came.
struct Drip {
    limit: Duration,
    waited: Duration,
    bytes: u64,
}

impl Drip {
    fn new(stall: u64) -> Self {
        Self {
            limit: Duration::from_millis(stall),
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    fn is_flowing(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= MIN_IN_STALL {
            self.waited = Duration::ZERO;
            self.bytes = 0;
        }
        self.waited < self.limit
    }
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without chance all devices wait alike, which is no reason to give up.
    match getrandom::fill(&mut bytes) {
        Ok(()) => u16::from_le_bytes(bytes),
        Err(_) => 0,
    }
}
