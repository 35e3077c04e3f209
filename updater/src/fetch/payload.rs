//! The end of a download in the process that holds the disk.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::address::printable;
use super::failure::{Failure, FailureKind, FetchError};
use super::options::FetchOptions;
use super::process;
use super::wire::{self, Answer, MAX_DATA, Request, Trouble, Validator};
use crate::source::{Origin, Remote, SourceError};
use crate::unprivileged::Process;

/// Messages in a row that bring no byte of the file.
const MAX_NOTES: u32 = 2000;
/// How often the way to a byte may be gone before it comes.
const MAX_WAYS: u64 = 32;
/// So many bytes have to come in [`PULSE`] of waiting, or the download process is not what it should be: by its own rules
/// it would have given up.
const MIN_PULSE: u64 = 16 << 10;
const PULSE: Duration = Duration::from_secs(1800);

/// A payload on a web server, as a stream of bytes. No connection is made before the first byte is wanted.
pub struct HttpPayload {
    url: String,
    options: FetchOptions,
    /// Where the next byte of the stream lies in the file.
    at: u64,
    end: Option<u64>,
    /// What follows `end` is asked for once it is wanted.
    goes_on: bool,
    known: Option<Validator>,
    process: Option<Process>,
    link: Link,
    buffer: Box<[u8; MAX_DATA]>,
    /// What of the buffer was not read yet.
    unread: Range<usize>,
    is_complete: bool,
    failed: Option<FetchError>,
    /// Bytes that were thrown away since the last one of the file.
    skipped: u64,
    pulse: Pulse,
}

impl fmt::Debug for HttpPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpPayload")
            .field("url", &printable(&self.url))
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl HttpPayload {
    /// A payload at an `http` or `https` address. `known` is the file as it was when an earlier download of it began: a
    /// file that is another one by now ends in [`FailureKind::Changed`] and not in a mixture of both. Touches nothing.
    #[must_use]
    pub fn new(url: &str, options: FetchOptions, known: Option<Validator>) -> Self {
        Self {
            url: url.to_owned(),
            options,
            at: 0,
            end: None,
            goes_on: false,
            known,
            process: None,
            link: Link::default(),
            buffer: Box::new([0; MAX_DATA]),
            unread: 0..0,
            is_complete: false,
            failed: None,
            skipped: 0,
            pulse: Pulse::default(),
        }
    }

    /// The payload that an earlier download came from.
    #[must_use]
    pub fn again(origin: &Origin, options: FetchOptions) -> Self {
        let known = origin.validator.as_deref().map(Validator::from_text);
        Self::new(&origin.url, options, known.flatten())
    }

    /// The first `length` bytes are asked for by a request of their own, and the rest by another once it is wanted: who
    /// only wants to know what is offered costs the server no more.
    #[must_use]
    pub fn head_first(mut self, length: u64) -> Self {
        self.end = Some(length);
        self.goes_on = true;
        self
    }

    /// Takes the first `length` bytes at most, by a range request.
    ///
    /// # Errors
    /// They can't be had; a file that is shorter is none.
    pub fn head(url: &str, options: FetchOptions, length: u32) -> Result<Vec<u8>, FetchError> {
        let mut payload = Self::new(url, options, None);
        payload.end = Some(u64::from(length));
        let mut head = Vec::new();
        loop {
            let missing = (length as usize).saturating_sub(head.len());
            let chunk = payload.fill()?;
            let Some(wanted) = chunk
                .get(..missing.min(chunk.len()))
                .filter(|w| !w.is_empty())
            else {
                return Ok(head);
            };
            head.extend_from_slice(wanted);
            let count = wanted.len();
            payload.consume(count);
        }
    }

    /// Goes on at byte `offset` of the file. A running transfer that is elsewhere is given up.
    pub fn jump(&mut self, offset: u64) {
        if offset == self.at && self.failed.is_none() {
            return;
        }
        self.hang_up();
        self.at = offset;
        self.unread = 0..0;
        self.is_complete = false;
        self.failed = None;
    }

    /// What the server said about the file; known once the first byte was read.
    #[must_use]
    pub fn validator(&self) -> Option<&Validator> {
        self.known.as_ref()
    }

    /// Where the next byte lies in the file.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Ends the transfer from another thread, also while it waits for the network.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        Canceller {
            link: self.link.clone(),
        }
    }

    /// What came and was not consumed yet; empty at the end.
    fn fill(&mut self) -> Result<&[u8], FetchError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.unread.is_empty() && !self.is_complete {
            self.receive().map_err(|failure| self.give_up(failure))?;
        }
        Ok(self.buffer.get(self.unread.clone()).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.unread.len());
        self.unread.start = self.unread.start.saturating_add(count);
        self.at = self.at.saturating_add(count as u64);
    }

    fn give_up(&mut self, failure: Failure) -> FetchError {
        self.hang_up();
        let failure = match self.link.is_cancelled() {
            true => Failure::new(FailureKind::Cancelled, "cancelled"),
            false => failure,
        };
        let error = FetchError {
            url: printable(&self.url),
            failure: failure.tamed(),
        };
        self.failed = Some(error.clone());
        error
    }

    fn hang_up(&mut self) {
        self.link.disconnect();
        self.process = None;
    }

    /// Waits until the buffer holds bytes, or the file has ended.
    fn receive(&mut self) -> Result<(), Failure> {
        let mut notes = 0_u32;
        while notes < MAX_NOTES {
            let skipped = self.skipped;
            self.hear()?;
            if self.has_news() {
                return Ok(());
            }
            // Bytes on the way to what is wanted have a limit of their own.
            if self.skipped == skipped {
                notes = notes.saturating_add(1);
            }
        }
        Err(protocol("it talks and sends nothing"))
    }

    /// Reading would not have to wait.
    fn has_news(&self) -> bool {
        !self.unread.is_empty() || self.is_complete || self.failed.is_some()
    }

    /// Waits for one message.
    fn hear(&mut self) -> Result<(), Failure> {
        match self.answer()? {
            Answer::Alive => {}
            Answer::Skipped(count) => self.skip(count)?,
            Answer::Data(length) => {
                self.unread = 0..length;
                self.skipped = 0;
            }
            Answer::End => {
                self.hang_up();
                match self.wants_more() {
                    true => self.end = None,
                    false => self.is_complete = true,
                }
            }
            Answer::Head(head) => self.recognise(head)?,
            Answer::Trouble(trouble) => self.report(trouble),
            Answer::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    fn skip(&mut self, count: u32) -> Result<(), Failure> {
        self.skipped = self.skipped.saturating_add(u64::from(count));
        match self.skipped <= self.at.saturating_mul(MAX_WAYS) {
            true => Ok(()),
            false => Err(protocol("it throws away more than there is")),
        }
    }

    /// Whether a message comes in time. Who is not there yet is not waited for.
    fn is_called(&self, patience: Duration) -> bool {
        let Some(process) = &self.process else {
            return true;
        };
        let mut socket = [PollFd::new(process.socket.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        // Whatever is wrong with the socket, reading from it says it.
        !matches!(poll(&mut socket, patience), Ok(0) | Err(Errno::EINTR))
    }

    /// That was the head, and not all of the file.
    fn wants_more(&self) -> bool {
        let length = self.known.as_ref().and_then(|known| known.length);
        self.goes_on && self.end.is_some_and(|end| end <= self.at) && length != Some(self.at)
    }

    fn answer(&mut self) -> Result<Answer, Failure> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.start()?,
        };
        let began = Instant::now();
        let answer = wire::receive_answer(
            &process.socket,
            &mut self.buffer,
            self.options.patience.silence(),
        );
        self.process = Some(process);
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => Failure::new(
                FailureKind::Process,
                "the download process ended unexpectedly",
            ),
            ErrorKind::WouldBlock | ErrorKind::TimedOut => protocol("it went silent"),
            ErrorKind::InvalidData => protocol("it sent nonsense"),
            _ => protocol(&error.to_string()),
        })?;
        let count = match answer {
            Answer::Data(count) => count as u64,
            // They are on the way to what is wanted.
            Answer::Skipped(count) => u64::from(count),
            _ => 0,
        };
        match self.pulse.is_alive(began.elapsed(), count) {
            true => Ok(answer),
            false => Err(protocol("it sends next to nothing")),
        }
    }

    fn start(&mut self) -> Result<Process, Failure> {
        let request = Request {
            url: self.url.clone(),
            offset: self.at,
            end: self.end,
            validator: self.known.clone(),
            authorities: self.options.authorities.clone(),
            identity: self.options.identity.clone(),
            proxies: self.options.proxies.clone(),
            rate: self.options.rate,
            patience: self.options.patience,
        };
        let failed = |cause: io::Error| {
            let detail = format!("start the download process: {cause}");
            Failure::new(FailureKind::Process, detail)
        };
        let process = process::start(&self.options, &request).map_err(failed)?;
        let socket = process.socket.try_clone().map_err(failed)?;
        match self.link.connect(socket) {
            true => Ok(process),
            false => Err(Failure::new(FailureKind::Cancelled, "cancelled")),
        }
    }

    /// The other process compares more closely; the length is not left to it alone.
    fn recognise(&mut self, head: Validator) -> Result<(), Failure> {
        match &self.known {
            Some(known) => match (known.length, head.length) {
                (Some(was), Some(is)) if was != is => Err(Failure::new(
                    FailureKind::Changed,
                    format!("the file changed: it had {was} bytes and has {is}"),
                )),
                _ => Ok(()),
            },
            None => {
                let short = |tag: &String| tag.len() <= wire::MAX_TAG;
                self.known = Some(Validator {
                    etag: head.etag.filter(short),
                    modified: head.modified.filter(short),
                    length: head.length,
                });
                Ok(())
            }
        }
    }

    fn report(&self, trouble: Trouble) {
        let detail = trouble.failure.tamed().detail;
        let url = printable(&self.url);
        // A link that breaks all the time and yet gets on would fill the log.
        match trouble.wait < self.options.patience.first_wait {
            true => log::info!("download {url}: {detail} at byte {}", trouble.at),
            false => log::warn!(
                "download {url}: {detail} at byte {}; next attempt in {} s",
                trouble.at,
                trouble.wait.div_ceil(1000)
            ),
        }
    }
}

impl Read for HttpPayload {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let chunk = self.fill()?;
        let count = chunk.len().min(buf.len());
        let (Some(to), Some(from)) = (buf.get_mut(..count), chunk.get(..count)) else {
            return Ok(0);
        };
        to.copy_from_slice(from);
        self.consume(count);
        Ok(count)
    }
}

impl Remote for HttpPayload {
    fn is_ready(&mut self, patience: Duration) -> bool {
        if !self.has_news() && self.is_called(patience) {
            // A failure is kept for who reads.
            let _ = self.hear().map_err(|failure| self.give_up(failure));
        }
        self.has_news()
    }

    fn jump(&mut self, offset: u64) -> Result<(), SourceError> {
        Self::jump(self, offset);
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin {
            url: self.url.clone(),
            validator: self.known.as_ref().and_then(Validator::to_text),
        })
    }
}

impl Drop for HttpPayload {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn protocol(what: &str) -> Failure {
    let detail = format!("the download process breaks its rules: {what}");
    Failure::new(FailureKind::Protocol, detail)
}

/// Ends a transfer from another thread.
#[derive(Clone, Debug)]
pub struct Canceller {
    link: Link,
}

impl Canceller {
    /// Whoever waits for bytes gets [`FailureKind::Cancelled`] at once, and so does everybody later.
    pub fn cancel(&self) {
        let mut state = self.link.lock();
        state.is_cancelled = true;
        if let Some(socket) = &state.socket {
            // It fails only if the other side is gone, and then nobody waits.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// The socket in use, within reach of a [`Canceller`].
#[derive(Clone, Debug, Default)]
struct Link(Arc<Mutex<LinkState>>);

#[derive(Debug, Default)]
struct LinkState {
    socket: Option<UnixStream>,
    is_cancelled: bool,
}

impl Link {
    fn lock(&self) -> std::sync::MutexGuard<'_, LinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False if it was cancelled meanwhile.
    fn connect(&self, socket: UnixStream) -> bool {
        let mut state = self.lock();
        state.socket = Some(socket);
        !state.is_cancelled
    }

    fn disconnect(&self) {
        self.lock().socket = None;
    }

    fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }
}

/// Time spent waiting, against bytes that came.
#[derive(Debug, Default)]
struct Pulse {
    waited: Duration,
    bytes: u64,
}

impl Pulse {
    fn is_alive(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited = self.waited.saturating_add(waited);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= MIN_PULSE {
            *self = Self::default();
        }
        self.waited < PULSE
    }
}

#[cfg(test)]
#[path = "payload_tests.rs"]
mod tests;
