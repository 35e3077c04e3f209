//! The releases that scenarios and the demo use, each built when it is first asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::release::{Fault, Recipe, Release, Workshop};
use super::{Arch, Binaries};

const V1: Recipe = Recipe {
    name: "v1",
    version: "1.0.0",
    rollback_index: 1,
    tries: 3,
    health_timeout: Duration::from_secs(60),
    deadline: Duration::from_secs(600),
    fault: Fault::None,
};

const V2: Recipe = Recipe {
    name: "v2",
    version: "2.0.0",
    rollback_index: 2,
    ..V1
};

const V3: Recipe = Recipe {
    name: "v3",
    version: "3.0.0",
    rollback_index: 3,
    ..V1
};

/// A release and a disk that boots it, and what can be installed on that.
#[derive(Debug)]
pub struct Stock {
    workshop: Workshop,
    tries: u8,
    pub v1: Release,
    disks: Mutex<BTreeMap<&'static str, PathBuf>>,
    others: Mutex<BTreeMap<&'static str, Release>>,
    reached: Mutex<BTreeMap<String, Arc<Mutex<bool>>>>,
}

impl Stock {
    /// Builds `v1` in the folder `dir`, which is emptied. `tries` is how often the loader tries a release that any of
    /// these installs.
    ///
    /// # Errors
    /// A tool is missing or fails; I/O.
    pub fn open(dir: &Path, arch: Arch, tries: u8) -> Result<Self> {
        let workshop = Workshop::open(dir, arch)?;
        let v1 = workshop.release(Recipe { tries, ..V1 })?;
        Ok(Self {
            workshop,
            tries,
            v1,
            disks: Mutex::default(),
            others: Mutex::default(),
            reached: Mutex::default(),
        })
    }

    /// The project's programs, as they go onto a device.
    #[must_use]
    pub fn binaries(&self) -> &Binaries {
        &self.workshop.binaries
    }

    /// A disk for `board` that boots `v1`; copy it, never use it.
    ///
    /// # Errors
    /// It can't be built.
    pub fn disk(&self, board: &'static str) -> Result<PathBuf> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(disk) = disks.get(board) {
            return Ok(disk.clone());
        }
        let disk = self.workshop.disk(&self.v1, board)?;
        disks.insert(board, disk.clone());
        Ok(disk)
    }

    /// A newer release in good order.
    ///
    /// # Errors
    /// It can't be built.
    pub fn v2(&self) -> Result<Release> {
        self.get(V2)
    }

    /// One that is newer still.
    ///
    /// # Errors
    /// It can't be built.
    pub fn v3(&self) -> Result<Release> {
        self.get(V3)
    }

    /// A release 3.0.0 with a fault.
    ///
    /// # Errors
    /// It can't be built.
    pub fn broken(&self, fault: Fault) -> Result<Release> {
        let broken = Recipe { fault, ..V3 };
        let seconds = Duration::from_secs;
        self.get(match fault {
            Fault::None => broken,
            Fault::KernelMissing => named(broken, "v3-kernel-missing"),
            Fault::KernelShort => named(broken, "v3-kernel-short"),
            Fault::KernelHalf => named(broken, "v3-kernel-half"),
            Fault::Panic => named(broken, "v3-panic"),
            Fault::NoUsr => named(broken, "v3-no-usr"),
            Fault::HealthFails => named(broken, "v3-health-fails"),
            Fault::Hangs => named(broken, "v3-hangs"),
            Fault::HealthHangs => Recipe {
                health_timeout: seconds(5),
                ..named(broken, "v3-health-hangs")
            },
            // Long enough for a boot on a busy machine.
            Fault::Stalls => Recipe {
                deadline: seconds(45),
                ..named(broken, "v3-stalls")
            },
        })
    }

    /// Whether a device has been brought to where `name` says, so that [`reached_disk`](Self::reached_disk) is its disk.
    /// Locked while one is on the way.
    #[must_use]
    pub fn reached(&self, name: &str) -> Arc<Mutex<bool>> {
        let mut reached = self.reached.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(reached.entry(name.to_owned()).or_default())
    }

    /// Where that disk is kept; copy it, never use it.
    #[must_use]
    pub fn reached_disk(&self, name: &str) -> PathBuf {
        self.workshop.dir.join(format!("{name}.disk"))
    }

    fn get(&self, recipe: Recipe) -> Result<Release> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = others.get(recipe.name) {
            return Ok(release.clone());
        }
        let release = self.workshop.release(Recipe {
            tries: self.tries,
            ..recipe
        })?;
        others.insert(recipe.name, release.clone());
        Ok(release)
    }
}

fn named(recipe: Recipe, name: &'static str) -> Recipe {
    Recipe { name, ..recipe }
}
