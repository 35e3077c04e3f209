//! Runs the scenarios of `tests/scenarios.txt` in QEMU.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::folder::Folder;
use tests::scenario::{Choice, Listed, Platform, Rig, Scenario, parse_list, run_all};
use tests::scenarios;
use tests::system::{Arch, Stock, project_dir};
use tests::uboot::{self, Bench, LoaderScenario};

/// Runs scenarios in QEMU: real firmware, the real loader, a real kernel.
#[derive(Debug, Parser)]
struct Arguments {
    /// All scenarios, not only those that every run includes
    #[arg(long)]
    full: bool,
    /// Only the scenarios with this name; NAME/PLATFORM: only there
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only on these platforms: bios, uefi, virt, pi3, pi4, own
    #[arg(long, value_name = "PLATFORM", alias = "firmware")]
    platform: Vec<String>,
    /// Machines that run at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
}

/// A scenario that needs more raises it on the device.
const TRIES: u8 = 1;

/// The demo system for each architecture.
type Stocks = BTreeMap<&'static str, (Arch, Stock)>;

/// One scenario on one platform.
#[derive(Clone, Copy, Debug)]
enum Job {
    System(Scenario, Platform),
    Loader(LoaderScenario),
}

impl Job {
    fn all() -> Vec<Self> {
        let systems = scenarios::all().into_iter();
        let systems =
            systems.flat_map(|s| s.on.iter().map(move |&platform| Self::System(s, platform)));
        let loaders = uboot::SCENARIOS.iter().copied().map(Self::Loader);
        systems.chain(loaders).collect()
    }

    fn name(&self) -> &'static str {
        match self {
            Self::System(scenario, _) => scenario.name,
            Self::Loader(scenario) => scenario.name,
        }
    }

    fn platform(&self) -> Platform {
        match self {
            Self::System(_, platform) => *platform,
            Self::Loader(scenario) => Platform::Uboot(scenario.machine),
        }
    }

    fn is(&self, listed: &Listed) -> bool {
        self.name() == listed.name && self.platform() == listed.platform
    }
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
    let folder = Folder::claim("scenarios")?;
    let dir = folder.path();
    let start = Instant::now();
    let mut stocks = Stocks::default();
    for (arch, name) in [(Arch::X86_64, "stock"), (Arch::Aarch64, "stock-arm64")] {
        let needs = |job: &Job| matches!(job, Job::System(_, platform) if platform.arch() == arch);
        if jobs.iter().any(needs) {
            let stock = Stock::open(&dir.join(name), arch, TRIES);
            stocks.insert(name, (arch, stock.context("build the demo system")?));
            println!("built the demo system in {} s", start.elapsed().as_secs());
        }
    }
    println!(
        "{wanted} scenarios, {} at a time; serial output is kept in {}",
        arguments.jobs,
        dir.display()
    );

    let failed = run_all(jobs, arguments.jobs, |job| run_one(job, &stocks, dir));
    println!("{} passed, {failed} failed, 0 skipped", wanted - failed);
    Ok(failed == 0)
}

/// What is to run, after a comparison of the list with the program.
fn choose(arguments: &Arguments) -> Result<Vec<Job>> {
    let path = project_dir().join("tests/scenarios.txt");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let list = parse_list(&text).with_context(|| format!("read {}", path.display()))?;
    let all = Job::all();
    for listed in &list {
        ensure!(
            all.iter().any(|job| job.is(listed)),
            "{}: there is no scenario {} on {}",
            path.display(),
            listed.name,
            listed.platform.name()
        );
    }
    for job in &all {
        ensure!(
            list.iter().any(|listed| job.is(listed)),
            "{}: {} {} is not listed",
            path.display(),
            job.name(),
            job.platform().name()
        );
    }
    let chosen = |listed: &&Listed| {
        let by_choice =
            arguments.full || listed.choice == Choice::Always || !arguments.only.is_empty();
        let row = format!("{}/{}", listed.name, listed.platform.name());
        let by_name = arguments.only.is_empty()
            || [&listed.name, &row]
                .iter()
                .any(|name| arguments.only.contains(name));
        let by_platform = arguments.platform.is_empty()
            || arguments
                .platform
                .iter()
                .any(|f| f == listed.platform.name());
        by_choice && by_name && by_platform
    };
    let jobs = list.iter().filter(chosen);
    let jobs: Vec<Job> = jobs
        .filter_map(|listed| all.iter().find(|job| job.is(listed)).copied())
        .collect();
    ensure!(
        !jobs.is_empty(),
        "choose scenarios: none fits the arguments"
    );
    Ok(jobs)
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn run_one(job: Job, stocks: &Stocks, dir: &Path) -> bool {
    let start = Instant::now();
    let head = format!("{:<32} {}", job.name(), job.platform().name());
    let dir = dir.join(format!("{}-{}", job.name(), job.platform().name()));
    let result = match job {
        Job::System(scenario, platform) => run_system(scenario, platform, stocks, &dir),
        Job::Loader(scenario) => run_loader(scenario, &dir),
    };
    let seconds = start.elapsed().as_secs();
    match result {
        Ok((boots, ran)) => {
            println!("ok     {head}  boots {boots:>2}  {seconds:>3} s  {ran}");
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

/// How often the machine booted, and what ran in the end.
fn run_system(
    scenario: Scenario,
    platform: Platform,
    stocks: &Stocks,
    dir: &Path,
) -> Result<(usize, String)> {
    let stock = stocks.values().find(|(arch, _)| *arch == platform.arch());
    let (_, stock) = stock.context("use the demo system")?;
    let mut rig = Rig::new(stock, platform, dir)?;
    (scenario.run)(&mut rig)?;
    let ran = rig
        .ran()
        .context("end the scenario: no slot was seen to run")?;
    Ok((rig.boots(), format!("slot {}  {}", ran.slot, ran.hash)))
}

/// The same; nothing but a loader ran.
fn run_loader(scenario: LoaderScenario, dir: &Path) -> Result<(usize, String)> {
    let mut bench = Bench::new(scenario.machine, dir)?;
    (scenario.run)(&mut bench)?;
    Ok((bench.boots(), "loader only".to_owned()))
}
