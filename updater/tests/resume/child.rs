//! The process that installs: what a service does with a download, as short as it can be.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use bootctl::Slot;
use updater::apply::{Options, apply};
use updater::engine::{Observer, Phase};
use updater::gates::Admitted;
use updater::payload::Prefix;
use updater::resume;
use updater::source::{Origin, Remote, Source, SourceError};

use super::bench::IMAGE;
use super::payload::BLOCK;

/// What the process is told.
pub struct Paths {
    pub disk: PathBuf,
    pub payload: PathBuf,
    pub keys: PathBuf,
    pub state: PathBuf,
    /// The bytes that came from afar, one range a line.
    pub log: PathBuf,
}

const NAMES: [&str; 5] = ["DISK", "PAYLOAD", "KEYS", "STATE", "LOG"];

impl Paths {
    pub fn to_env(&self) -> Vec<(String, OsString)> {
        let paths = [
            &self.disk,
            &self.payload,
            &self.keys,
            &self.state,
            &self.log,
        ];
        NAMES
            .iter()
            .zip(paths)
            .map(|(name, path)| (format!("KILLED_{name}"), path.into()))
            .collect()
    }

    pub fn from_env() -> Option<Self> {
        let path = |name: &str| std::env::var_os(format!("KILLED_{name}")).map(PathBuf::from);
        let [disk, payload, keys, state, log] = NAMES.map(path);
        Some(Self {
            disk: disk?,
            payload: payload?,
            keys: keys?,
            state: state?,
            log: log?,
        })
    }
}

/// A payload on a server whose link is slower than the disk: a block comes when the one before it is written.
struct Server {
    file: File,
    log: File,
    at: u64,
    starts: Vec<u64>,
    written: Arc<AtomicU64>,
}

impl Server {
    fn open(paths: &Paths, written: &Arc<AtomicU64>) -> Self {
        Self {
            file: File::open(&paths.payload).unwrap(),
            log: OpenOptions::new()
                .append(true)
                .create(true)
                .open(&paths.log)
                .unwrap(),
            at: 0,
            starts: starts(paths),
            written: Arc::clone(written),
        }
    }
}

/// Where the blocks start, from the payload itself: entries of 80 bytes with the stored length at 68.
fn starts(paths: &Paths) -> Vec<u64> {
    let mut bytes = vec![0; 64 << 10];
    let mut file = File::open(&paths.payload).unwrap();
    file.read_exact(&mut bytes).unwrap();
    let prefix = Prefix::parse(&bytes).unwrap().header().prefix_len();
    let entries = IMAGE.div_ceil(BLOCK);
    let table = &bytes[prefix..prefix + entries * 80];
    let mut starts = vec![(prefix + entries * 80) as u64];
    for entry in table.chunks(80) {
        let length = u32::from_le_bytes(entry[68..72].try_into().unwrap());
        starts.push(starts.last().unwrap() + u64::from(length));
    }
    starts
}

impl Read for Server {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let begin = self.starts.iter().rfind(|start| **start <= self.at);
        // Blocks of zeros, which take no bytes, may go together with the next one.
        let block = begin.map_or(0, |begin| {
            self.starts.partition_point(|start| start < begin)
        });
        while self.written.load(Ordering::Acquire) < block as u64 {
            sleep(Duration::from_micros(50));
        }
        let len = buf.len().min(29_000);
        let count = self.file.read(&mut buf[..len])?;
        let end = self.at + count as u64;
        if count > 0 {
            // One write, which a signal does not tear.
            self.log
                .write_all(format!("{} {end}\n", self.at).as_bytes())?;
        }
        self.at = end;
        Ok(count)
    }
}

impl Remote for Server {
    fn jump(&mut self, offset: u64) -> Result<(), SourceError> {
        let went = self.file.seek(SeekFrom::Start(offset));
        went.map_err(|cause| SourceError::Read { offset, cause })?;
        self.at = offset;
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        Some(Origin {
            url: "https://example.org/latest.payload".into(),
            validator: Some("\"1\"".into()),
        })
    }
}

/// Says what is going on to whoever may kill this process, and to the server.
struct Speaker(Arc<AtomicU64>);

impl Observer for Speaker {
    fn progress(&mut self, phase: Phase, done: u64, total: u64) {
        match phase {
            Phase::Resuming | Phase::Writing => self.0.store(done, Ordering::Release),
            Phase::Checking | Phase::Comparing => {}
        }
        say(&format!("{phase:?} {done}"));
        if done == total {
            match phase {
                Phase::Resuming | Phase::Writing => say("written"),
                Phase::Comparing => say("compared"),
                Phase::Checking => {}
            }
        }
    }

    fn staging(&mut self, _: &Admitted, _: Slot) {
        say("staging");
    }
}

fn say(what: &str) {
    let mut out = io::stdout().lock();
    // Nobody may be listening any more.
    let _ = writeln!(out, "@ {what}").and_then(|()| out.flush());
}

/// Installs, going on where the last process was.
pub fn run(paths: &Paths) {
    say("open");
    let written = Arc::new(AtomicU64::new(0));
    let server = Server::open(paths, &written);
    let source = match resume::load(&paths.state) {
        Some(saved) if saved.mark.origin == server.origin() => {
            Source::resumed(saved.prefix, server)
        }
        _ => Source::remote(server),
    };
    let options = Options {
        disk: Some(paths.disk.clone()),
        keys: Some(paths.keys.clone()),
        state: Some(paths.state.clone()),
        resume: true,
        ..Options::default()
    };
    let outcome = apply(source, &options, &mut Speaker(written)).unwrap();
    assert!(outcome.report.is_some());
    say("done");
}
