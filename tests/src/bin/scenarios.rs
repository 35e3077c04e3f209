//! Runs the scenarios of `tests/scenarios.txt` in QEMU.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::qemu::Firmware;
use tests::scenario::{Choice, Listed, Rig, Scenario, parse_list};
use tests::scenarios;
use tests::system::{Stock, project_dir};

/// Runs scenarios in QEMU: real firmware, the real loader, a real kernel.
#[derive(Debug, Parser)]
struct Arguments {
    /// All scenarios, not only those that every run includes
    #[arg(long)]
    full: bool,
    /// Only the scenarios with this name
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only with this firmware: bios or uefi
    #[arg(long, value_name = "FIRMWARE")]
    firmware: Option<String>,
    /// Machines that run at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
}

/// A scenario that needs more raises it on the device.
const TRIES: u8 = 1;

/// One scenario with one firmware.
#[derive(Clone, Copy, Debug)]
struct Job {
    scenario: Scenario,
    firmware: Firmware,
}

#[expect(clippy::print_stderr, reason = "a program talks")]
fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("run scenarios: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn run(arguments: &Arguments) -> Result<bool> {
    let jobs = choose(arguments)?;
    let wanted = jobs.len();
    let dir = project_dir().join("target/scenarios");
    let start = Instant::now();
    let stock = Stock::open(&dir.join("stock"), TRIES).context("build the demo system")?;
    println!("built the demo system in {} s", start.elapsed().as_secs());
    println!(
        "{wanted} scenarios, {} at a time; serial output is kept in {}",
        arguments.jobs,
        dir.display()
    );

    let queue = Mutex::new(VecDeque::from(jobs));
    let failed = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                while let Some(job) = queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front()
                {
                    if !run_one(job, &stock, &dir) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} passed, {failed} failed, 0 skipped", wanted - failed);
    Ok(failed == 0)
}

/// What is to run, after a comparison of the list with the program.
fn choose(arguments: &Arguments) -> Result<Vec<Job>> {
    let path = project_dir().join("tests/scenarios.txt");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let list = parse_list(&text).with_context(|| format!("read {}", path.display()))?;
    let all = scenarios::all();
    for Listed { name, firmware, .. } in &list {
        let known = all.iter().any(|scenario| scenario.name == name);
        ensure!(
            known,
            "{}: there is no scenario {name} (with {})",
            path.display(),
            firmware.name()
        );
    }
    for (scenario, firmware) in all.iter().flat_map(|s| Firmware::ALL.map(|f| (s, f))) {
        let listed = list
            .iter()
            .any(|l| l.name == scenario.name && l.firmware == firmware);
        ensure!(
            listed,
            "{}: {} {} is not listed",
            path.display(),
            scenario.name,
            firmware.name()
        );
    }
    let chosen = |listed: &&Listed| {
        let by_choice =
            arguments.full || listed.choice == Choice::Always || !arguments.only.is_empty();
        let by_name = arguments.only.is_empty() || arguments.only.contains(&listed.name);
        let by_firmware = arguments
            .firmware
            .as_deref()
            .is_none_or(|f| f == listed.firmware.name());
        by_choice && by_name && by_firmware
    };
    let jobs = list.iter().filter(chosen).filter_map(|listed| {
        let scenario = *all.iter().find(|scenario| scenario.name == listed.name)?;
        Some(Job {
            scenario,
            firmware: listed.firmware,
        })
    });
    let jobs: Vec<Job> = jobs.collect();
    ensure!(
        !jobs.is_empty(),
        "choose scenarios: none fits the arguments"
    );
    Ok(jobs)
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn run_one(job: Job, stock: &Stock, dir: &Path) -> bool {
    let Job { scenario, firmware } = job;
    let start = Instant::now();
    let dir = dir.join(format!("{}-{}", scenario.name, firmware.name()));
    let result = Rig::new(stock, firmware, &dir).and_then(|mut rig| {
        (scenario.run)(&mut rig)?;
        let ran = rig
            .ran()
            .cloned()
            .context("end the scenario: no slot was seen to run")?;
        Ok((rig.boots(), ran))
    });
    let head = format!("{:<32} {}", scenario.name, firmware.name());
    let seconds = start.elapsed().as_secs();
    match result {
        Ok((boots, ran)) => {
            println!(
                "ok     {head}  boots {boots:>2}  {seconds:>3} s  slot {}  {}",
                ran.slot, ran.hash
            );
            // A disk image is large; what a failed scenario leaves is kept for whoever looks into it.
            drop(std::fs::remove_file(dir.join("disk.img")));
            true
        }
        Err(error) => {
            println!("FAILED {head}  {seconds:>3} s: {error:#}");
            false
        }
    }
}
