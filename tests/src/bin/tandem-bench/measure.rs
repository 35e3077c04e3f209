//! Wall time and peak memory of a child process, and the statistics of a few samples.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What one run of a command cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub seconds: f64,
    /// Peak resident memory in KiB (VmHWM), 0 where it ended before it could be read.
    pub peak_kib: u64,
}

/// Runs `command` to its end and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<Cost> {
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("start {command:?}"))?;
    let mut peak_kib = 0;
    let status = loop {
        peak_kib = peak(&child).unwrap_or(0).max(peak_kib);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        bail!("run {command:?}: {status}");
    }
    Ok(Cost { seconds, peak_kib })
}

/// Seconds that `command` takes, without the polling of [`run`].
pub fn run_once(command: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        bail!("run {command:?}: {status}");
    }
    Ok(seconds)
}

fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Memory of a process and all that it has started, each shared page counted once among those that share it (Pss), in
/// KiB; 0 for one that has ended.
pub fn pss_kib(process: u32) -> u64 {
    let folder = format!("/proc/{process}");
    let rollup = fs::read_to_string(format!("{folder}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let own = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    let mut sum: u64 = own.unwrap_or(0);
    let threads = fs::read_dir(format!("{folder}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            sum += pss_kib(child);
        }
    }
    sum
}

/// Median, smallest and largest of some samples.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` without samples.
    pub fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            *sorted.get(middle)?
        } else {
            (sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / 2.0
        };
        Some(Self {
            median,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_odd_and_even_counts() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert!(Spread::of(&[]).is_none());
    }

    #[test]
    fn memory_counts_children() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let own = pss_kib(std::process::id());
        assert!(own > pss_kib(child.id()) && pss_kib(child.id()) > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(pss_kib(child.id()), 0);
    }

    #[test]
    fn a_failing_command_is_no_measurement() {
        assert!(run(&mut Command::new("false")).is_err());
        assert!(run(&mut Command::new("true")).is_ok());
    }
}
