//! The serial port of a machine: a reader thread, the text so far and a position in it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};

#[derive(Debug)]
pub(super) struct Serial {
    input: ChildStdin,
    chunks: Receiver<Vec<u8>>,
    log: File,
    text: String,
    /// Bytes that end in the middle of a character.
    partial: Vec<u8>,
    consumed: usize,
    closed: bool,
}

impl Serial {
    pub(super) fn attach(child: &mut Child, log: File) -> Result<Self> {
        let input = child
            .stdin
            .take()
            .context("attach to the serial port: no input")?;
        let mut output = child
            .stdout
            .take()
            .context("attach to the serial port: no output")?;
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if sender
                    .send(buffer.get(..count).unwrap_or_default().to_vec())
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            input,
            chunks,
            log,
            text: String::new(),
            partial: Vec::new(),
            consumed: 0,
            closed: false,
        })
    }

    /// Waits at most `timeout` for more output; true when some came.
    pub(super) fn receive(&mut self, timeout: Duration) -> bool {
        match self.chunks.recv_timeout(timeout) {
            Ok(chunk) => {
                self.accept(&chunk);
                true
            }
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                self.closed = true;
                // Callers may poll a machine that has already gone.
                std::thread::sleep(timeout.min(Duration::from_millis(10)));
                false
            }
        }
    }

    /// Takes what is still under way after the machine has stopped.
    pub(super) fn drain(&mut self) {
        while let Ok(chunk) = self.chunks.recv() {
            self.accept(&chunk);
        }
        self.closed = true;
    }

    fn accept(&mut self, chunk: &[u8]) {
        // The log is for people who look for the cause of a failure; a full disk shows elsewhere.
        let _ = self.log.write_all(chunk);
        self.partial.extend_from_slice(chunk);
        let complete = match std::str::from_utf8(&self.partial) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.partial.len(),
        };
        let rest = self.partial.split_off(complete);
        self.text.push_str(&String::from_utf8_lossy(&self.partial));
        self.partial = rest;
    }

    /// The earliest of `needles` in what is not consumed yet: its index and the text up to its end, which is consumed.
    pub(super) fn take_through(&mut self, needles: &[&str]) -> Option<(usize, String)> {
        let fresh = self.text.get(self.consumed..)?;
        let found = needles
            .iter()
            .enumerate()
            .filter_map(|(index, needle)| Some((fresh.find(needle)?, index, needle.len())))
            .min()?;
        let (start, index, length) = found;
        let taken = fresh.get(..start + length)?.to_owned();
        self.consumed += taken.len();
        Some((index, taken))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.input
            .write_all(bytes)
            .and_then(|()| self.input.flush())
            .context("type at the guest: the machine is gone")
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn closed(&self) -> bool {
        self.closed
    }
}
