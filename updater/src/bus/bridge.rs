//! The process that is on the system bus.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use zbus::connection::Builder;

use super::interfaces::{Details, Manager};
use super::{Answer, Call, NAME, News, PATH, Verb};
use crate::control_socket::Channel;
use crate::service::status::Status;
use crate::unprivileged::{Limits, confine};

const LIMITS: Limits = Limits {
    memory: 96 << 20,
    files: 32,
};
/// The first status comes right after the start.
const FIRST_STATUS: Duration = Duration::from_secs(30);
/// Calls that may wait for an answer; the bus has a limit of its own for each caller.
const WAITING: usize = 64;
/// Changes of the status that wait to be signalled.
const CHANGES: usize = 64;

/// Serves the system bus, with the service on standard input, until one of them goes away.
///
/// # Errors
/// One of them can't be reached, or the bus does not let us have the name.
pub fn run() -> io::Result<()> {
    let socket = confine(c"tandem-bus", LIMITS)?;
    socket.set_read_timeout(Some(FIRST_STATUS))?;
    let mut incoming = Channel::new(socket.try_clone()?);
    let first = match incoming.receive().map_err(io::Error::other)? {
        News::Status(status) => status,
        News::Answer { .. } => return Err(io::Error::other("the service answers unasked")),
    };
    socket.set_read_timeout(None)?;
    let service = Service::new(socket, first);
    let listening = service.clone();
    std::thread::Builder::new()
        .name("listen".into())
        .spawn(move || listening.listen(incoming))?;
    zbus::block_on(serve(service)).map_err(io::Error::other)
}

async fn serve(service: Service) -> zbus::Result<()> {
    let connection = Builder::system()
        .serve_at(PATH, Manager::new(service.clone()))
        .serve_at(PATH, Details::new(service.clone()))
        .allow_name_replacements(false)
        .name(NAME)
        .build()
        .await?;
    let mut closed = pin!(connection.closed());
    loop {
        let mut change = pin!(service.next_change());
        let status = poll_fn(|context| {
            if closed.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            change.as_mut().poll(context).map(Some)
        });
        let Some(status) = status.await else {
            return Ok(());
        };
        Manager::signal(&connection, &status).await?;
        Details::signal(&connection, &status).await?;
    }
}

/// The service, as the interfaces see it.
#[derive(Clone)]
pub struct Service(Arc<Mutex<State>>);

struct State {
    out: Channel,
    status: Status,
    /// Not signalled yet, oldest first.
    changes: VecDeque<Status>,
    /// Whoever waits for a change.
    waker: Option<Waker>,
    last_id: u64,
    calls: HashMap<u64, Waiting>,
}

#[derive(Default)]
struct Waiting {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

impl Service {
    fn new(socket: UnixStream, status: Status) -> Self {
        Self(Arc::new(Mutex::new(State {
            out: Channel::new(socket),
            status,
            changes: VecDeque::new(),
            waker: None,
            last_id: 0,
            calls: HashMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn status(&self) -> Status {
        self.lock().status.clone()
    }

    /// Asks the service for something and waits for what comes of it.
    pub async fn ask(&self, verb: Verb) -> Answer {
        let id = self.begin(verb)?;
        let asked = Asked { service: self, id };
        poll_fn(|context| {
            let mut state = asked.service.lock();
            let Some(waiting) = state.calls.get_mut(&asked.id) else {
                return Poll::Ready(Err(failed("the call is lost")));
            };
            match waiting.answer.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    waiting.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn begin(&self, verb: Verb) -> Result<u64, (u8, String)> {
        let mut state = self.lock();
        if state.calls.len() >= WAITING {
            return Err(failed("too many calls are waiting"));
        }
        state.last_id = state.last_id.wrapping_add(1);
        let id = state.last_id;
        state
            .out
            .send(&Call { id, verb }, None)
            .map_err(|error| failed(&error.to_string()))?;
        state.calls.insert(id, Waiting::default());
        Ok(id)
    }

    /// The next change that was not signalled yet.
    async fn next_change(&self) -> Status {
        poll_fn(|context| {
            let mut state = self.lock();
            match state.changes.pop_front() {
                Some(status) => Poll::Ready(status),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Takes what the service says, and ends this process when it hangs up, whatever the bus does.
    fn listen(&self, mut incoming: Channel) {
        let error = loop {
            match incoming.receive() {
                Ok(news) => self.take(news),
                Err(error) => break error,
            }
        };
        log::debug!("listen to the service: {error}");
        std::process::exit(0);
    }

    fn take(&self, news: News) {
        let mut state = self.lock();
        let waker = match news {
            News::Status(status) => {
                state.remember(status);
                state.waker.take()
            }
            News::Answer { id, answer } => state.calls.get_mut(&id).and_then(|waiting| {
                waiting.answer = Some(answer);
                waiting.waker.take()
            }),
        };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl State {
    fn remember(&mut self, status: Status) {
        let replaces = |last: &Status| status.differs_in_counts_only(last);
        if self.changes.back().is_some_and(replaces) {
            self.changes.pop_back();
        } else if self.changes.len() >= CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(status.clone());
        self.status = status;
    }
}

/// A call that waits; nothing of it is left behind when its caller goes away.
struct Asked<'s> {
    service: &'s Service,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.service.lock().calls.remove(&self.id);
    }
}

fn failed(text: &str) -> (u8, String) {
    let code = bootctl::exit::Exit::Failed.code();
    (code, format!("ask the service: {text}"))
}
