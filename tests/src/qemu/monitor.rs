//! QEMU's own view of a machine, for when the guest says nothing any more.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How often, and how far apart, a silent machine is looked at: one that waits stays where it is, one that loops moves.
const SAMPLES: usize = 3;
const APART: Duration = Duration::from_millis(700);
/// The monitor's answers have no end of their own; this long without another byte is taken for one.
const QUIET: Duration = Duration::from_millis(500);

/// A monitor's socket. It lies in the folder for temporary files, since a socket's path holds about a hundred bytes.
#[derive(Debug)]
pub(super) struct Monitor {
    socket: PathBuf,
}

impl Monitor {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tandem-qemu-{}-{number}.sock", process::id());
        Self {
            socket: std::env::temp_dir().join(name),
        }
    }

    /// The value of QEMU's `-monitor`.
    pub fn argument(&self) -> String {
        format!("unix:{},server=on,wait=off", self.socket.display())
    }

    /// Where the processor is, a few times, and what it is about to do.
    ///
    /// # Errors
    /// QEMU doesn't answer.
    pub fn look(&self) -> Result<String> {
        let mut text = String::new();
        for _ in 0..SAMPLES {
            text += &self.ask("info registers\nx/12i $pc\n")?;
            thread::sleep(APART);
        }
        text += &self.ask("info pic\ninfo irq\n")?;
        Ok(text)
    }

    fn ask(&self, commands: &str) -> Result<String> {
        let at = || format!("ask QEMU at {}", self.socket.display());
        let mut stream = UnixStream::connect(&self.socket).with_context(at)?;
        stream.set_read_timeout(Some(QUIET)).with_context(at)?;
        stream.write_all(commands.as_bytes()).with_context(at)?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // Ends with the time-out.
        while let Ok(length) = stream.read(&mut piece) {
            match piece.get(..length) {
                Some(bytes) if length > 0 => answer.extend_from_slice(bytes),
                _ => break,
            }
        }
        Ok(String::from_utf8_lossy(&answer).replace('\r', ""))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // QEMU removes it unless it was killed.
        let _ = std::fs::remove_file(&self.socket);
    }
}
