//! One conversation with a client.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use bootctl::exit::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::shared::{Shared, View};
use crate::control_socket::{Channel, Done, LineError, Reply, Request, Wish};
use crate::service::Failure;
use crate::service::find::Finder;
use crate::service::work::Job;

/// How often a watcher that hears nothing is looked after: it may have gone.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// Shortest time between two reports of progress.
const BETWEEN: Duration = Duration::from_millis(100);
/// Longest wait for a piece of work that was told to stop; its source may take long to give the next block.
const STOPPING: Duration = Duration::from_secs(60);

/// What the other side may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rights {
    Act,
    Look,
}

/// Answers requests until the other side has had enough, or says something that is none.
pub(super) fn converse(shared: &Arc<Shared>, mut channel: Channel, rights: Rights) {
    loop {
        let reply = match channel.receive::<Request>() {
            Ok(request) => {
                let descriptor = channel.take_descriptor();
                answer(shared, &mut channel, rights, request, descriptor)
            }
            Err(LineError::Closed) => return,
            Err(LineError::Io(error)) => {
                let text = match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => "nothing came in time".into(),
                    _ => error.to_string(),
                };
                log::debug!("hear a client: {text}");
                return;
            }
            Err(error) => {
                let text = format!("understand request: {error}");
                let reply = Reply::from(Failure::new(Exit::Usage, text));
                // What follows is not to be trusted to begin at a line.
                let _ = channel.send(&reply, None);
                return;
            }
        };
        if let Some(reply) = reply
            && channel.send(&reply, None).is_ok()
        {
            continue;
        }
        return;
    }
}

/// The last reply to a request; `None` if the client has gone.
fn answer(
    shared: &Arc<Shared>,
    channel: &mut Channel,
    rights: Rights,
    request: Request,
    descriptor: Option<OwnedFd>,
) -> Option<Reply> {
    if rights == Rights::Look && !request.only_looks() {
        let text = "act on request: only root may";
        return Some(Failure::new(Exit::Refused, text).into());
    }
    let result = match request {
        Request::Status => {
            let (status, _) = shared.status();
            channel.send(&Reply::Status(status), None).ok()?;
            Ok(Done::default())
        }
        Request::Watch => watch(shared, channel, |_| None)?,
        Request::Follow => match shared.wait(0, Duration::ZERO).work {
            Some(work) => watch(shared, channel, |view| view.end_of(work))?,
            None => {
                let text = "follow update: none is under way";
                Err(Failure::new(Exit::NoUpdate, text))
            }
        },
        Request::Check(wish) => start(shared, channel, true, wish, descriptor)?,
        Request::Update(wish) => start(shared, channel, false, wish, descriptor)?,
        Request::Cancel => shared.cancel(STOPPING),
        Request::Rollback => shared.roll_back(),
        Request::Reset => shared.reset(),
    };
    Some(match result {
        Ok(done) => Reply::Done(done),
        Err(failure) => failure.into(),
    })
}

fn start(
    shared: &Arc<Shared>,
    channel: &mut Channel,
    check: bool,
    wish: Wish,
    descriptor: Option<OwnedFd>,
) -> Option<Result<Done, Failure>> {
    let job = Job {
        check,
        force: wish.force,
        unasked: false,
    };
    let started = shared.start(job, Finder::Asked(wish.payload, descriptor));
    match started {
        Ok(work) => watch(shared, channel, |view| view.end_of(work)),
        Err(failure) => Some(Err(failure)),
    }
}

/// Sends every change until `end` gives a result; `None` if the client has gone first, which ends nothing else.
fn watch(
    shared: &Shared,
    channel: &mut Channel,
    end: impl Fn(&View) -> Option<Result<Done, Failure>>,
) -> Option<Result<Done, Failure>> {
    let mut seen = 0;
    loop {
        let view = shared.wait(seen, LOOK_AFTER);
        for status in &view.changes {
            channel
                .send(&Reply::Status(status.clone()), None)
                .inspect_err(|error| log::debug!("tell a client: {error}"))
                .ok()?;
        }
        if let Some(result) = end(&view) {
            return Some(result);
        }
        if has_gone(channel) {
            return None;
        }
        seen = view.revision;
        sleep(BETWEEN);
    }
}

impl View {
    /// How this piece of work ended, if it has.
    fn end_of(&self, work: u64) -> Option<Result<Done, Failure>> {
        match &self.ended {
            Some((number, end)) if *number == work => Some(end.clone()),
            // Another one has ended since; nobody kept how this one did.
            Some((number, _)) if *number > work => Some(Err(Failure::failed(
                "follow update: it has ended, and another one since; see -history",
            ))),
            _ => None,
        }
    }
}

fn has_gone(channel: &Channel) -> bool {
    let socket = channel.stream().as_fd();
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(0) | Err(_) => false,
        Ok(_) => polled
            .iter()
            .any(|polled| polled.revents().is_some_and(|flags| flags.intersects(gone))),
    }
}
