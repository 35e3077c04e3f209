//! The process that talks to the network. It has no privileges, one socket, and nothing to lose.

mod agent;
mod answer;
mod download;
mod explain;
mod pace;
mod proxy;
mod redirect;
mod retry;

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::wire;
use crate::unprivileged::{Limits, confine};

/// Several times what a download needs.
const LIMITS: Limits = Limits {
    memory: 192 << 20,
    files: 64,
};
/// The request is sent right after the start.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// Serves one request from standard input, which must be a socket, and ends.
///
/// # Errors
/// The socket is none, or the other side went away, which leaves nobody to tell.
pub fn run() -> io::Result<()> {
    let mut socket = confine(c"tandem-fetch", LIMITS)?;
    socket.set_read_timeout(Some(REQUEST_PATIENCE))?;
    let request = wire::receive_request(&mut socket)?;
    socket.set_read_timeout(None)?;
    let watched = socket.try_clone()?;
    std::thread::spawn(move || end_with(watched));
    download::run(&request, &mut socket)
}

/// Ends this process when the other side closes the socket, whatever the network does.
fn end_with(mut socket: UnixStream) {
    // Nothing is sent any more: whatever comes is the end.
    let _ = socket.read(&mut [0]);
    std::process::exit(0);
}
