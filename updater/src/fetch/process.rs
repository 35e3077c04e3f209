//! Starting the process that talks to the network.

use std::io;

use super::options::FetchOptions;
use super::wire::{self, Request};
use crate::unprivileged::{Process, Role};

/// The hidden verb of our programs that runs the download process.
pub const VERB: &str = "fetch";

/// Starts the process and hands it the request.
pub fn start(options: &FetchOptions, request: &Request) -> io::Result<Process> {
    let mut process = Process::start(&Role {
        program: options.program.as_deref(),
        words: ("update_engine", &[VERB]),
        user: "tandem-fetch",
        or_nobody: true,
        variables: &[],
    })?;
    let silence = options.patience.silence();
    process.socket.set_read_timeout(Some(silence))?;
    process.socket.set_write_timeout(Some(silence))?;
    wire::send_request(&mut process.socket, request)?;
    Ok(process)
}
