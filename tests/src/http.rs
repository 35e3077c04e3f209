//! A small HTTP server on the loopback interface, for guests that fetch payloads from the host.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// Guests reach the host's loopback interface here (QEMU's user network).
pub const HOST: &str = "10.0.2.2";

/// A server that answers every GET with the same file until it is dropped with the process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    offer: Arc<Offer>,
}

#[derive(Debug)]
struct Offer {
    file: Mutex<PathBuf>,
    /// The connection stalls after so many bytes of the file.
    stall_at: AtomicU64,
    sent: AtomicU64,
}

impl Server {
    /// Starts serving `file` on a free port.
    ///
    /// # Errors
    /// No port.
    pub fn start(file: impl Into<PathBuf>) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("start a server: bind a port")?;
        let port = listener
            .local_addr()
            .context("start a server: find its port")?
            .port();
        let offer = Arc::new(Offer {
            file: Mutex::new(file.into()),
            stall_at: AtomicU64::new(u64::MAX),
            sent: AtomicU64::new(0),
        });
        let shared = Arc::clone(&offer);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A guest whose power is cut breaks its connection; the next request stands on its own.
                std::thread::spawn(move || drop(answer(connection, &shared)));
            }
        });
        Ok(Self { port, offer })
    }

    /// Offers another file from now on.
    pub fn offer(&self, file: impl Into<PathBuf>) {
        *self
            .offer
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = file.into();
    }

    /// From now on a download stops for good after `bytes`, with the connection left open.
    pub fn stall_at(&self, bytes: u64) {
        self.offer.stall_at.store(bytes, Ordering::SeqCst);
    }

    /// Bytes of the file handed to the network during the latest download.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.offer.sent.load(Ordering::SeqCst)
    }

    /// The address for the guest.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{HOST}:{}/payload", self.port)
    }
}

fn answer(mut connection: TcpStream, offer: &Offer) -> Result<()> {
    let mut request = BufReader::new(connection.try_clone()?).take(16 << 10);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = offer
        .file
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    write!(
        connection,
        "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    offer.sent.store(0, Ordering::SeqCst);
    let mut buffer = vec![0; 64 << 10];
    let mut left = length;
    while left > 0 {
        let sent = offer.sent.load(Ordering::SeqCst);
        let allowed = offer.stall_at.load(Ordering::SeqCst).saturating_sub(sent);
        if allowed == 0 {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let wanted = usize::try_from(allowed.min(left))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact(chunk)?;
        connection.write_all(chunk)?;
        offer.sent.fetch_add(wanted as u64, Ordering::SeqCst);
        left -= wanted as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; 200_000]).unwrap();
        let server = Server::start(&path).unwrap();
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
        connection
            .write_all(b"GET /payload HTTP/1.0\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n"));
        assert!(answer.ends_with(&vec![7; 200_000]));
        assert_eq!(server.sent(), 200_000);
    }
}
