//! The update that is recorded: a fresh disk boots v1, installs v2, tries it, confirms it, boots it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::log::Log;
use super::medium::{Base, Replay};
use crate::host_hash;
use crate::qemu::{Firmware, copy_sparse};
use crate::scenario::{Platform, Rig, Slot};
use crate::system::{self, Release, Stock};

/// A release that a slot may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub version: String,
    /// Length of its image in bytes.
    pub size: u64,
    /// Hashes of the image, in hexadecimal digits; the guest is asked for the second.
    pub blake3: String,
    pub sha256: String,
}

/// A part of the session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Length of the log at this moment.
    pub at: u64,
    pub name: String,
}

/// What was recorded, in files of one folder.
#[derive(Clone, Debug)]
pub struct Recording {
    pub firmware: Firmware,
    /// The disk before.
    pub base: PathBuf,
    pub log: PathBuf,
    pub releases: Vec<Known>,
    pub marks: Vec<Mark>,
}

/// Records an update in the folder `dir`, which is emptied.
///
/// # Errors
/// The update goes wrong; I/O.
pub fn record(stock: &Stock, firmware: Firmware, dir: &Path) -> Result<Recording> {
    let mut rig = Rig::new(stock, Platform::Pc(firmware), dir)?;
    let [base, log] = files(dir);
    copy_sparse(&rig.disk, &base)?;
    if let Some(own) = rig.drives.first_mut() {
        own.record = Some(log.clone());
    }
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    let mut marks = Vec::new();
    let mut mark = |name: &str| -> Result<()> {
        let metadata = fs::metadata(&log).with_context(|| format!("look at {}", log.display()))?;
        let name = name.to_owned();
        marks.push(Mark {
            at: metadata.len(),
            name,
        });
        Ok(())
    };
    rig.power_on()?;
    mark("1 first boot")?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    mark("2 installation")?;
    rig.install(&v2)?;
    mark("3 installed")?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, Recording::TRIES - 1, "ok")?;
    mark("4 on trial")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    mark("5 confirmed")?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    mark("6 shutdown")?;
    rig.shut_down(Slot::B, &v2)?;
    expect_complete(&base, &log, &rig.disk)?;
    drop(fs::remove_file(&rig.disk));
    let recording = Recording {
        firmware,
        base,
        log,
        releases: vec![known(&v1)?, known(&v2)?],
        marks,
    };
    recording.save(dir)?;
    Ok(recording)
}

/// The whole log over the disk before is the disk after.
fn expect_complete(base: &Path, log: &Path, after: &Path) -> Result<()> {
    let bytes = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let base = Base::open(base)?;
    let log = Log::parse(bytes, base.sectors)?;
    let mut replay = Replay::new(&base, &log)?;
    replay.advance(0..log.events.len());
    ensure!(
        replay.medium(&[]).equals(after)?,
        "replay the whole log: that is not {}",
        after.display()
    );
    Ok(())
}

fn files(dir: &Path) -> [PathBuf; 2] {
    ["base.img", "writes.log"].map(|name| dir.join(name))
}

fn known(release: &Release) -> Result<Known> {
    let output = system::run(Command::new("sha256sum").arg(&release.usr))?;
    let sha256 = output.split_whitespace().next().unwrap_or_default();
    ensure!(
        sha256.len() == 64,
        "read the output of sha256sum: {output:?}"
    );
    Ok(Known {
        version: release.recipe.version.to_owned(),
        size: release.size,
        blake3: host_hash::file_hash(&release.usr)?.to_hex().to_string(),
        sha256: sha256.to_owned(),
    })
}

impl Recording {
    /// How often the new release is tried.
    pub const TRIES: u8 = 3;

    fn save(&self, dir: &Path) -> Result<()> {
        let releases = self.releases.iter().map(|known| {
            json!({ "version": known.version, "size": known.size, "blake3": known.blake3, "sha256": known.sha256 })
        });
        let marks = self
            .marks
            .iter()
            .map(|mark| json!({ "at": mark.at, "name": mark.name }));
        let text = json!({
            "releases": releases.collect::<Vec<_>>(),
            "marks": marks.collect::<Vec<_>>(),
        });
        let path = dir.join("recording.json");
        fs::write(&path, format!("{text:#}\n")).with_context(|| format!("write {}", path.display()))
    }

    /// An earlier recording of [`record`].
    ///
    /// # Errors
    /// There is none.
    pub fn load(firmware: Firmware, dir: &Path) -> Result<Self> {
        let path = dir.join("recording.json");
        let context = || format!("read {}", path.display());
        let text = fs::read_to_string(&path).with_context(context)?;
        let value: Value = serde_json::from_str(&text).with_context(context)?;
        let list = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_array)
                .with_context(context)
        };
        let word = |item: &Value, name: &str| -> Result<String> {
            let word = item
                .get(name)
                .and_then(Value::as_str)
                .with_context(context)?;
            Ok(word.to_owned())
        };
        let number =
            |item: &Value, name: &str| item.get(name).and_then(Value::as_u64).with_context(context);
        let releases = list("releases")?.iter().map(|item| {
            Ok(Known {
                version: word(item, "version")?,
                size: number(item, "size")?,
                blake3: word(item, "blake3")?,
                sha256: word(item, "sha256")?,
            })
        });
        let marks = list("marks")?.iter().map(|item| {
            Ok(Mark {
                at: number(item, "at")?,
                name: word(item, "name")?,
            })
        });
        let [base, log] = files(dir);
        Ok(Self {
            firmware,
            base,
            log,
            releases: releases.collect::<Result<_>>()?,
            marks: marks.collect::<Result<_>>()?,
        })
    }
}
