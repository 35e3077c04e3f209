//! Carries out a check or an installation, telling the machine of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Digest;
use crate::apply::{Outcome, Session};
use crate::attendance::Attendance;
use crate::engine::{Observer, Phase};
use crate::fetch::Canceller;
use crate::gates::{Admitted, Reason};
use crate::journal::now;
use crate::source::Source;
use bootctl::Slot;
use bootctl::exit::Exit;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Failure;
use super::find::{Download, Finder, Found};
use super::machine::Event;
use super::place::Place;
use super::status::NewRelease;

/// What is to be done with a payload.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Do everything but write.
    pub check: bool,
    pub force: Vec<Reason>,
    /// Nobody has asked for it, so that it waits after attempts that failed.
    pub unasked: bool,
}

/// Ends a piece of work from another thread, also while it waits for the network.
#[derive(Debug, Default)]
pub struct Stop {
    is_set: Arc<AtomicBool>,
    transfer: Mutex<Option<Canceller>>,
}

impl Stop {
    /// At the next block at the latest.
    pub fn stop(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        if let Some(transfer) = &*self.transfer() {
            transfer.cancel();
        }
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::Relaxed)
    }

    /// The bytes of a pipe, which end with an error once this is set: whoever holds the other end need not write, nor close it.
    pub(super) fn ending(&self, pipe: File) -> impl Read + Send + 'static {
        Pipe {
            file: pipe,
            stop: Arc::clone(&self.is_set),
        }
    }

    /// Ends this transfer too, in place of an earlier one.
    pub(super) fn also(&self, transfer: Canceller) {
        let mut place = self.transfer();
        // Whoever stops sets the flag before it looks here.
        if self.is_set() {
            transfer.cancel();
        }
        *place = Some(transfer);
    }

    fn transfer(&self) -> std::sync::MutexGuard<'_, Option<Canceller>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How soon a pipe from which nothing comes ends, in milliseconds.
const LOOK: u16 = 200;

struct Pipe {
    file: File,
    stop: Arc<AtomicBool>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other("cancelled"));
            }
            let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            // Whatever is wrong with it, reading says it.
            if !matches!(
                poll(&mut polled, PollTimeout::from(LOOK)),
                Ok(0) | Err(Errno::EINTR)
            ) {
                return self.file.read(buf);
            }
        }
    }
}

/// Works on the payload that `finder` finds, until `stop` is set. `tell` hears of all of it, in order, from the
/// manifest's acceptance to what the disk says afterwards; [`Event::Start`] has been told before.
///
/// # Errors
/// As `apply`; that failure has been told too.
pub fn work(
    place: &Place,
    job: &Job,
    finder: Finder,
    stop: &Stop,
    tell: &mut dyn FnMut(Event),
) -> Result<Outcome, Failure> {
    let mut work = Work {
        place,
        job,
        observer: Telling { stop, tell },
        accepted: false,
        postponed: false,
    };
    let mut result = work.run(finder);
    let (accepted, postponed) = (work.accepted, work.postponed);
    if let Err(failure) = &mut result
        && failure.exit == Exit::Failed
        && stop.is_set()
    {
        // What ends by being stopped says so in many ways.
        failure.text = "install payload: cancelled".into();
    }
    let time = now();
    match &result {
        // The rest has been told by who saw it.
        Ok(_) => {}
        Err(failure) if matches!(failure.exit, Exit::NoUpdate | Exit::AlreadyStaged) => {
            tell(Event::Nothing { time });
        }
        // What went wrong then is still the last thing that did.
        Err(failure) if postponed => log::info!("{failure}"),
        Err(failure) => {
            let failure = failure.clone();
            // What fails later has been noted with the release that it belongs to.
            if !accepted || job.check {
                place.note(|journal| journal.result(&failure.text));
            }
            tell(Event::Failed { failure, time });
        }
    }
    match place.staged() {
        Ok(staged) => tell(Event::Settled { staged }),
        Err(error) => {
            log::warn!("{error}");
            if result.is_err() {
                tell(Event::Settled { staged: None });
            }
        }
    }
    result
}

struct Work<'a> {
    place: &'a Place,
    job: &'a Job,
    observer: Telling<'a>,
    accepted: bool,
    /// It is too early for another attempt.
    postponed: bool,
}

impl Work<'_> {
    fn run(&mut self, finder: Finder) -> Result<Outcome, Failure> {
        let mut session = self.open()?;
        match finder.find(
            self.place,
            &mut session,
            self.job.unasked,
            self.observer.stop,
        )? {
            Found::Here(source) => self.take(session, source),
            Found::Afar(download) => self.fetch(session, &download),
        }
    }

    fn open(&self) -> Result<Session, Failure> {
        let options = self.place.options(self.job.check, &self.job.force);
        Ok(Session::open(&options)?)
    }

    fn fetch(&mut self, session: Session, download: &Download) -> Result<Outcome, Failure> {
        // Who only looks wants to know what is offered now.
        let again = download.goes_on() && !self.job.check;
        let source = download.source(again, self.observer.stop);
        let failure = match self.take(session, source) {
            Err(failure) if again && !self.postponed && failure.is_stale() => failure,
            result => return result,
        };
        log::info!("{failure}; what was received before is not used");
        let session = self.open()?;
        let source = download.source(false, self.observer.stop);
        self.take(session, source)
    }

    fn take(&mut self, mut session: Session, source: Source) -> Result<Outcome, Failure> {
        let is_remote = source.is_remote();
        let offer = session.verify(source)?;
        let candidate = session.admit(offer)?;
        let admitted = candidate.release();
        let release = NewRelease {
            version: admitted.manifest().version.to_string(),
            size: admitted.artifact().size,
        };
        let time = now();
        if self.job.check && is_remote {
            let outcome = session.available(&candidate);
            self.tell(Event::Available { release, time });
            return Ok(outcome);
        }
        if self.job.unasked {
            let id = admitted.manifest().id();
            self.is_wanted(id, &release.version)?;
            self.wait_after_failures(id)?;
        }
        self.accepted = true;
        self.tell(Event::Accepted {
            release: release.clone(),
            time,
        });
        if self.job.check {
            let outcome = session.check(candidate, &mut self.observer)?;
            self.tell(Event::Available { release, time });
            return Ok(outcome);
        }
        let attendance = match self.place.disk {
            None => Attendance::light(),
            Some(_) => Attendance::nobody(),
        };
        let result = session.install(candidate, &mut self.observer);
        let failed = result.is_err() && !self.observer.stop.is_set();
        let outcome = result.inspect(|_| self.tell(Event::Staged { release }));
        attendance.end(failed);
        Ok(outcome?)
    }

    /// What somebody went back from is not news.
    fn is_wanted(&self, id: Digest, version: &str) -> Result<(), Failure> {
        let Some(why) = self.place.reluctance(&id.0)? else {
            return Ok(());
        };
        let text = format!("install payload: {version}: {why}; -update installs it again");
        log::info!("{text}");
        Err(Failure::new(Exit::NoUpdate, text))
    }

    /// The same payload again, at once, would most likely fail again.
    fn wait_after_failures(&mut self, id: Digest) -> Result<(), Failure> {
        let wait = self.place.wait(&id.0);
        if wait.is_zero() {
            return Ok(());
        }
        self.postponed = true;
        let minutes = wait.as_secs().div_ceil(60);
        let text =
            format!("install payload: the last attempts failed; not before {minutes} min from now");
        Err(Failure {
            retry_after: Some(wait),
            ..Failure::failed(text)
        })
    }

    fn tell(&mut self, event: Event) {
        (self.observer.tell)(event);
    }
}

/// Makes events of what an installation tells.
struct Telling<'a> {
    stop: &'a Stop,
    tell: &'a mut dyn FnMut(Event),
}

impl Observer for Telling<'_> {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        (self.tell)(Event::Progress { phase, done, total });
    }

    fn cancelled(&self) -> bool {
        self.stop.is_set()
    }

    fn staging(&mut self, _: &Admitted, _: Slot) {
        (self.tell)(Event::Finalizing);
    }
}
