//! What all connections share: the status, its last changes, and the one piece of work that may be under way.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::control_socket::Done;
use crate::service::Failure;
use crate::service::find::Finder;
use crate::service::keeper::Keeper;
use crate::service::machine::{Action, Event};
use crate::service::place::Place;
use crate::service::status::Status;
use crate::service::work::{Job, Stop, work};

/// Changes that are kept for those who are slow to hear of them.
const CHANGES: usize = 64;

/// Longest wait for work to be over that has said how it went.
const ENDS: Duration = Duration::from_secs(10);

/// Bytes of stack for the work, as much as a program's first thread has. A manifest has no bytes on the heap.
const STACK: usize = 8 << 20;

/// How a piece of work ended.
pub(super) type End = Result<Done, Failure>;

pub(super) struct Shared {
    place: Place,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    keeper: Keeper,
    /// Counts the changes.
    revision: u64,
    /// The last ones, each with its number. Counts alone replace what was there before.
    changes: VecDeque<(u64, Status)>,
    work: Option<Work>,
    /// How many pieces of work there have been.
    works: u64,
    /// The last one and how it ended.
    ended: Option<(u64, End)>,
}

impl State {
    fn number_ended(&self) -> Option<u64> {
        self.ended.as_ref().map(|(number, _)| *number)
    }
}

struct Work {
    number: u64,
    stop: Arc<Stop>,
}

/// What a watcher sees.
pub(super) struct View {
    /// Number of the last change.
    pub revision: u64,
    /// Changes since the one that was seen last, oldest first.
    pub changes: Vec<Status>,
    /// The piece of work that is under way.
    pub work: Option<u64>,
    /// The last one that ended.
    pub ended: Option<(u64, End)>,
}

impl Shared {
    pub fn open(place: Place) -> Result<Self, Failure> {
        let keeper = Keeper::open(&place)?;
        let changes = VecDeque::from([(1, keeper.status().clone())]);
        Ok(Self {
            place,
            state: Mutex::new(State {
                keeper,
                revision: 1,
                changes,
                work: None,
                works: 0,
                ended: None,
            }),
            changed: Condvar::new(),
        })
    }

    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The status, and how the last piece of work ended. Reads the disk.
    pub fn doing(&self) -> (Status, Option<(u64, End)>) {
        let mut state = self.lock();
        self.look(&mut state);
        (state.keeper.status().clone(), state.ended.clone())
    }

    /// Waits until another piece of work than `seen` is the last that ended, or `patience` is over.
    pub fn rest(&self, seen: Option<u64>, patience: Duration) {
        let state = self.lock();
        let ended = |state: &mut State| state.number_ended() == seen;
        drop(self.changed.wait_timeout_while(state, patience, ended));
    }

    /// The status, and the number of the last change. Reads the disk.
    pub fn status(&self) -> (Status, u64) {
        let mut state = self.lock();
        self.look(&mut state);
        (state.keeper.status().clone(), state.revision)
    }

    /// Waits until there is a change after `seen` or `patience` is over.
    pub fn wait(&self, seen: u64, patience: Duration) -> View {
        let state = self.lock();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, patience, |state| state.revision <= seen)
            .unwrap_or_else(PoisonError::into_inner);
        View {
            revision: state.revision,
            changes: state
                .changes
                .iter()
                .filter(|(revision, _)| *revision > seen)
                .map(|(_, status)| status.clone())
                .collect(),
            work: state.work.as_ref().map(|work| work.number),
            ended: state.ended.clone(),
        }
    }

    /// Starts to work on what `finder` finds, and returns the number of that work.
    pub fn start(self: &Arc<Self>, job: Job, finder: Finder) -> Result<u64, Failure> {
        let mut state = self.rested();
        self.tell(&mut state, Event::Start)?;
        state.works = state.works.saturating_add(1);
        let number = state.works;
        let stop = Arc::new(Stop::default());
        let work = Work {
            number,
            stop: Arc::clone(&stop),
        };
        state.work = Some(work);
        drop(state);
        let shared = Arc::clone(self);
        let started = thread::Builder::new()
            .name("work".into())
            .stack_size(STACK)
            .spawn(move || shared.work(number, &job, finder, &stop));
        if let Err(error) = started {
            let failure = Failure::failed(format!("start update: {error}"));
            let mut state = self.lock();
            let told = failure.clone();
            let time = crate::journal::now();
            // News is never refused.
            let _ = self.tell(&mut state, Event::Failed { failure, time });
            let _ = self.tell(&mut state, Event::Settled { staged: None });
            self.end(state, number, Err(told.clone()));
            return Err(told);
        }
        Ok(number)
    }

    fn work(&self, number: u64, job: &Job, finder: Finder, stop: &Stop) {
        let mut tell = |event| {
            // News is never refused.
            let _ = self.tell(&mut self.lock(), event);
        };
        let result = work(&self.place, job, finder, stop, &mut tell);
        let end = result.map(|outcome| Done {
            text: outcome.to_string(),
            facts: serde_json::from_str(&outcome.to_json()).unwrap_or_default(),
        });
        self.end(self.lock(), number, end);
    }

    fn end(&self, mut state: MutexGuard<'_, State>, number: u64, end: End) {
        // Somebody may have started the next one since the status said that this one was over.
        if state
            .work
            .as_ref()
            .is_some_and(|work| work.number == number)
        {
            state.work = None;
        }
        state.ended = Some((number, end));
        state.revision = state.revision.saturating_add(1);
        drop(state);
        self.changed.notify_all();
    }

    /// Ends what is under way, which is waited for, or takes back what is staged.
    pub fn cancel(&self, patience: Duration) -> End {
        let mut state = self.rested();
        self.look(&mut state);
        match self.tell(&mut state, Event::Cancel)? {
            Some(Action::Unstage) => self.change(state, Place::unstage),
            Some(Action::Stop) => {
                let number = state.work.as_ref().map(|work| {
                    work.stop.stop();
                    work.number
                });
                let works = |state: &mut State| {
                    state.work.as_ref().map(|work| work.number) == number && number.is_some()
                };
                let (state, over) = self
                    .changed
                    .wait_timeout_while(state, patience, works)
                    .unwrap_or_else(PoisonError::into_inner);
                if over.timed_out() {
                    return Err(Failure::failed(format!(
                        "cancel update: it has not stopped within {} s",
                        patience.as_secs()
                    )));
                }
                match &state.ended {
                    // It was too late.
                    Some((ended, Ok(done))) if Some(*ended) == number => Err(Failure::failed(
                        format!("cancel update: it had ended already: {}", done.text),
                    )),
                    _ => Ok(said("the update was cancelled")),
                }
            }
            Some(Action::Work | Action::RollBack) | None => Ok(Done::default()),
        }
    }

    /// Prefers the other slot.
    pub fn roll_back(&self) -> End {
        let mut state = self.rested();
        match self.tell(&mut state, Event::RollBack)? {
            Some(Action::RollBack) => self.change(state, Place::roll_back),
            _ => Ok(Done::default()),
        }
    }

    /// Forgets the last error.
    pub fn reset(&self) -> End {
        self.tell(&mut self.rested(), Event::Reset)?;
        Ok(Done::default())
    }

    /// Ends what is under way, because this program has to.
    pub fn stop(&self, patience: Duration) {
        let state = self.lock();
        if let Some(work) = &state.work {
            work.stop.stop();
        }
        let waited = self
            .changed
            .wait_timeout_while(state, patience, |state| state.work.is_some());
        drop(waited);
    }

    /// Changes the boot state. Who asks for the status meanwhile waits.
    fn change(
        &self,
        mut state: MutexGuard<'_, State>,
        change: fn(&Place) -> Result<String, Failure>,
    ) -> End {
        let done = change(&self.place)?;
        let staged = self.place.staged()?;
        self.tell(&mut state, Event::Settled { staged })?;
        Ok(said(&done))
    }

    /// Takes note of what somebody did to the disk without asking us, such as `update_engine apply`.
    fn look(&self, state: &mut State) {
        if state.keeper.status().operation.is_busy() || state.work.is_some() {
            return;
        }
        match self.place.staged() {
            // News is never refused.
            Ok(staged) => drop(self.tell(state, Event::Settled { staged })),
            Err(failure) => log::debug!("look for a staged release: {failure}"),
        }
    }

    fn tell(&self, state: &mut State, event: Event) -> Result<Option<Action>, Failure> {
        let before = state.keeper.status().clone();
        let action = state.keeper.on(event)?;
        let after = state.keeper.status();
        if *after != before {
            state.revision = state.revision.saturating_add(1);
            if after.differs_in_counts_only(&before) {
                state.changes.pop_back();
            } else if state.changes.len() >= CHANGES {
                state.changes.pop_front();
            }
            let change = (state.revision, after.clone());
            state.changes.push_back(change);
            self.changed.notify_all();
        }
        Ok(action)
    }

    /// For who wants to begin something: work that has said how it went looks at the disk once more, and what it sees
    /// there is no news for the next one.
    fn rested(&self) -> MutexGuard<'_, State> {
        let ends =
            |state: &mut State| state.work.is_some() && !state.keeper.status().operation.is_busy();
        let waited = self.changed.wait_timeout_while(self.lock(), ENDS, ends);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(text: &str) -> Done {
    Done {
        text: text.to_owned(),
        facts: serde_json::Value::Null,
    }
}
