//! Cuts the power everywhere, on simulated disks; see `tests::powercut`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bootctl::SectorSize;
use clap::Parser;
use tests::powercut::campaign::{Effort, Plan, run};
use tests::powercut::fixture::{Board, Fixture};
use tests::powercut::jobs::{Choice, choose};
use tests::powercut::release;
use tests::powercut::report::{Finding, save};
use tests::powercut::search::search;
use tests::system::project_dir;

/// States of each operation, board, sector size and number of tries that are cut in every way with `--full`; in all the
/// others each write is cut a few times.
const DEEP_STATES: usize = 2;

/// Cuts the power before, inside and after every write, boots what is left and holds it against the invariants.
#[derive(Debug, Parser)]
struct Arguments {
    /// Operations from every state, more cuts, more second cuts: less than an hour on two cores
    #[arg(long)]
    full: bool,
    /// Repeats the run with this seed exactly
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only this board
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Only this operation, such as first-boot
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Stops at the first violation
    #[arg(long)]
    stop: bool,
    /// States per board, sector size and number of tries that are cut thoroughly
    #[arg(long, value_name = "N")]
    states: Option<usize>,
}

#[expect(clippy::print_stderr, reason = "a program talks")]
fn main() -> ExitCode {
    match cut(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cut the power: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program talks")]
fn cut(arguments: &Arguments) -> Result<bool> {
    let begin = Instant::now();
    let releases = Arc::new(release::all()?);
    let mut fixtures = Vec::new();
    for board in Board::ALL {
        if arguments
            .board
            .as_ref()
            .is_some_and(|name| name != board.name())
        {
            continue;
        }
        for sector_size in [SectorSize::B512, SectorSize::B4096] {
            fixtures.push(Fixture::new(board, sector_size, &releases)?);
        }
    }
    let mut findings: Vec<Finding> = Vec::new();
    let mut starts = Vec::new();
    for fixture in &fixtures {
        let both = [1, 3];
        let one = match fixture.sector_size {
            SectorSize::B512 => &both[1..],
            SectorSize::B4096 => &both[..1],
        };
        for &tries in if arguments.full { &both } else { one } {
            match search(fixture, tries, usize::MAX) {
                Ok(found) => {
                    println!(
                        "{} with sectors of {}, {tries} tries: {} states, {} steps, {:.1} s",
                        fixture.board.name(),
                        fixture.sector_size.bytes(),
                        found.nodes.len(),
                        found.steps,
                        begin.elapsed().as_secs_f32()
                    );
                    starts.push((fixture, tries, found.nodes));
                }
                Err(broken) => findings.push(Finding {
                    board: fixture.board.name(),
                    sector: fixture.sector_size.bytes(),
                    operation: "search",
                    what: broken.violation.to_string(),
                    trace: broken.node.path,
                    medium: broken.node.medium,
                }),
            }
        }
    }
    let effort = match arguments.full {
        true => Effort::DEEP,
        false => Effort::QUICK,
    };
    let choice = Choice {
        most: arguments
            .states
            .unwrap_or(if arguments.full { DEEP_STATES } else { 1 }),
        effort,
        others: arguments.full.then_some(Effort::WIDE),
    };
    let mut jobs = Vec::new();
    for (fixture, tries, nodes) in &starts {
        if arguments.stop && !findings.is_empty() {
            break;
        }
        jobs.extend(choose(fixture, *tries, nodes, choice, arguments.seed));
    }
    if let Some(name) = &arguments.operation {
        jobs.retain(|job| job.operation.name() == name);
    }
    println!("{} operations from these states", jobs.len());
    let plan = Plan {
        seed: arguments.seed,
        threads: 2,
        stop: arguments.stop,
    };
    let step = jobs.len().div_ceil(20);
    let report = run(&jobs, &plan, |done| {
        if arguments.full && done % step == 0 {
            let seconds = begin.elapsed().as_secs();
            println!("{done} of {} operations, {seconds} s", jobs.len());
        }
    });
    for line in report.lines() {
        println!("{line}");
    }
    let [survived, not] = report.sum().lies;
    println!("a flush that lies, apart from the above: {survived} survived, {not} not");
    let beyond = report.sum().beyond_gptprio;
    println!(
        "gptprio.next cut again while a copy is damaged, apart from the above: {beyond} without a table"
    );
    findings.extend(report.findings.iter().cloned());
    let dir = project_dir().join("target/powercut");
    findings.sort_by_key(|finding| finding.trace.len());
    for (number, finding) in findings.iter().take(10).enumerate() {
        let path = save(&dir, finding, number)?;
        println!(
            "{}: {} ({})",
            path.display(),
            finding.what,
            finding.operation
        );
    }
    println!("{:.1} s", begin.elapsed().as_secs_f32());
    Ok(findings.is_empty())
}
