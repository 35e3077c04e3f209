//! `images/demo`: the main job in a virtual machine, told as it happens.

use std::fmt::Display;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use tests::folder::Folder;
use tests::scenario::{Platform, Rig, Slot};
use tests::system::{Fault, Release, Stock};

/// Shows an update and a fallback in a virtual machine.
#[derive(Debug, Parser)]
#[command(name = "images/demo")]
struct Arguments {
    /// The board whose disk is built
    #[arg(long, value_enum, default_value_t = Board::X86_64Grub)]
    board: Board,
    /// What a PC starts with
    #[arg(long, value_enum, default_value_t = Start::Uefi)]
    firmware: Start,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Board {
    #[value(name = "x86_64-grub")]
    X86_64Grub,
    #[value(name = "arm64-uboot-env")]
    Arm64UbootEnv,
    #[value(name = "rpi3-uboot")]
    Rpi3Uboot,
}

impl Arguments {
    fn platform(&self) -> Platform {
        match (self.board, self.firmware) {
            (Board::X86_64Grub, Start::Bios) => Platform::BIOS,
            (Board::X86_64Grub, Start::Uefi) => Platform::UEFI,
            (Board::Arm64UbootEnv, _) => Platform::VIRT,
            (Board::Rpi3Uboot, _) => Platform::PI3,
        }
    }
}

/// The machine, its loader and how updates reach it.
fn words(platform: Platform) -> [&'static str; 3] {
    match platform {
        Platform::Pc(_) => [
            "a PC",
            "GRUB",
            "by its service: update_engine_client -update -payload http://…",
        ],
        Platform::VIRT => [
            "an ARM board",
            "U-Boot",
            "by its service: update_engine_client -update -payload http://…",
        ],
        Platform::Uboot(_) => [
            "a Raspberry Pi 3",
            "U-Boot",
            "by its service, from a file on the card, for the emulated one has no network",
        ],
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Start {
    Bios,
    Uefi,
}

/// How often the loader tries a new release here; three is what a device does by itself.
const TRIES: u8 = 2;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program talks")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let platform = arguments.platform();
    let story = Story {
        loader: words(platform)[1],
        start: Instant::now(),
    };
    match tell(&story, platform) {
        Ok(()) => {
            println!("\nDEMO PASSED in {}", clock(story.start.elapsed()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!(
                "\nDEMO FAILED after {}: {error:#}",
                clock(story.start.elapsed())
            );
            ExitCode::FAILURE
        }
    }
}

fn tell(story: &Story, platform: Platform) -> Result<()> {
    let [machine, _, delivery] = words(platform);
    story.plain(format_args!(
        "Tandem in a virtual machine: {machine} with two slots for its system."
    ));
    let minutes = if platform == Platform::PI3 { 8 } else { 3 };
    story.plain(format_args!("About {minutes} minutes on two idle cores without hardware virtualisation, and some more where programs have to be built."));

    story.chapter("build: Debian's kernel, busybox and Tandem's programs as releases 1.0.0, 2.0.0 and a broken 3.0.0");
    let folder = Folder::claim("demo")?;
    let dir = folder.path();
    let stock = Stock::open(&dir.join("stock"), platform.arch(), TRIES)?;
    let (v1, v2) = (stock.v1.clone(), stock.v2()?);
    let broken = stock.broken(Fault::HealthFails)?;
    for release in [&v1, &v2, &broken] {
        story.event(format_args!(
            "release {}: slot image {} bytes, BLAKE3 {}",
            release.recipe.version,
            release.size,
            short(release)
        ));
    }
    let mut rig = Rig::new(&stock, platform, &dir.join("machine"))?;
    rig.bring(&v2)?;
    rig.bring(&broken)?;
    story.event(format_args!(
        "disk image with 1.0.0 in slot a; serial output goes to {}",
        dir.join("machine/serial.log").display()
    ));

    story.chapter("power on");
    rig.power_on()?;
    boots_confirmed(story, &mut rig, Slot::A)?;
    running(story, &mut rig, Slot::A, &v1)?;

    story.chapter(format_args!("update to 2.0.0, {delivery}"));
    install(story, &mut rig, &v2)?;
    rig.reboot()?;
    story.event("reboot");
    boots_on_trial(story, &mut rig, Slot::B)?;
    running(story, &mut rig, Slot::B, &v2)?;
    story.event("health passed: 2.0.0 is confirmed");

    story.chapter("update to 3.0.0, whose health check fails");
    install(story, &mut rig, &broken)?;
    rig.reboot()?;
    story.event("reboot");
    for _ in 0..TRIES {
        boots_on_trial(story, &mut rig, Slot::A)?;
        rig.wait_for("tandem-demo: version 3.0.0 is starting")?;
        story.event("3.0.0 starts, its health check fails, it reboots");
    }
    boots_confirmed(story, &mut rig, Slot::B)?;
    running(story, &mut rig, Slot::B, &v2)?;
    let again = rig.update(&broken)?;
    story.event(format_args!(
        "updating to 3.0.0 again ends with code {}: {}",
        again.code,
        again.text.trim()
    ));
    ensure!(
        again.code == 6,
        "expect code 6 (refused) for a release that has failed: {}",
        again.code
    );

    story.chapter("power off");
    rig.shut_down(Slot::B, &v2)?;
    let hash = rig
        .ran()
        .context("end the demo: no slot was seen to run")?
        .hash;
    story.event(format_args!(
        "the host finds slot b of the image to be exactly 2.0.0: BLAKE3 {}",
        &hash.to_hex()[..16]
    ));
    Ok(())
}

fn boots_confirmed(story: &Story, rig: &mut Rig<'_>, slot: Slot) -> Result<()> {
    choice(story, rig, slot)?;
    story.event(format_args!(
        "{} boots slot {slot}, which is confirmed",
        story.loader
    ));
    Ok(())
}

fn boots_on_trial(story: &Story, rig: &mut Rig<'_>, slot: Slot) -> Result<()> {
    let left = choice(story, rig, slot)?;
    story.event(format_args!(
        "{} spends a try of slot {slot} and boots it; tries left: {left}",
        story.loader
    ));
    Ok(())
}

/// Waits for the loader to choose this slot; the tries that are left to it.
fn choice(story: &Story, rig: &mut Rig<'_>, slot: Slot) -> Result<u8> {
    let line = rig.loader_line()?;
    ensure!(
        line.slot == slot,
        "expect {} to boot slot {slot}: it chose {}",
        story.loader,
        line.slot
    );
    Ok(line.tries)
}

fn running(story: &Story, rig: &mut Rig<'_>, slot: Slot, release: &Release) -> Result<()> {
    rig.expect_confirmed(slot, release)?;
    story.event(format_args!(
        "slot {slot} runs {}; tandem-bootctl status says:",
        release.recipe.version
    ));
    let status = rig.check("tandem-bootctl status")?;
    for line in status.lines() {
        story.plain(format_args!("           | {}", line.trim_end()));
    }
    Ok(())
}

fn install(story: &Story, rig: &mut Rig<'_>, release: &Release) -> Result<()> {
    let start = Instant::now();
    let output = rig.update(release)?;
    ensure!(
        output.code == 0,
        "update to {}: code {}: {}",
        release.recipe.version,
        output.code,
        output.text
    );
    story.event(format_args!(
        "{} is written, read back and staged in {} s",
        release.recipe.version,
        start.elapsed().as_secs()
    ));
    Ok(())
}

fn short(release: &Release) -> String {
    release.hash.to_hex()[..16].to_owned()
}

struct Story {
    loader: &'static str,
    start: Instant,
}

#[expect(clippy::print_stdout, reason = "a program talks")]
impl Story {
    fn chapter(&self, text: impl Display) {
        println!("\n[{}] ==> {text}", clock(self.start.elapsed()));
    }

    fn event(&self, text: impl Display) {
        println!("[{}] {text}", clock(self.start.elapsed()));
    }

    fn plain(&self, text: impl Display) {
        println!("{text}");
    }
}

fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:>2}:{:02}", seconds / 60, seconds % 60)
}
