//! Carries out a check or an installation, telling the machine of it.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::apply::{ApplyError, Options, Outcome, Session};
use crate::engine::{Observer, Phase};
use crate::gates::{Admitted, Reason};
use crate::journal::now;
use crate::source::Source;
use bootctl::Slot;
use bootctl::exit::Exit;

use super::Failure;
use super::machine::Event;
use super::place::Place;
use super::status::NewRelease;

/// What is to be done with a payload.
#[derive(Clone, Debug, Default)]
pub struct Job {
    /// Do everything but write.
    pub check: bool,
    pub force: Vec<Reason>,
}

/// Works on one payload, until `stop` is set. `tell` hears of all of it, in order, from the manifest's acceptance to what
/// the disk says afterwards; [`Event::Start`] has been told before.
///
/// # Errors
/// As `apply`; that failure has been told too.
pub fn work(
    place: &Place,
    job: &Job,
    source: Result<Source, Failure>,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Event),
) -> Result<Outcome, Failure> {
    let options = place.options(job.check, &job.force);
    let mut accepted = false;
    let result = source.and_then(|source| {
        let mut observer = Telling { stop, tell };
        run(source, &options, &mut observer, &mut accepted).map_err(Failure::from)
    });
    let time = now();
    match &result {
        // The rest has been told by who saw it.
        Ok(_) => {}
        Err(failure) if matches!(failure.exit, Exit::NoUpdate | Exit::AlreadyStaged) => {
            tell(Event::Nothing { time });
        }
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

fn run(
    source: Source,
    options: &Options,
    observer: &mut Telling<'_>,
    accepted: &mut bool,
) -> Result<Outcome, ApplyError> {
    let mut session = Session::open(options)?;
    let offer = session.verify(source)?;
    let candidate = session.admit(offer)?;
    let admitted = candidate.release();
    let release = NewRelease {
        version: admitted.manifest().version.to_string(),
        size: admitted.artifact().size,
    };
    *accepted = true;
    let time = now();
    (observer.tell)(Event::Accepted {
        release: release.clone(),
        time,
    });
    if options.check {
        let outcome = session.check(candidate, observer)?;
        (observer.tell)(Event::Available { release, time });
        return Ok(outcome);
    }
    let outcome = session.install(candidate, observer)?;
    (observer.tell)(Event::Staged { release });
    Ok(outcome)
}

/// Makes events of what an installation tells.
struct Telling<'a> {
    stop: &'a AtomicBool,
    tell: &'a mut dyn FnMut(Event),
}

impl Observer for Telling<'_> {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        (self.tell)(Event::Progress { phase, done, total });
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn staging(&mut self, _: &Admitted, _: Slot) {
        (self.tell)(Event::Finalizing);
    }
}
