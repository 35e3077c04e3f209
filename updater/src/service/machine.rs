//! From a status and an event to the next status: pure, so that every order of events can be tried.
//!
//! ```text
//! IDLE, UPDATE_AVAILABLE, UPDATED_NEED_REBOOT
//!     Start ─▶ CHECKING_FOR_UPDATE ─ Available ─▶ UPDATE_AVAILABLE
//!                    │ Accepted
//!                    ▼
//!               DOWNLOADING ◀─▶ VERIFYING ─ Finalizing ─▶ FINALIZING ─ Staged ─▶ UPDATED_NEED_REBOOT
//!     any of these ─ Failed ─▶ REPORTING_ERROR_EVENT ─ Settled ─▶ what the disk says
//! ```

use bootctl::exit::Exit;

use super::Failure;
use super::status::{LastError, NewRelease, Operation, Status};
use crate::engine::Phase;

/// Something that happened. Times are seconds since 1970 by the device's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program starts; `staged` is what the disk would boot next instead of the running slot.
    Started {
        staged: Option<NewRelease>,
        time: u64,
    },
    /// Somebody wants a check or an installation.
    Start,
    /// The signed manifest was accepted; its blocks follow.
    Accepted { release: NewRelease, time: u64 },
    /// A check found a release that could be installed.
    Available { release: NewRelease, time: u64 },
    /// Blocks of a phase.
    Progress { phase: Phase, done: u64, total: u64 },
    /// The slot is complete and about to be activated.
    Finalizing,
    /// It is activated.
    Staged { release: NewRelease },
    /// There was nothing to do: no update, or this very payload is staged already.
    Nothing { time: u64 },
    /// The work ended otherwise.
    Failed { failure: Failure, time: u64 },
    /// Nobody works any more; `staged` as in [`Started`](Self::Started).
    Settled { staged: Option<NewRelease> },
    /// Somebody wants the installation ended, or the staged release not booted.
    Cancel,
    /// Somebody wants the other slot back.
    RollBack,
    /// Somebody wants the last error, and what a check found, forgotten.
    Reset,
}

/// What has to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Check or install what was asked for.
    Work,
    /// Stop at the next block.
    Stop,
    /// Make the staged slot unbootable, then tell with [`Event::Settled`].
    Unstage,
    /// Go back to the other slot, then tell with [`Event::Settled`].
    RollBack,
}

/// Why a wish is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{verb}: another operation is under way ({}); -cancel ends it", .operation.doing())]
    Busy {
        verb: &'static str,
        operation: Operation,
    },
    #[error("cancel update: it is being activated; cancel it again when it is staged")]
    TooLate,
    #[error("cancel update: none is running or staged")]
    NothingToCancel,
}

impl Refusal {
    /// The exit code that goes with it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Busy { .. } | Self::TooLate => Exit::Busy,
            Self::NothingToCancel => Exit::NoUpdate,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.exit(), refusal)
    }
}

impl Status {
    /// Takes note of what happened, and says what has to be done about it.
    ///
    /// # Errors
    /// A wish that can't be granted now; nothing has changed then. News is never an error: what does not fit the
    /// operation, such as progress that was under way when the work ended, changes nothing.
    pub fn on(&mut self, event: Event) -> Result<Option<Action>, Refusal> {
        match event {
            Event::Start => {
                self.rest("start update")?;
                self.enter(Operation::CheckingForUpdate);
                return Ok(Some(Action::Work));
            }
            Event::Cancel => return self.cancel().map(Some),
            Event::RollBack => {
                self.rest("roll back")?;
                return Ok(Some(Action::RollBack));
            }
            Event::Reset => {
                self.rest("reset status")?;
                self.last_error = None;
                if self.operation == Operation::UpdateAvailable {
                    self.enter(Operation::Idle);
                    self.release = None;
                }
            }
            news => self.hear(news),
        }
        Ok(None)
    }

    fn hear(&mut self, news: Event) {
        match news {
            Event::Started { staged, time } => self.start(staged, time),
            Event::Settled { staged } => self.settle(staged),
            // Late news from work that has ended.
            _ if !self.operation.is_busy() => {}
            // Again where what was begun before has been replaced on the server.
            Event::Accepted { release, time } if self.is_looking() => {
                self.enter(Operation::Downloading);
                self.last_checked = time;
                self.release = Some(release);
            }
            Event::Available { release, time } if self.is_looking() => {
                self.succeed(Operation::UpdateAvailable, Some(release));
                self.last_checked = time;
            }
            Event::Progress { phase, done, total } => self.progressed(phase, done, total),
            Event::Finalizing if self.is_writing() => self.enter(Operation::Finalizing),
            Event::Staged { release } if self.operation == Operation::Finalizing => {
                self.succeed(Operation::UpdatedNeedReboot, Some(release));
            }
            Event::Nothing { time } if self.operation == Operation::CheckingForUpdate => {
                self.last_checked = time;
                self.last_error = None;
            }
            Event::Failed { failure, time } => self.fail(&failure, time),
            _ => {}
        }
    }

    fn rest(&self, verb: &'static str) -> Result<(), Refusal> {
        let operation = self.operation;
        match operation.is_busy() {
            true => Err(Refusal::Busy { verb, operation }),
            false => Ok(()),
        }
    }

    /// Nothing has been activated: a check may end here.
    const fn is_looking(&self) -> bool {
        matches!(self.operation, Operation::CheckingForUpdate) || self.is_writing()
    }

    const fn is_writing(&self) -> bool {
        matches!(
            self.operation,
            Operation::Downloading | Operation::Verifying
        )
    }

    fn cancel(&self) -> Result<Action, Refusal> {
        match self.operation {
            Operation::CheckingForUpdate | Operation::Downloading | Operation::Verifying => {
                Ok(Action::Stop)
            }
            Operation::UpdatedNeedReboot => Ok(Action::Unstage),
            Operation::Finalizing => Err(Refusal::TooLate),
            Operation::Idle | Operation::UpdateAvailable | Operation::ReportingErrorEvent => {
                Err(Refusal::NothingToCancel)
            }
        }
    }

    /// What was under way when the last program ended has come to nothing, unless the disk says otherwise.
    fn start(&mut self, staged: Option<NewRelease>, time: u64) {
        if self.operation.is_busy() && staged.is_none() {
            let doing = self.operation.doing();
            // What was being reported has been written down already.
            if self.operation != Operation::ReportingErrorEvent {
                let text = format!("install payload: interrupted while {doing}");
                self.fail(&Failure::failed(text), time);
            }
        }
        self.settle(staged);
    }

    fn settle(&mut self, staged: Option<NewRelease>) {
        let operation = match (&staged, self.operation) {
            (Some(_), _) => Operation::UpdatedNeedReboot,
            (None, Operation::UpdateAvailable) => return,
            (None, _) => Operation::Idle,
        };
        self.enter(operation);
        self.release = staged;
    }

    fn progressed(&mut self, phase: Phase, done: u64, total: u64) {
        if !self.is_writing() {
            return;
        }
        self.operation = match phase {
            Phase::Writing => Operation::Downloading,
            Phase::Checking | Phase::Resuming | Phase::Comparing => Operation::Verifying,
        };
        (self.done, self.total) = (done.min(total), total);
    }

    fn fail(&mut self, failure: &Failure, time: u64) {
        self.enter(Operation::ReportingErrorEvent);
        self.last_error = Some(LastError {
            exit: failure.exit.code(),
            text: failure.text.clone(),
            time,
        });
    }

    fn succeed(&mut self, operation: Operation, release: Option<NewRelease>) {
        self.enter(operation);
        self.release = release;
        self.last_error = None;
    }

    const fn enter(&mut self, operation: Operation) {
        self.operation = operation;
        (self.done, self.total) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
