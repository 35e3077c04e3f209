//! Counts, and what is written when a promise is broken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::disk::Event;
use super::medium::Medium;

/// What was done for one board and operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub cuts: u64,
    pub double_cuts: u64,
    pub recoveries: u64,
    pub media: u64,
    /// Runs with a failing request.
    pub faults: u64,
    /// Media after a flush that lied: survived, not survived.
    pub lies: [u64; 2],
    /// Media without a table that `gptprio.next` leaves when it is cut while one copy is damaged: it writes over the good
    /// one first.
    pub beyond_gptprio: u64,
    pub violations: u64,
}

impl Counts {
    pub const fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.double_cuts += other.double_cuts;
        self.recoveries += other.recoveries;
        self.media += other.media;
        self.faults += other.faults;
        self.lies[0] += other.lies[0];
        self.lies[1] += other.lies[1];
        self.beyond_gptprio += other.beyond_gptprio;
        self.violations += other.violations;
    }
}

/// A broken promise with everything that shows it.
#[derive(Clone, Debug)]
pub struct Finding {
    pub board: &'static str,
    pub sector: u64,
    pub operation: &'static str,
    pub what: String,
    /// What led there, one step a line.
    pub trace: Vec<String>,
    pub medium: Medium,
}

/// Per board and operation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub counts: BTreeMap<(&'static str, &'static str), Counts>,
    pub findings: Vec<Finding>,
}

impl Report {
    pub fn add(&mut self, board: &'static str, operation: &'static str, counts: &Counts) {
        self.counts
            .entry((board, operation))
            .or_default()
            .add(counts);
    }

    #[must_use]
    pub fn sum(&self) -> Counts {
        let mut sum = Counts::default();
        self.counts.values().for_each(|counts| sum.add(counts));
        sum
    }

    /// One line for each board and operation, and the sum.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |name: String, c: &Counts| {
            format!(
                "{name:<38} {} cut points, {} recoveries, {} violations; {} distinct media, {} failing requests",
                c.cuts + c.double_cuts,
                c.recoveries,
                c.violations,
                c.media,
                c.faults,
            )
        };
        let rows = self.counts.iter();
        let mut lines: Vec<String> = rows
            .map(|((board, operation), c)| line(format!("{board} {operation}"), c))
            .collect();
        lines.push(line("sum".to_owned(), &self.sum()));
        lines
    }
}

/// Writes image and trace of a finding to `dir`; returns the trace's path.
///
/// # Errors
/// The files can't be written.
pub fn save(dir: &Path, finding: &Finding, number: usize) -> Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let image = dir.join(format!("violation-{number}.img"));
    let length = usize::try_from(finding.medium.len())?;
    std::fs::write(&image, finding.medium.bytes(0, length))
        .with_context(|| format!("write {}", image.display()))?;
    let trace = dir.join(format!("violation-{number}.txt"));
    let mut text = format!(
        "{} with sectors of {}, {}: {}\n",
        finding.board, finding.sector, finding.operation, finding.what
    );
    for line in &finding.trace {
        text.push_str(line);
        text.push('\n');
    }
    std::fs::write(&trace, text).with_context(|| format!("write {}", trace.display()))?;
    Ok(trace)
}

/// A log, one event a line.
#[must_use]
pub fn describe(log: &[Event], sector: u64) -> Vec<String> {
    log.iter()
        .enumerate()
        .map(|(number, event)| match event {
            Event::Flush => format!("  {number}: flush"),
            Event::Write(write) => format!(
                "  {number}: write {} bytes to sector {}",
                write.data.len(),
                write.at / sector
            ),
        })
        .collect()
}
