//! A medium in a real machine: the loader's choice, and the hash of the slot that is under `/usr` by the guest's own tools.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::media::{Cut, with_medium};
use super::medium::Replay;
use super::record::{Known, Recording};
use crate::guest::Shell;
use crate::qemu::{Drive, Machine, Setup, copy_sparse};
use crate::scenario::{LoaderLine, expect};

const LOADER: Duration = Duration::from_secs(180);
const BOOT: Duration = Duration::from_secs(300);
const COMMAND: Duration = Duration::from_secs(120);

/// A disk image for each of `cuts`, which are in their order, in the folder `dir`.
///
/// # Errors
/// I/O.
pub fn images<'a>(
    recording: &Recording,
    replay: &mut Replay<'_>,
    cuts: &[&'a Cut],
    dir: &Path,
) -> Result<Vec<(&'a Cut, PathBuf)>> {
    let mut images = Vec::new();
    let mut position = 0;
    for (number, cut) in cuts.iter().enumerate() {
        let dir = dir.join(format!("medium-{number:03}"));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let image = dir.join("disk.img");
        copy_sparse(&recording.base, &image)?;
        with_medium(replay, &mut position, cut, |medium| medium.write_to(&image))?;
        images.push((*cut, image));
    }
    Ok(images)
}

/// What a machine said of itself.
#[derive(Clone, Debug)]
pub struct Booted {
    pub slot: String,
    pub version: String,
    pub seconds: u64,
    /// The machine had to be turned on twice.
    pub was_silent: bool,
}

/// Boots a copy of a medium, holds the loader against the model and what runs against the list of releases, and looks
/// whether the device has mended itself.
///
/// # Errors
/// Anything else than what was judged.
pub fn boot(recording: &Recording, cut: &Cut, image: &Path) -> Result<Booted> {
    let dir = image.parent().context("find the folder of an image")?;
    let disk = dir.join("running.img");
    let setup = Setup {
        firmware: recording.firmware,
        drives: vec![Drive::virtio(&disk)],
        watchdog: false,
        work_dir: dir.to_owned(),
        log: dir.join("serial.log"),
    };
    copy_sparse(image, &disk)?;
    let mut machine = setup.start()?;
    let mut spoke = machine.wait_for("tandem: slot=", LOADER);
    // SeaBIOS rarely stops under emulation before it has read a disk. That says nothing of the medium.
    let was_silent = spoke.is_err() && machine.transcript().trim().is_empty();
    if was_silent {
        drop(machine);
        copy_sparse(image, &disk)?;
        machine = setup.start()?;
        spoke = machine.wait_for("tandem: slot=", LOADER);
    }
    spoke.context("wait for the loader")?;
    let judged = &cut.judgement;
    let line = LoaderLine::parse(&machine.wait_for("\n", COMMAND)?)?;
    let choice = &judged.choice;
    let wanted = LoaderLine {
        slot: choice.slot,
        tries: choice.tries,
        environment: choice.environment.to_owned(),
        table: choice.table.to_owned(),
    };
    ensure!(
        line == wanted,
        "expect the loader to say {wanted:?}: it said {line:?}"
    );

    let release = recording.releases.get(judged.release);
    let release = release.context("find the release that was judged")?;
    let version = look_inside(&mut machine, recording, release)?;
    let seconds = machine.uptime().as_secs();
    let lines = machine.transcript().matches("tandem: slot=").count();
    ensure!(
        lines == 1,
        "expect one boot: the loader chose {lines} times"
    );
    let mut shell = Shell::again(&mut machine);
    let status = shell.json("tandem-bootctl status --json", COMMAND)?;
    machine.cut_power()?;
    drop(fs::remove_file(&disk));

    let slot = choice.slot;
    for (pointer, wanted) in [
        ("/running", Value::from(true)),
        ("/active", Value::from(slot.name())),
        ("/next", Value::from(slot.name())),
        ("/trial", Value::from(false)),
        ("/environment/state", Value::from("ok")),
        ("/table/copies", Value::from("both")),
    ] {
        expect(&status, pointer, &wanted)?;
    }
    // Cut between the boot state and the record, it still names the slot that ran before; that must be confirmed, too.
    let recorded = status.pointer("/confirmed_record/slot");
    let recorded = recorded
        .and_then(Value::as_str)
        .context("find the confirmed record's slot")?;
    expect(
        &status,
        &format!("/mirror/{recorded}/confirmed"),
        &Value::from(true),
    )?;
    Ok(Booted {
        slot: slot.to_string(),
        version,
        seconds,
        was_silent,
    })
}

/// Asks the guest for the hash of what is under its `/usr`, and finds it in the list of releases.
fn look_inside(machine: &mut Machine, recording: &Recording, judged: &Known) -> Result<String> {
    let mut shell = Shell::wait(machine, BOOT)?;
    // The device by the kernel's numbers, so that it is the mounted one whatever anybody says of slots.
    let command = format!(
        "numbers=$(awk '$5 == \"/usr\" {{ print $3; exit }}' /proc/self/mountinfo); \
         node=$(sed -n s/^DEVNAME=//p /sys/dev/block/$numbers/uevent); \
         head -c {} /dev/$node | sha256sum",
        judged.size
    );
    let output = shell.check(&command, COMMAND)?;
    let hash = output.split_whitespace().next().unwrap_or_default();
    let found = recording.releases.iter().find(|known| known.sha256 == hash);
    let found = found.with_context(|| format!("find {hash:?} in the list of releases"))?;
    ensure!(
        found == judged,
        "expect {} to run: it is {}",
        judged.version,
        found.version
    );
    Ok(found.version.clone())
}
