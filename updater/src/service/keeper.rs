//! The one who keeps a device's status, and writes down what must not be forgotten.

use std::path::PathBuf;

use bootctl::exit::Exit;

use super::Failure;
use super::machine::{Action, Event, Refusal};
use super::place::Place;
use super::status::Status;
use super::store::{self, Lock, LockError};
use crate::journal::now;

/// The status of a device, while this program is the one that may change it.
#[derive(Debug)]
pub struct Keeper {
    status: Status,
    folder: Option<PathBuf>,
    _lock: Option<Lock>,
}

impl Keeper {
    /// Takes over from whoever kept the status before. Reads the disk, and writes what has changed.
    ///
    /// # Errors
    /// Another program keeps it (5); the disk can't be read.
    pub fn open(place: &Place) -> Result<Self, Failure> {
        let lock = match place.run.as_deref().map(store::lock) {
            None => None,
            Some(Ok(lock)) => Some(lock),
            Some(Err(error @ LockError::Busy(_))) => return Err(Failure::new(Exit::Busy, error)),
            // The transaction lock is what guards the disk.
            Some(Err(error)) => {
                log::warn!("{error}");
                None
            }
        };
        let mut keeper = Self {
            status: place.state.as_deref().map(store::load).unwrap_or_default(),
            folder: place.state.clone(),
            _lock: lock,
        };
        let staged = place.staged()?;
        keeper.on(Event::Started {
            staged,
            time: now(),
        })?;
        Ok(keeper)
    }

    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// Takes note of what happened. What has to survive is on the medium on return; where it can't be written that is
    /// logged and changes nothing: an update must not fail for want of room in `/var`.
    ///
    /// # Errors
    /// A wish that can't be granted now.
    pub fn on(&mut self, event: Event) -> Result<Option<Action>, Refusal> {
        let before = self.status.clone();
        let action = self.status.on(event)?;
        if before == self.status {
            return Ok(action);
        }
        if let Some(folder) = &self.folder
            && !self.status.differs_in_counts_only(&before)
            && let Err(error) = store::save(folder, &self.status)
        {
            log::warn!("{error}");
        }
        Ok(action)
    }
}

/// The status of a device, for somebody who only looks. Writes nothing and takes no lock.
///
/// # Errors
/// The disk can't be read.
pub fn peek(place: &Place) -> Result<Status, Failure> {
    let mut status = place.state.as_deref().map(store::load).unwrap_or_default();
    let kept = place.run.as_deref().is_some_and(store::is_locked);
    if !kept {
        let staged = place.staged()?;
        status.on(Event::Started {
            staged,
            time: now(),
        })?;
    }
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Phase;
    use crate::service::status::{NewRelease, Operation};

    #[test]
    fn progress_is_not_written_an_operation_is() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut keeper = Keeper {
            status: Status::default(),
            folder: Some(folder.path().to_owned()),
            _lock: None,
        };
        let stored = || store::load(folder.path());
        keeper.on(Event::Start).unwrap();
        assert_eq!(stored().operation, Operation::CheckingForUpdate);
        let release = NewRelease {
            version: "2".into(),
            size: 8,
        };
        keeper.on(Event::Accepted { release, time: 1 }).unwrap();
        let written = |folder: &std::path::Path| {
            let file = folder.join("service.json");
            std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap())
        };
        let before = written(folder.path());
        for done in [1, 2] {
            let (phase, total) = (Phase::Writing, 2);
            keeper.on(Event::Progress { phase, done, total }).unwrap();
        }
        assert_eq!(written(folder.path()), before);
        keeper.on(Event::Finalizing).unwrap();
        assert_eq!(stored().operation, Operation::Finalizing);
        // A folder that can't be written stops nothing.
        keeper.folder = Some("/proc/no/such/folder".into());
        keeper.on(Event::Settled { staged: None }).unwrap();
        assert_eq!(keeper.status().operation, Operation::Idle);
    }
}
