//! Replays a recorded update with power cuts; see `tests::replay`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::folder::Folder;
use tests::qemu::Firmware;
use tests::replay::{
    Base, Cut, Judge, Log, Places, Recording, Replay, boot, choose, images, judge_all, record,
};
use tests::system::{Arch, Stock};

/// Records a real update in QEMU, cuts its power at every flush and between, judges each medium, boots some of them.
#[derive(Debug, Parser)]
struct Arguments {
    /// Media that the real loader boots, over both firmwares
    #[arg(long, value_name = "N", default_value_t = 48)]
    boots: usize,
    /// Decides what survives between flushes, and which media are booted
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Takes the recordings of the run before: with the same seed it makes the same media
    #[arg(long)]
    recorded: bool,
    /// Only with this firmware: bios or uefi
    #[arg(long, value_name = "FIRMWARE")]
    firmware: Option<String>,
    /// Machines that run at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
}

/// Violations that are told of, with each firmware.
const SHOWN: usize = 20;

#[derive(Debug, Default)]
struct Sum {
    judged: usize,
    distinct: usize,
    booted: usize,
    violations: usize,
}

#[expect(clippy::print_stderr, reason = "a program talks")]
fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("replay an update: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn run(arguments: &Arguments) -> Result<bool> {
    let folder = Folder::claim("replay")?;
    let dir = folder.path();
    let chosen = |firmware: &Firmware| {
        arguments
            .firmware
            .as_deref()
            .is_none_or(|name| name == firmware.name())
    };
    let firmwares: Vec<Firmware> = Firmware::ALL.into_iter().filter(chosen).collect();
    ensure!(
        !firmwares.is_empty(),
        "choose a firmware: there is no such one"
    );
    let mut stock = None;
    let mut sum = Sum::default();
    for (number, firmware) in firmwares.iter().enumerate() {
        let own = dir.join(firmware.name());
        let recording = if arguments.recorded {
            Recording::load(*firmware, &own)?
        } else {
            let start = Instant::now();
            let stock = match &stock {
                Some(stock) => stock,
                None => stock.insert(Stock::open(
                    &dir.join("stock"),
                    Arch::X86_64,
                    Recording::TRIES,
                )?),
            };
            let recording = record(stock, *firmware, &own)
                .with_context(|| format!("record an update with {}", firmware.name()))?;
            let seconds = start.elapsed().as_secs();
            println!("{}: recorded an update in {seconds} s", firmware.name());
            recording
        };
        // What does not divide goes to the first.
        let boots = (arguments.boots + firmwares.len() - 1 - number) / firmwares.len();
        replay(&recording, arguments, boots, &own, &mut sum)?;
    }
    println!(
        "{} media judged ({} distinct), {} booted, {} violations",
        sum.judged, sum.distinct, sum.booted, sum.violations
    );
    Ok(sum.violations == 0)
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn replay(
    recording: &Recording,
    arguments: &Arguments,
    boots: usize,
    dir: &Path,
    sum: &mut Sum,
) -> Result<()> {
    let start = Instant::now();
    let name = recording.firmware.name();
    let base = Base::open(&recording.base)?;
    let bytes =
        fs::read(&recording.log).with_context(|| format!("read {}", recording.log.display()))?;
    let log = Log::parse(bytes, base.sectors)?;
    let places = Places::of(&base)?;
    let mut judge = Judge::new(&places, &recording.releases, recording.firmware);
    let mut violations = Vec::new();
    if let Err(error) = judge.writes(&log) {
        violations.push(format!("invariant 7: {error:#}"));
    }
    let mut whole = Replay::new(&base, &log)?;
    let found = judge_all(
        &mut whole,
        &mut judge,
        &places,
        &recording.marks,
        arguments.seed,
    )?;
    println!(
        "{name}: {} events, {} media up to and between {} flushes, {} distinct, {} s",
        log.events.len(),
        found.judged,
        found.flushes,
        found.cuts.len() + found.violations.len(),
        start.elapsed().as_secs()
    );
    violations.extend(found.violations);
    sum.judged += found.judged;
    sum.distinct += found.cuts.len();

    let cuts = choose(&found.cuts, boots, arguments.seed);
    let mut fresh = Replay::new(&base, &log)?;
    let media = dir.join("media");
    if media.exists() {
        fs::remove_dir_all(&media).with_context(|| format!("empty {}", media.display()))?;
    }
    let images = images(recording, &mut fresh, &cuts, &media)?;
    let queue = Mutex::new(images.into_iter());
    let bad = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some((cut, image)) = next() {
                    if let Err(error) = boot_one(recording, cut, &image) {
                        let what =
                            format!("{}: {error:#}; medium: {}", cut.name(), image.display());
                        bad.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(what);
                    }
                }
            });
        }
    });
    sum.booted += cuts.len();
    violations.extend(bad.into_inner().unwrap_or_else(PoisonError::into_inner));
    for violation in violations.iter().take(SHOWN) {
        println!("VIOLATION {name}: {violation}");
    }
    if let Some(more @ 1..) = violations.len().checked_sub(SHOWN) {
        println!("VIOLATION {name}: {more} more");
    }
    sum.violations += violations.len();
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn boot_one(recording: &Recording, cut: &Cut, image: &Path) -> Result<()> {
    let booted = boot(recording, cut, image)?;
    println!(
        "ok     {}  {:>3} s  slot {} is {}  {}{}",
        recording.firmware.name(),
        booted.seconds,
        booted.slot,
        booted.version,
        cut.name(),
        if booted.was_silent {
            "  (turned on twice: nothing at all was said at first)"
        } else {
            ""
        }
    );
    drop(fs::remove_file(image));
    Ok(())
}
