//! A disk from the moment it is opened to the moment a release is staged on it.

use std::path::Path;

use bootctl::Slot;
use bootctl::disk::{Access, Disk};
use bootctl::transaction::TransactionLock;

use super::device::OpenDevice;
use super::noting::{self, Noting};
use super::{ApplyError, Options, Outcome};
use crate::engine::{self, EngineError, Observer, Report, Target};
use crate::gates::{Admitted, Reason, admit};
use crate::incoming::{Incoming, Tables};
use crate::manifest::Manifest;
use crate::resume::Mark;
use crate::settings::Settings;
use crate::signature::Verified;
use crate::source::Source;
use crate::stick::{self, Look, StickError};

/// A disk, what it says about itself, and the lock that keeps other installations from it. The lock is held until this is
/// dropped; a session for a check has none, and writes nothing.
pub struct Session {
    device: OpenDevice,
    force: Vec<Reason>,
    writes: bool,
    resume: bool,
    // Dropped after the disk.
    _lock: Option<TransactionLock>,
}

/// A payload whose manifest is vouched for, whether or not this device wants it.
#[derive(Debug)]
pub struct Offer {
    incoming: Incoming,
    manifest: Verified<Manifest>,
}

/// A payload that the device takes. Nothing behind its manifest has been read yet.
#[derive(Debug)]
pub struct Candidate {
    incoming: Incoming,
    release: Admitted,
}

impl Offer {
    #[must_use]
    pub fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }
}

impl Candidate {
    #[must_use]
    pub fn release(&self) -> &Admitted {
        &self.release
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("disk", &self.device.control.io().path())
            .field("active", &self.device.active)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Opens the disk, takes the lock (unless `options.check` is set) and reads what the rules ask for. Writes nothing.
    ///
    /// # Errors
    /// The disk, the lock, the boot state, the keys.
    pub fn open(options: &Options) -> Result<Self, ApplyError> {
        let access = if options.check {
            Access::Read
        } else {
            Access::Write
        };
        let path = match &options.disk {
            Some(path) => path.clone(),
            None => {
                bootctl::active::active_usr()
                    .map_err(|error| ApplyError::no_disk(&error))?
                    .disk_path
            }
        };
        let disk = Disk::open(&path, access).map_err(ApplyError::failed)?;
        // A check reads only, and two of them do not mind each other.
        let lock = match access {
            Access::Write => Some(TransactionLock::acquire(&disk)?),
            Access::Read => None,
        };
        Ok(Self {
            device: OpenDevice::read(disk, options)?,
            force: options.force.clone(),
            writes: !options.check,
            resume: options.resume,
            _lock: lock,
        })
    }

    /// The slot that runs, or counts as running.
    #[must_use]
    pub const fn active(&self) -> Slot {
        self.device.active
    }

    /// Version in the active slot, if its record can be read.
    #[must_use]
    pub fn running_version(&self) -> Option<&str> {
        self.device.running_version()
    }

    /// The board that the disk says it is for.
    #[must_use]
    pub fn board(&self) -> &str {
        self.device.board()
    }

    /// The settings that count.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        self.device.settings()
    }

    /// Reads header, signatures and manifest, at most [`MAX_PREFIX`](crate::payload::MAX_PREFIX) bytes, and verifies them.
    ///
    /// # Errors
    /// The source, a bound, the signatures, the manifest.
    pub fn verify(&self, source: Source) -> Result<Offer, ApplyError> {
        let (incoming, manifest) =
            Incoming::read(source, &self.device.keys, self.device.signatures)
                .map_err(EngineError::from)?;
        Ok(Offer { incoming, manifest })
    }

    /// Holds the payload to the rules.
    ///
    /// # Errors
    /// [`ApplyError::Refused`]
    pub fn admit(&mut self, offer: Offer) -> Result<Candidate, ApplyError> {
        let Offer { incoming, manifest } = offer;
        let id = manifest.id();
        if self.writes {
            self.note_seen(&manifest);
        }
        let release = admit(manifest, &self.device.facts(id), &self.force)
            .map_err(|refusal| self.device.explain(refusal))?;
        Ok(Candidate { incoming, release })
    }

    /// The newest payload in a folder that this device would take.
    ///
    /// # Errors
    /// The folder.
    pub fn newest_in(&mut self, folder: &Path) -> Result<Look, StickError> {
        let (keys, required) = (self.device.keys.clone(), self.device.signatures);
        let (device, force) = (&mut self.device, &self.force);
        stick::newest(folder, &keys, required, &mut |manifest| {
            let facts = device.facts(manifest.id());
            admit(manifest.clone(), &facts, force).map(drop)
        })
    }

    /// Whether or not the device takes it: how old the newest release is that somebody vouched for is worth knowing.
    fn note_seen(&mut self, manifest: &Verified<Manifest>) {
        let Some(journal) = &mut self.device.journal else {
            return;
        };
        let created = manifest.created.as_ref().map(ToString::to_string);
        if let Err(error) = journal.seen(&noting::named(manifest), created.as_deref()) {
            log::warn!("{error}");
        }
    }

    /// Reads all of the payload and compares what can be compared without writing.
    ///
    /// # Errors
    /// The source or a hash.
    pub fn check(
        &self,
        candidate: Candidate,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ApplyError> {
        let (source, tables, release) = candidate.read_tables()?;
        engine::check(source, &tables, &release, observer)?;
        Ok(self.outcome(&release, None))
    }

    /// What a look at the manifest alone has shown.
    #[must_use]
    pub fn available(&self, candidate: &Candidate) -> Outcome {
        Outcome {
            whole: false,
            ..self.outcome(&candidate.release, None)
        }
    }

    /// Installs the payload into the passive slot and stages it.
    ///
    /// # Errors
    /// Before the slot was touched: nothing has changed. Later: the slot is unbootable and has no record.
    pub fn install(
        &mut self,
        candidate: Candidate,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ApplyError> {
        if !self.writes {
            return Err(ApplyError::failed(
                "install payload: the disk was opened for a check",
            ));
        }
        let release = noting::of(&candidate.release);
        let slot = self.device.passive();
        noting::attempt(self.device.journal.as_mut(), &release, slot);
        let result = self.fill(candidate, observer);
        // A source that was told to stop ends with an error of its own.
        let result = result.map_err(|error| match error {
            ApplyError::Engine(error) if error.is_source() && observer.cancelled() => {
                EngineError::Cancelled.into()
            }
            error => error,
        });
        if let Err(error) = &result {
            noting::ended(self.device.journal.as_mut(), &release, error);
        }
        result
    }

    fn fill(
        &mut self,
        candidate: Candidate,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, ApplyError> {
        let (source, tables, release) = candidate.read_tables()?;
        let device = &mut self.device;
        let slot = device.passive();
        let mark = match &device.state_dir {
            Some(dir) => noting::mark(dir, &release, slot),
            None => None,
        };
        let keeper = match &device.state_dir {
            Some(dir) if source.is_remote() => {
                let blocks = mark.as_ref().map_or(0, |mark| mark.blocks);
                let mark = Mark {
                    id: release.manifest().id(),
                    slot,
                    blocks: if self.resume { blocks } else { 0 },
                    origin: source.origin(),
                };
                noting::keeper(dir, mark, tables.body())
            }
            _ => None,
        };
        if self.force.contains(&Reason::OnTrial) {
            device.control.waive_fallback();
        }
        let mut slot_io = device.open_slot()?;
        let mut observer = Noting {
            inner: observer,
            journal: device.journal.as_mut(),
            keeper,
            moved: None,
        };
        let target = Target {
            active: device.active,
            tries: device.tries,
            control: &mut device.control,
            slot_io: &mut slot_io,
        };
        let report = match mark.filter(|_| self.resume) {
            None => engine::install(source, &tables, &release, target, &mut observer)?,
            Some(mark) => engine::resume(
                source,
                &tables,
                &release,
                target,
                mark.blocks,
                &mut observer,
            )?,
        };
        if let Some(dir) = &self.device.state_dir {
            noting::forget(dir);
        }
        // The slot is activated; that its read-only flag did not come back does not change that.
        if let Err(error) = slot_io.finish() {
            log::warn!("{error}");
        }
        Ok(self.outcome(&release, Some(report)))
    }

    fn outcome(&self, release: &Admitted, report: Option<Report>) -> Outcome {
        let manifest = release.manifest();
        Outcome {
            report,
            whole: true,
            slot: self.device.passive(),
            product: manifest.product.to_string(),
            version: manifest.version.to_string(),
            rollback_index: manifest.rollback_index,
            id: manifest.id(),
            tries: self.device.tries.get(),
        }
    }
}

impl Candidate {
    /// The source stands at the first block then.
    fn read_tables(self) -> Result<(Source, Tables, Admitted), EngineError> {
        let Self {
            mut incoming,
            release,
        } = self;
        incoming.read_tables(&release)?;
        let (source, tables) = incoming.into_parts();
        Ok((source, tables, release))
    }
}
