//! A disk image with the folders of its service, and programs that work on it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::fixture::{Disk, Outcome, Program, lab};

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Says of a test, which `does` something that only root may do, why it can't run.
#[track_caller]
pub fn needs_root(does: &str) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test {does}, so it needs root, as CI has it"
    );
}

pub struct Device {
    pub disk: Disk,
    /// Journal, history, status, lock and socket.
    pub state: PathBuf,
}

impl Drop for Device {
    fn drop(&mut self) {
        // There is nothing that could be done about it.
        let _ = fs::remove_dir_all(&self.state);
    }
}

impl Device {
    /// Slot B unbootable.
    pub fn single() -> Self {
        Self::with(Disk::single())
    }

    /// Both slots confirmed.
    pub fn both() -> Self {
        Self::with(Disk::both())
    }

    fn with(disk: Disk) -> Self {
        Self::at(disk, lab().path("state"))
    }

    /// With its folder at a path of one's own.
    pub fn at(disk: Disk, state: PathBuf) -> Self {
        fs::create_dir(&state).unwrap();
        Self { disk, state }
    }

    pub fn payload(&self) -> String {
        let path = self.state.join("good.payload");
        fs::write(&path, &lab().good).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Where its settings are, if there are any.
    pub fn root(&self) -> PathBuf {
        self.state.join("root")
    }

    pub fn configure(&self, settings: &str) {
        let folder = self.root().join("etc/tandem");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("update.conf"), settings).unwrap();
    }

    pub fn arguments(&self, line: &str) -> Vec<String> {
        let keys = lab().keys();
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        for (flag, value) in [
            ("--disk", self.disk.path()),
            ("--keys", keys.to_str().unwrap()),
            ("--state", self.state.to_str().unwrap()),
            ("--root", self.root().to_str().unwrap()),
        ] {
            words.extend([flag.to_owned(), value.to_owned()]);
        }
        words
    }

    /// Runs the client with these words of its command line.
    pub fn client(&self, line: &str) -> Outcome {
        self.client_with(line, b"")
    }

    pub fn client_with(&self, line: &str, input: &[u8]) -> Outcome {
        let mut command = Program::Client.command();
        Program::Client.finish(command.args(self.arguments(line)), input)
    }

    /// Starts the client, with a pipe to its standard input.
    pub fn start_client(&self, line: &str) -> (Child, ChildStdin) {
        let mut child = Program::Client
            .command_after(":")
            .args(self.arguments(line))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        (child, input)
    }

    /// What `-status` prints.
    #[track_caller]
    pub fn status(&self) -> BTreeMap<String, String> {
        let outcome = self.client("-status");
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        outcome
            .stdout
            .lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    }

    /// The operation that the status names, without what all of them begin with.
    #[track_caller]
    pub fn operation(&self) -> String {
        let status = self.status();
        let operation = status["CURRENT_OP"].strip_prefix("UPDATE_STATUS_");
        operation.unwrap().to_owned()
    }

    /// Waits until the status names this operation.
    #[track_caller]
    pub fn wait_for(&self, operation: &str) {
        let start = Instant::now();
        loop {
            let found = self.operation();
            if found == operation {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{found} stays");
            sleep(Duration::from_millis(50));
        }
    }

    /// Starts the service and waits until it listens.
    #[track_caller]
    pub fn serve(&self) -> Service {
        self.serve_with(&[])
    }

    /// With these variables in its environment.
    #[track_caller]
    pub fn serve_with(&self, variables: &[(&str, &str)]) -> Service {
        let child = Program::UpdateEngine
            .command_after(":")
            .args(self.arguments("run"))
            .env_remove("DBUS_SYSTEM_BUS_ADDRESS")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut service = Service(child);
        let start = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            let ended = service.0.try_wait().unwrap();
            assert!(ended.is_none(), "the service ended: {ended:?}");
            assert!(start.elapsed() < PATIENCE, "the service does not listen");
            sleep(Duration::from_millis(20));
        }
        service
    }

    pub fn socket(&self) -> PathBuf {
        self.state.join("control.sock")
    }
}

/// A service that runs; killed when dropped.
pub struct Service(pub Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let process = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        self.0.wait().unwrap().code()
    }
}

/// Gives a program that reads its payload from a pipe the first half of it.
pub fn feed_half(input: &mut ChildStdin) {
    let (half, _) = lab().good.split_at(lab().good.len() / 2);
    input.write_all(half).unwrap();
}

/// And the rest, with the end.
pub fn feed_rest(mut input: ChildStdin) {
    let (_, rest) = lab().good.split_at(lab().good.len() / 2);
    input.write_all(rest).unwrap();
}
