//! The service's side of the bridge: starts it, gives it the status, and does what it asks for.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use bootctl::exit::Exit;

use super::{Answer, Call, News, PROGRAM, Verb};
use crate::control_socket::{Channel, LineError, Reply, Request, Wish};
use crate::service::status::Status;
use crate::unprivileged::{Process, Role};

/// Opens a conversation with the service, whose other side may do everything.
pub type Connect = Arc<dyn Fn() -> io::Result<UnixStream> + Send + Sync>;

/// Where the environment may name the bus, and where it is otherwise.
const ADDRESS: &str = "DBUS_SYSTEM_BUS_ADDRESS";
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// The user of the bridge, who alone may have the name on the bus.
const USER: &str = "tandem-bus";
/// Calls that may be under way at once.
const CALLS: usize = 8;
/// Before the bridge is started again; doubles as long as it does not live.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How often a bus that is not there is looked for.
const LOOK: Duration = Duration::from_secs(10);
/// A bridge that lived so long was all right.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// Longest wait for the bridge to take what it is sent.
const HEARING: Duration = Duration::from_secs(30);
/// Between two statuses that differ in counts only: the bus is not there for progress bars.
const PACE: Duration = Duration::from_millis(500);

/// Whether the environment names a bus. The system's is for the updater of the machine that runs, and for no other disk.
#[must_use]
pub fn is_named() -> bool {
    std::env::var_os(ADDRESS).is_some()
}

/// Keeps a bridge to the system bus for as long as this process runs. Without a bus, or without the right to its name,
/// there is none, which is logged and tried again; neither is there without the program for it.
///
/// # Errors
/// No thread can be started.
pub fn keep(connect: Connect) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("bus".into()).spawn(move || {
        let program = std::env::current_exe().unwrap_or_default();
        let program = program.with_file_name(PROGRAM);
        let socket = socket_of(std::env::var_os(ADDRESS));
        let mut wait = FIRST_WAIT;
        loop {
            wait_for(Some(&program));
            wait_for(socket.as_deref());
            let began = Instant::now();
            match serve(&program, &connect) {
                Ok(()) => log::info!("serve the system bus: the bridge ended"),
                Err(error) => log::warn!("serve the system bus: {error}"),
            }
            if began.elapsed() >= GOOD_LIFE {
                wait = FIRST_WAIT;
            }
            sleep(wait);
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    })
}

/// The file that is there when the bus is, where its address names one.
fn socket_of(address: Option<OsString>) -> Option<PathBuf> {
    let Some(address) = address else {
        return Some(SOCKET.into());
    };
    let path = address.to_str()?.strip_prefix("unix:path=")?;
    // Other addresses, more of them, or escaped bytes: then it is simply tried.
    let is_plain = !path.contains([',', ';', '%']);
    is_plain.then(|| path.into())
}

fn wait_for(file: Option<&Path>) {
    let Some(file) = file else { return };
    if file.exists() {
        return;
    }
    log::info!("serve the system bus: there is no {}", file.display());
    while !file.exists() {
        sleep(LOOK);
    }
}

/// Runs one bridge until it ends.
fn serve(program: &Path, connect: &Connect) -> io::Result<()> {
    let process = Process::start(&Role {
        program: Some(program),
        words: (PROGRAM, &[]),
        user: USER,
        or_nobody: true,
        variables: &[ADDRESS],
    })?;
    process.socket.set_write_timeout(Some(HEARING))?;
    talk(&process.socket, connect)
}

/// Talks with a bridge until one side has enough.
fn talk(socket: &UnixStream, connect: &Connect) -> io::Result<()> {
    let service = connect()?;
    let streams = [socket.try_clone()?, service.try_clone()?];
    let bridge = Bridge {
        out: Arc::new(Mutex::new(Channel::new(socket.try_clone()?))),
        connect: Arc::clone(connect),
        calls: Arc::default(),
    };
    let watching = bridge.clone();
    thread::Builder::new()
        .name("bus-status".into())
        .spawn(move || watching.watch(Channel::new(service)))?;
    let result = bridge.listen(Channel::new(socket.try_clone()?));
    for stream in streams {
        // Whoever still waits at one of them hears of the end. It fails only if the other side is gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    result
}

/// Our end of a running bridge.
#[derive(Clone)]
struct Bridge {
    out: Arc<Mutex<Channel>>,
    connect: Connect,
    calls: Arc<AtomicUsize>,
}

impl Bridge {
    fn send(&self, news: &News) -> io::Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.send(news, None)
    }

    /// Takes calls until the bridge ends or says something that is none.
    fn listen(&self, mut calls: Channel) -> io::Result<()> {
        loop {
            match calls.receive::<Call>() {
                Ok(call) => self.take(call)?,
                Err(LineError::Closed) => return Ok(()),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Tells the bridge each change of the status, and hangs up on it when that is over.
    fn watch(&self, service: Channel) {
        let result = self.tell_changes(service);
        log::debug!("tell the bus of the status: {result:?}");
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails only if the bridge is gone already.
        let _ = out.stream().shutdown(Shutdown::Both);
    }

    fn tell_changes(&self, mut service: Channel) -> io::Result<()> {
        service.send(&Request::Watch, None)?;
        let mut told: Option<(Status, Instant)> = None;
        // Not told yet, because the last one was so short a while ago.
        let mut held: Option<Status> = None;
        loop {
            let patience = held.is_some().then_some(PACE);
            service.stream().set_read_timeout(patience)?;
            match service.receive() {
                Ok(Reply::Status(status)) => held = Some(status),
                Ok(Reply::Done(_) | Reply::Failed(_)) => return Ok(()),
                Err(LineError::Io(error)) if is_timeout(&error) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
            let Some(status) = held.take() else { continue };
            let too_soon = told.as_ref().is_some_and(|(told, when)| {
                status.differs_in_counts_only(told) && when.elapsed() < PACE
            });
            if too_soon {
                held = Some(status);
            } else {
                self.send(&News::Status(status.clone()))?;
                told = Some((status, Instant::now()));
            }
        }
    }

    /// Answers a call, from a thread of its own.
    fn take(&self, call: Call) -> io::Result<()> {
        let Call { id, verb } = call;
        if self.calls.fetch_add(1, Ordering::SeqCst) >= CALLS {
            self.calls.fetch_sub(1, Ordering::SeqCst);
            let text = format!("serve the bus: {CALLS} calls are under way");
            let answer = Err((Exit::Busy.code(), text));
            return self.send(&News::Answer { id, answer });
        }
        let bridge = self.clone();
        thread::Builder::new()
            .name("bus-call".into())
            .spawn(move || {
                bridge.answer(id, verb);
                bridge.calls.fetch_sub(1, Ordering::SeqCst);
            })
            .map(drop)
    }

    fn answer(&self, id: u64, verb: Verb) {
        let mut answered = false;
        let result = self.ask(verb, &mut |answer| {
            answered = true;
            self.send(&News::Answer { id, answer })
        });
        if let (Err(error), false) = (result, answered) {
            let text = format!("ask the service: {error}");
            let answer = Err((Exit::Failed.code(), text));
            // Nobody is there to hear it.
            let _ = self.send(&News::Answer { id, answer });
        }
    }

    /// Asks the service. An update is answered when it has begun, everything else when it has ended.
    fn ask(
        &self,
        verb: Verb,
        answer: &mut dyn FnMut(Answer) -> io::Result<()>,
    ) -> Result<(), LineError> {
        let request = match verb {
            Verb::Attempt => Request::Update(Wish::default()),
            Verb::Check => Request::Check(Wish::default()),
            Verb::Reset => Request::Reset,
            Verb::Cancel => Request::Cancel,
            Verb::Rollback => Request::Rollback,
        };
        let mut service = Channel::new((self.connect)()?);
        service.send(&request, None)?;
        let mut has_begun = false;
        loop {
            match service.receive()? {
                Reply::Status(_) if verb == Verb::Attempt && !has_begun => {
                    has_begun = true;
                    answer(Ok(String::new()))?;
                }
                Reply::Status(_) => {}
                Reply::Done(done) if !has_begun => return Ok(answer(Ok(done.text))?),
                Reply::Failed(failed) if !has_begun => {
                    return Ok(answer(Err((failed.exit, failed.text)))?);
                }
                Reply::Done(_) | Reply::Failed(_) => return Ok(()),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
