//! `tandem-init`: from the start of the kernel to the system's own init.
//!
//! It runs as `/init` of a slot's initramfs and needs nothing but the kernel: starts the deadline, loads drivers, finds
//! the disk that the loader booted from, gives a new disk identifiers of its own, lets ROOT grow, mounts ROOT and the
//! slot, and hands over. What it can't do it says on the console and, if ROOT can be written, in
//! `var/lib/tandem/boot-failure`; then it resets the machine. It never opens a shell and never waits without a bound.

pub mod deadline;
mod disks;
mod drivers;
mod failure;
mod handover;
mod mounts;
mod parameters;
mod partitions;
mod prepare;
mod recovery;
mod skeleton;

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bootctl::ioctl;

use self::disks::Chosen;
use self::failure::Progress;
use self::parameters::Parameters;

/// Where ROOT is mounted before it becomes `/`.
const SYSROOT: &str = "/sysroot";
const CMDLINE: &str = "/proc/cmdline";

/// Boots, or resets the machine. Only for process 1.
pub fn run() -> ! {
    let mut progress = Progress::default();
    // An error is the only way back.
    let Err(error) = boot(&mut progress);
    failure::give_up(&progress, &format!("{error:#}"))
}

fn boot(progress: &mut Progress) -> Result<Infallible> {
    if let Err(error) = deadline::start() {
        say(&format!("start the deadline: {error:#}"));
    }
    mounts::kernel_filesystems()?;
    let cmdline = fs::read_to_string(CMDLINE).with_context(|| format!("read {CMDLINE}"))?;
    drivers::load_all();
    let parameters = Parameters::parse(&cmdline).context("read the kernel command line")?;
    progress.slot = Some(parameters.slot);

    let chosen = disks::wait_for(&parameters)?;
    check_lost_environment(&parameters, &chosen)?;
    prepare::disk(&chosen);
    ask_for_the_other_slot(&cmdline, &chosen, parameters.slot);
    let root = partitions::node(&chosen, bootctl::gpt::ROOT)?;
    let usr = partitions::node(&chosen, parameters.slot.partition_number())?;
    make_slots_read_only(&chosen)?;

    let sysroot = Path::new(SYSROOT);
    let writable = mounts::root(&root, sysroot)?;
    if writable {
        progress.root = Some(sysroot.to_owned());
        mounts::grow(&root, sysroot);
    }
    // The fault may be this release's own, its driver's, say. The other one then finds a ROOT that nobody has mended.
    let may_mend = || writable && !recovery::is_on_trial(&chosen, parameters.slot);
    furnish(&root, sysroot, writable, may_mend)?;
    mounts::usr(&usr, &sysroot.join("usr"))?;
    match partitions::node(&chosen, bootctl::gpt::OEM) {
        Ok(oem) => mounts::oem(&oem, &sysroot.join("oem")),
        Err(error) => say(&format!("find OEM: {error:#}")),
    }
    handover::switch_root(sysroot, parameters.init.as_deref(), progress)
}

/// Sees to what a ROOT needs. Both slots have the same one, so that from a confirmed slot a reset would lead back here: a
/// damaged folder is for `e2fsck`, and where that does not help the system does without, or with a ROOT in memory.
fn furnish(node: &Path, sysroot: &Path, writable: bool, may_mend: impl Fn() -> bool) -> Result<()> {
    let mut made = skeleton::create(sysroot);
    if let Err(error) = &made
        && writable
        && skeleton::is_damage(error)
    {
        if !may_mend() {
            return made;
        }
        say(&format!("{error:#}; e2fsck mends ROOT"));
        made = mounts::mend_root(node, sysroot).and_then(|()| skeleton::create(sysroot));
    }
    let Err(error) = made else { return Ok(()) };
    if mounts::is_mounted(sysroot) && skeleton::is_usable(sysroot) {
        say(&format!("{error:#}; the system has to do without"));
        return Ok(());
    }
    if writable && !may_mend() {
        return Err(error);
    }
    say(&format!("{error:#}; ROOT is of no use and is left out"));
    mounts::volatile_root(sysroot)?;
    skeleton::create(sysroot)
}

/// Resets the machine if somebody wants the other slot, and can have it.
fn ask_for_the_other_slot(cmdline: &str, chosen: &Chosen, slot: bootctl::Slot) {
    let asked = recovery::is_wanted(cmdline)
        .and_then(|wanted| Ok(wanted && recovery::prefer_the_other(chosen, slot)?));
    match asked {
        Ok(false) => {}
        Ok(true) => failure::reset(),
        // No button is worth not booting for.
        Err(error) => say(&format!("{error:#}")),
    }
}

/// Environment and confirmed record both lost: the loader could not know which slot is complete, so go on only in one
/// whose slot record proves it.
fn check_lost_environment(parameters: &Parameters, chosen: &Chosen) -> Result<()> {
    if !parameters.environment_lost || chosen.confirmed == Some(parameters.slot) {
        return Ok(());
    }
    if chosen.has_slot_record(parameters.slot) {
        return Ok(());
    }
    bail!(
        "boot slot {}: environment and confirmed record are lost, and the slot has no valid record",
        parameters.slot
    )
}

/// From here on only the installer makes a slot writable, while it writes.
fn make_slots_read_only(chosen: &Chosen) -> Result<()> {
    for slot in bootctl::Slot::ALL {
        let node = partitions::node(chosen, slot.partition_number())?;
        fs::File::open(&node)
            .and_then(|device| ioctl::set_read_only(&device, true))
            .with_context(|| format!("make {} read-only", node.display()))?;
    }
    Ok(())
}

/// One line on the console.
#[expect(clippy::print_stderr, reason = "the console is all there is")]
fn say(text: &str) {
    eprintln!("tandem-init: {text}");
}
