//! Cuts the power everywhere, on simulated disks; see `tests::powercut`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use bootctl::SectorSize;
use clap::Parser;
use tests::powercut::campaign::{Job, Plan, run};
use tests::powercut::cuts::{Depth, Random};
use tests::powercut::fixture::{Board, Fixture};
use tests::powercut::judge::Case;
use tests::powercut::operation::Operation;
use tests::powercut::release;
use tests::powercut::report::{Finding, save};
use tests::powercut::search::{Node, search};
use tests::system::project_dir;

/// Cuts the power before, inside and after every write, boots what is left and holds it against the invariants.
#[derive(Debug, Parser)]
struct Arguments {
    /// Every state, every cut, more second cuts: about an hour on two cores
    #[arg(long)]
    full: bool,
    /// Repeats the run with this seed exactly
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only this board
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// Stops at the first violation
    #[arg(long)]
    stop: bool,
    /// States per board, sector size and number of tries
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
    let mut jobs = Vec::new();
    let most = arguments
        .states
        .unwrap_or(if arguments.full { 12 } else { 1 });
    for (fixture, tries, nodes) in &starts {
        if arguments.stop && !findings.is_empty() {
            break;
        }
        jobs.extend(jobs_of(fixture, *tries, nodes, most, arguments.seed));
    }
    println!("{} operations from these states", jobs.len());
    let plan = Plan {
        depth: if arguments.full {
            Depth::FULL
        } else {
            Depth::QUICK
        },
        seed: arguments.seed,
        double_every: if arguments.full { 4 } else { 40 },
        second_depth: Depth::QUICK,
        random_runs: if arguments.full { 20 } else { 2 },
        repeat_one_of: if arguments.full { 3 } else { 12 },
        faults: true,
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

/// Every operation, each from a choice of the states in which its description allows it.
fn jobs_of<'a>(
    fixture: &'a Fixture,
    tries: u8,
    nodes: &'a [Node],
    most: usize,
    seed: u64,
) -> Vec<Job<'a>> {
    use Operation::{
        Activate, FirstBoot, Grow, Install, MarkSuccessful, MarkUnbootable, Repair, Rollback,
        Start, Sync,
    };
    let job = |node: &Node, operation| Job {
        fixture,
        start: node.medium.clone(),
        running: node.ran,
        operation,
        tries,
        path: node.path.clone(),
    };
    let mut random = Random::new(seed);
    let mut jobs = Vec::new();
    for operation in [
        Activate,
        MarkUnbootable,
        MarkSuccessful,
        Rollback,
        Repair,
        Sync,
        Install(1),
        Install(2),
        Start,
    ] {
        let fits = |node: &&Node| match operation {
            Start => node.running.is_none(),
            // What there is to mend.
            Repair | Sync => node.lost,
            _ => {
                node.running.is_some() && {
                    let case = Case::new(fixture, &node.medium, node.ran, operation, tries);
                    case.states
                        .is_some_and(|states| states.first() != states.last())
                }
            }
        };
        let mut chosen: Vec<&Node> = nodes.iter().filter(fits).collect();
        while chosen.len() > most {
            let at = random.below(chosen.len() as u64);
            chosen.swap_remove(usize::try_from(at).unwrap_or(0));
        }
        jobs.extend(chosen.into_iter().map(|node| job(node, operation)));
    }
    // What is refused must not write either.
    for operation in [
        Activate,
        MarkUnbootable,
        MarkSuccessful,
        Rollback,
        Install(1),
    ] {
        let refused = nodes.iter().find(|node| {
            node.running.is_some()
                && Case::new(fixture, &node.medium, node.ran, operation, tries).is_refused()
        });
        jobs.extend(refused.map(|node| job(node, operation)));
    }
    if let Some(first) = nodes.first() {
        jobs.push(job(first, FirstBoot));
        let grown = Node {
            medium: fixture.flashed.grown(4 << 20),
            ..first.clone()
        };
        for operation in [FirstBoot, Grow, Start, MarkUnbootable, Sync, Install(1)] {
            jobs.push(job(&grown, operation));
        }
    }
    jobs
}
