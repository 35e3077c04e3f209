//! A small HTTP server on the loopback interface, for guests that fetch payloads from the host. It knows ranges, and
//! counts what it sends.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

/// Guests reach the host's loopback interface here (QEMU's user network).
pub const HOST: &str = "10.0.2.2";

/// How often a download that stalls looks around.
const MOMENT: Duration = Duration::from_millis(20);

/// A server that answers every GET with the same file until it is dropped with the process.
#[derive(Debug)]
pub struct Server {
    port: u16,
    offer: Arc<Offer>,
}

#[derive(Debug)]
struct Offer {
    file: Mutex<PathBuf>,
    /// Place in the file from which on nothing more is sent.
    stall_at: AtomicU64,
    /// Place in the file that the latest download has got to.
    sent: AtomicU64,
    total: AtomicU64,
    requests: AtomicU64,
    /// What the latest request asked for.
    asked: Mutex<String>,
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
            total: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            asked: Mutex::new(String::new()),
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

    /// Offers another file from now on, and counts anew.
    pub fn offer(&self, file: impl Into<PathBuf>) {
        *self
            .offer
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = file.into();
        for count in [&self.offer.total, &self.offer.requests] {
            count.store(0, Ordering::SeqCst);
        }
    }

    /// From now on a download stops for good at this place in the file, with the connection left open.
    pub fn stall_at(&self, bytes: u64) {
        self.offer.stall_at.store(bytes, Ordering::SeqCst);
    }

    /// Bytes of the file handed to the network since it was offered.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.offer.total.load(Ordering::SeqCst)
    }

    /// Requests since then.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.offer.requests.load(Ordering::SeqCst)
    }

    /// The place in the file up to which the latest download was handed to the network.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.offer.sent.load(Ordering::SeqCst)
    }

    /// The path that the latest request asked for.
    #[must_use]
    pub fn asked(&self) -> String {
        let asked = self.offer.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The address for the guest.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/payload", self.base())
    }

    /// Where the guest finds what has a path.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// The address on this machine.
    #[must_use]
    pub fn local_url(&self) -> String {
        format!("http://localhost:{}/payload", self.port)
    }
}

fn answer(mut connection: TcpStream, offer: &Offer) -> Result<()> {
    let mut request = BufReader::new(connection.try_clone()?).take(16 << 10);
    let (mut range, mut condition) = (None, None);
    let mut line = String::new();
    request.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default();
    path.clone_into(&mut offer.asked.lock().unwrap_or_else(PoisonError::into_inner));
    line.clear();
    while request.read_line(&mut line)? > 2 {
        let field = line.split_once(':');
        match field.map(|(name, value)| (name.to_ascii_lowercase(), value.trim())) {
            Some((name, value)) if name == "range" => range = parse(value),
            Some((name, value)) if name == "if-range" => condition = Some(value.to_owned()),
            _ => {}
        }
        line.clear();
    }
    let path = offer
        .file
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut file = File::open(&path)?;
    let length = file.metadata()?.len();
    // Each file keeps its name.
    let tag = format!("\"{}\"", blake3::hash(path.as_os_str().as_encoded_bytes()));
    let range = range.filter(|(first, _)| {
        *first < length && condition.as_ref().is_none_or(|known| *known == tag)
    });
    let (start, end) = match range {
        None => (0, length),
        Some((first, last)) => (first, length.min(last.unwrap_or(length).saturating_add(1))),
    };
    match range {
        None => write!(connection, "HTTP/1.0 200 OK\r\n")?,
        Some(_) => write!(
            connection,
            "HTTP/1.0 206 Partial Content\r\nContent-Range: bytes {start}-{}/{length}\r\n",
            end.saturating_sub(1)
        )?,
    }
    write!(
        connection,
        "ETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        end.saturating_sub(start)
    )?;
    offer.requests.fetch_add(1, Ordering::SeqCst);
    offer.sent.store(start, Ordering::SeqCst);
    file.seek(SeekFrom::Start(start))?;
    let mut buffer = vec![0; 64 << 10];
    let mut at = start;
    while at < end {
        let allowed = offer.stall_at.load(Ordering::SeqCst).saturating_sub(at);
        if allowed == 0 {
            if has_gone(&connection)? {
                return Ok(());
            }
            continue;
        }
        let wanted = usize::try_from(allowed.min(end - at))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        file.read_exact(chunk)?;
        connection.write_all(chunk)?;
        at += wanted as u64;
        offer.sent.store(at, Ordering::SeqCst);
        offer.total.fetch_add(wanted as u64, Ordering::SeqCst);
    }
    Ok(())
}

/// Waits a moment for the other side to close. What would be sent to one that has gone still seems to be taken, and would
/// count.
fn has_gone(connection: &TcpStream) -> Result<bool> {
    connection.set_read_timeout(Some(MOMENT))?;
    match connection.peek(&mut [0]) {
        Ok(0) => Ok(true),
        Ok(_) => {
            std::thread::sleep(MOMENT);
            Ok(false)
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(false),
            _ => Ok(true),
        },
    }
}

/// First byte, and the last where it is named.
fn parse(range: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()))
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
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
        connection
            .write_all(b"GET /payload HTTP/1.0\r\nRange: bytes=199990-\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.0 206 "));
        assert!(answer.ends_with(b"\r\n\r\n\x07\x07\x07\x07\x07\x07\x07\x07\x07\x07"));
        assert_eq!((server.total(), server.requests()), (200_010, 2));
    }

    #[test]
    fn a_download_that_nobody_waits_for_does_not_go_on() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 200_000]).unwrap();
        let server = Server::start(file.path()).unwrap();
        server.stall_at(1000);
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port)).unwrap();
        let get = b"GET /payload HTTP/1.0\r\n\r\n";
        connection.write_all(get).unwrap();
        while server.total() < 1000 {
            std::thread::sleep(MOMENT);
        }
        drop(connection);
        std::thread::sleep(10 * MOMENT);
        server.stall_at(u64::MAX);
        std::thread::sleep(10 * MOMENT);
        assert_eq!(server.total(), 1000);
    }
}
