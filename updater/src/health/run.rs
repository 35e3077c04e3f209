//! Runs one health check: bounded in time, with the end of its output kept.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// How much of the end of a check's output is kept, in bytes.
pub const OUTPUT_MAX: usize = 4096;
/// Most bytes that are taken from the pipe once the check has ended; a pipe holds no more than that.
const DRAIN_MAX: usize = 1 << 20;
const POLL_MILLISECONDS: u8 = 50;

/// How long a check may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time until SIGTERM.
    pub time: Duration,
    /// Time from SIGTERM to SIGKILL, and from there until the check is given up.
    pub grace: Duration,
}

/// How a check ended.
#[derive(Debug)]
pub enum End {
    /// With exit status 0.
    Passed,
    /// With another exit status or by a signal that was not ours.
    Failed(ExitStatus),
    /// It was still running when its time was over.
    TimedOut(Duration),
    /// It could not be started or waited for.
    Broken(io::Error),
}

/// What came of one check.
#[derive(Debug)]
pub struct Outcome {
    pub end: End,
    /// The last [`OUTPUT_MAX`] bytes of standard output and standard error together.
    pub output: String,
}

impl Outcome {
    /// It passed.
    #[must_use]
    pub const fn passed(&self) -> bool {
        matches!(self.end, End::Passed)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.end {
            End::Passed => f.write_str("passed")?,
            End::Failed(status) => write!(f, "{status}")?,
            End::TimedOut(time) => write!(f, "no result within {} s", time.as_secs())?,
            End::Broken(error) => write!(f, "{error}")?,
        }
        let output = self.output.trim();
        if !output.is_empty() {
            write!(f, ": {output}")?;
        }
        Ok(())
    }
}

/// Runs `program` without arguments or input, in a process group of its own, which is killed as a whole: with SIGTERM
/// and then SIGKILL when the time is over, with SIGKILL when the program itself has ended.
pub fn run(program: &Path, environment: &[(&str, &str)], limits: Limits) -> Outcome {
    let mut output = Tail::default();
    let end = match start(program, environment) {
        Ok((child, pipe)) => Running::new(child, pipe, &mut output).finish(limits),
        Err(error) => End::Broken(error),
    };
    Outcome {
        end,
        output: output.into_text(),
    }
}

fn start(program: &Path, environment: &[(&str, &str)]) -> io::Result<(Child, PipeReader)> {
    use std::os::unix::process::CommandExt;
    let (reader, writer) = io::pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let child = Command::new(program)
        .envs(environment.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    Ok((child, reader))
}

struct Running<'a> {
    child: Child,
    group: Pid,
    /// `None` once everybody has closed the other end.
    pipe: Option<PipeReader>,
    output: &'a mut Tail,
}

impl<'a> Running<'a> {
    fn new(child: Child, pipe: PipeReader, output: &'a mut Tail) -> Self {
        // A process id is a positive i32 that the kernel hands out as one.
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Self {
            child,
            group,
            pipe: Some(pipe),
            output,
        }
    }

    fn finish(mut self, limits: Limits) -> End {
        match self.wait(limits.time) {
            Ok(true) => return self.reap(),
            Ok(false) => {}
            Err(error) => {
                self.signal(Signal::SIGKILL);
                return End::Broken(error);
            }
        }
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            self.signal(signal);
            // Waiting failed, or not even SIGKILL ended it: the result is the same.
            if matches!(self.wait(limits.grace), Ok(true)) {
                self.reap();
                break;
            }
        }
        End::TimedOut(limits.time)
    }

    /// Reads output until the child has ended, at most for `time`; whether it has.
    fn wait(&mut self, time: Duration) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            if self.has_ended()? {
                return Ok(true);
            }
            if start.elapsed() >= time {
                return Ok(false);
            }
            self.read_or_pause()?;
        }
    }

    /// Whether the child has ended, without reaping it: until then nobody else gets its process group.
    fn has_ended(&self) -> io::Result<bool> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.group), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => Ok(false),
            Ok(_) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read_or_pause(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else {
            sleep(Duration::from_millis(POLL_MILLISECONDS.into()));
            return Ok(());
        };
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(POLL_MILLISECONDS)) {
            Ok(0) | Err(Errno::EINTR) => Ok(()),
            Ok(_) => self.read().map(|_| ()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes what is in the pipe, up to one buffer; its length.
    fn read(&mut self) -> io::Result<usize> {
        let mut buf = [0; 4096];
        let Some(pipe) = &mut self.pipe else {
            return Ok(0);
        };
        match pipe.read(&mut buf) {
            Ok(0) => {
                self.pipe = None;
                Ok(0)
            }
            Ok(len) => {
                self.output.push(buf.get(..len).unwrap_or_default());
                Ok(len)
            }
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// The child has ended: ends what it left behind, takes the rest of the output and its exit status.
    fn reap(&mut self) -> End {
        self.signal(Signal::SIGKILL);
        let mut drained = 0_usize;
        while drained < DRAIN_MAX {
            match self.read() {
                Ok(len) if len > 0 => drained = drained.saturating_add(len),
                _ => break,
            }
        }
        match self.child.wait() {
            Ok(status) if status.success() => End::Passed,
            Ok(status) => End::Failed(status),
            Err(error) => End::Broken(error),
        }
    }

    fn signal(&self, signal: Signal) {
        // Nobody left in the group is what we want.
        if let Err(errno) = killpg(self.group, signal)
            && errno != Errno::ESRCH
        {
            log::warn!("send {signal} to process group {}: {errno}", self.group);
        }
    }
}

/// The last [`OUTPUT_MAX`] bytes of a stream.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    fn push(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        let excess = self.bytes.len().saturating_sub(OUTPUT_MAX);
        if excess > 0 {
            self.bytes.drain(..excess);
            self.cut = true;
        }
    }

    fn into_text(self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.cut {
            format!("[...]{text}")
        } else {
            text.into_owned()
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
