//! `update_engine run`: the service. Each client has a thread, the work under way another one, and so has what the device
//! does by itself.

mod alone;
mod connection;
mod inherited;
mod shared;
mod socket;

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use bootctl::exit::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use self::alone::Device;
use self::connection::{Rights, converse};
use self::shared::Shared;
use super::Failure;
use super::place::Place;
use crate::bus;
use crate::control_socket::{self, Channel, Reply};

/// Clients that may be connected at once, of those that act and of those that look: neither can keep the others out.
const CLIENTS: usize = 16;
/// Longest wait for a client's next request, or for it to take a reply.
const HEARING: Duration = Duration::from_secs(30);
/// Longest wait for the work under way when the service has to end.
const ENDING: Duration = Duration::from_secs(20);
/// How often the lock is tried while a client works in its own process.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The updater of one device.
#[derive(Clone)]
pub struct Service {
    shared: Arc<Shared>,
    acting: Arc<AtomicUsize>,
    looking: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl Service {
    /// Takes over the status of a device.
    ///
    /// # Errors
    /// Another program has it (5); the disk can't be read.
    pub fn open(place: Place) -> Result<Self, Failure> {
        Ok(Self {
            shared: Arc::new(Shared::open(place)?),
            acting: Arc::default(),
            looking: Arc::default(),
        })
    }

    /// A conversation within this machine, whose other side may do everything.
    ///
    /// # Errors
    /// There are no more descriptors or threads.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.spawn(Channel::new(ours), Rights::Act)?;
        Ok(theirs)
    }

    /// What a policy sees of the device, and can do with it.
    #[must_use]
    pub fn device(&self) -> Device {
        Device::new(Arc::clone(&self.shared))
    }

    /// Listens in the folder `run`, in a thread of its own, until this process ends.
    ///
    /// # Errors
    /// The socket can't be made.
    pub fn listen(&self, run: &Path) -> Result<(), Failure> {
        let listener = socket::listen(run)?;
        let service = self.clone();
        thread::Builder::new()
            .name("listen".into())
            .spawn(move || service.accept(&listener))
            .map_err(|error| Failure::failed(format!("start listening: {error}")))?;
        Ok(())
    }

    /// Serves the system bus too, where there is one. It is that of the machine that runs: the service of another disk
    /// has no business there, unless the environment names a bus.
    fn join_bus(&self, place: &Place) {
        if place.disk.is_some() && !bus::is_named() {
            return;
        }
        let service = self.clone();
        if let Err(error) = bus::keep(Arc::new(move || service.connect())) {
            log::warn!("serve the system bus: {error}");
        }
    }

    /// Ends listening in `run`, as far as new clients can tell. For the moment before this process ends.
    pub fn close(&self, run: &Path) {
        let path = control_socket::path(run);
        if let Err(error) = std::fs::remove_file(&path) {
            log::info!("remove {}: {error}", path.display());
        }
    }

    fn accept(&self, listener: &UnixListener) {
        loop {
            let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            // An error shows itself when accepting.
            let _ = poll(&mut polled, PollTimeout::NONE);
            match listener.accept() {
                Ok((stream, _)) => self.welcome(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    log::warn!("accept a client: {error}");
                    sleep(TRY_AGAIN);
                }
            }
        }
    }

    fn welcome(&self, stream: UnixStream) {
        let prepared = stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(HEARING)))
            .and_then(|()| stream.set_write_timeout(Some(HEARING)))
            .and_then(|()| socket::peer(&stream));
        let result = prepared.and_then(|(uid, rights)| {
            log::debug!("a client of user {uid}: {rights:?}");
            self.spawn(Channel::new(stream), rights)
        });
        if let Err(error) = result {
            log::warn!("serve a client: {error}");
        }
    }

    fn spawn(&self, mut channel: Channel, rights: Rights) -> io::Result<()> {
        let counter = match rights {
            Rights::Act => &self.acting,
            Rights::Look => &self.looking,
        };
        let Some(place) = Seat::take(counter) else {
            let text = format!("serve client: {CLIENTS} are connected already");
            // It will see that nobody answers.
            let _ = channel.send(&Reply::from(Failure::new(Exit::Busy, text)), None);
            return Ok(());
        };
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name("client".into())
            .spawn(move || {
                let _place = place;
                converse(&shared, channel, rights);
            })
            .map(drop)
    }
}

/// One of the clients that may be connected at once.
struct Seat(Arc<AtomicUsize>);

impl Seat {
    fn take(counter: &Arc<AtomicUsize>) -> Option<Self> {
        let more = |count: usize| (count < CLIENTS).then(|| count.saturating_add(1));
        counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self(Arc::clone(counter)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the service until SIGTERM or SIGINT. Waits while a client is at work in its own process.
///
/// # Errors
/// The disk can't be read, or the socket not be made.
pub fn run(place: &Place) -> Result<(), Failure> {
    let run = place
        .run
        .as_deref()
        .ok_or_else(|| Failure::new(Exit::Usage, "listen: no folder for the socket is named"))?;
    // Blocked before there is another thread, so that all of them leave the signals to this one.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    let failed = |errno: nix::Error| Failure::failed(format!("wait for signals: {errno}"));
    signals.thread_block().map_err(failed)?;
    let told = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).map_err(failed)?;
    let Some(service) = open(place, &told)? else {
        return Ok(());
    };
    service.listen(run)?;
    service.join_bus(place);
    // A disk that does not run is changed only when somebody asks for it.
    if place.disk.is_none() {
        alone::start(&service.shared)?;
    }
    log::info!("listening in {}", run.display());
    let signal = told.read_signal().map_err(failed)?;
    log::info!("ending, told by signal {signal:?}");
    service.close(run);
    service.shared.stop(ENDING);
    Ok(())
}

/// `None` if a signal came first.
fn open(place: &Place, told: &SignalFd) -> Result<Option<Service>, Failure> {
    let patience = PollTimeout::try_from(TRY_AGAIN).unwrap_or(PollTimeout::ZERO);
    loop {
        match Service::open(place.clone()) {
            Ok(service) => return Ok(Some(service)),
            Err(failure) if failure.exit == Exit::Busy => {
                log::info!("{failure}; waiting for it to end");
            }
            Err(failure) => return Err(failure),
        }
        let mut polled = [PollFd::new(told.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, patience).is_ok_and(|ready| ready > 0) {
            return Ok(None);
        }
    }
}
