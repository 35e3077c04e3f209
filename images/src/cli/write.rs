//! `write`.

use std::io::{IsTerminal, Write as _, stderr, stdin};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use images::Failure;
use images::write::{Phase, Source, Target};

/// Write a disk image to a disk, with UUIDs of its own
///
/// Refuses a disk that is mounted, in use or the running system's. Names the disk and asks before anything is written,
/// then reads everything back and compares.
#[derive(Args, Debug)]
pub struct Write {
    /// Disk image, as `build` makes it
    disk: PathBuf,
    /// Disk, such as /dev/sdb, or file; everything on it is lost
    device: PathBuf,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

impl Write {
    pub fn run(self) -> Result<()> {
        let source = Source::open(&self.disk)?;
        let target = Target::open(&self.device, source.size)?;
        target.check(&source)?;
        let model = target.model.as_deref().unwrap_or("no model name");
        say!(
            "{} ({}) goes to {} ({model}, {}); everything there is lost\n",
            self.disk.display(),
            size(source.size),
            target.name,
            size(target.size)
        );
        if !self.yes && !confirmed()? {
            return Err(Failure::Usage("write disk: not confirmed (--yes)".to_owned()).into());
        }
        let mut shown = Shown::new();
        images::write::write(&source, target, &mut |phase, done, total| {
            shown.show(phase, done, total);
        })?;
        say!("{}: written and compared\n", self.device.display());
        Ok(())
    }
}

/// Asks on the terminal; without one nobody can answer.
fn confirmed() -> Result<bool> {
    if !stdin().is_terminal() {
        return Ok(false);
    }
    say!("type yes to go on: ");
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("ask")?;
    Ok(answer.trim() == "yes")
}

/// Bytes exactly, and as the maker of a card counts them.
fn size(bytes: u64) -> String {
    const MB: u64 = 1_000_000;
    if bytes < MB {
        return format!("{bytes} bytes");
    }
    match bytes / MB {
        mb @ 0..1000 => format!("{bytes} bytes, {mb} MB"),
        mb => format!("{bytes} bytes, {}.{} GB", mb / 1000, mb % 1000 / 100),
    }
}

/// One line for every tenth, where a person is likely to read it.
struct Shown {
    wanted: bool,
    last: Option<(Phase, u64)>,
}

impl Shown {
    fn new() -> Self {
        Self {
            wanted: stderr().is_terminal(),
            last: None,
        }
    }

    fn show(&mut self, phase: Phase, done: u64, total: u64) {
        let tenths = done.saturating_mul(10) / total.max(1);
        if !self.wanted || self.last == Some((phase, tenths)) {
            return;
        }
        self.last = Some((phase, tenths));
        let what = match phase {
            Phase::Writing => "writing",
            Phase::Comparing => "comparing",
        };
        // Nobody may be reading any more, which is no reason to leave a disk half written.
        let _ = writeln!(stderr().lock(), "{what}: {} %", tenths * 10);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_maker_s() {
        assert_eq!(size(4096), "4096 bytes");
        assert_eq!(size(268_435_456), "268435456 bytes, 268 MB");
        assert_eq!(size(31_914_983_424), "31914983424 bytes, 31.9 GB");
    }
}
