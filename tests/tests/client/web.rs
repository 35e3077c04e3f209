//! A web server with one file, which behaves as a test wants and remembers what it was asked and what it sent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use crate::device::PATIENCE;

/// How it answers.
#[derive(Clone)]
pub struct Manner {
    pub file: Arc<Vec<u8>>,
    pub etag: Option<&'static str>,
    /// It knows ranges.
    pub ranges: bool,
    /// Bytes of a body after which the connection is cut.
    pub cut: Option<usize>,
    /// Place in the file from which on nothing comes any more, though the connection stays.
    pub stall: Option<usize>,
    /// In place of everything else.
    pub refusal: Option<&'static str>,
}

/// One request, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Hit {
    pub path: String,
    pub range: Option<String>,
    /// Place in the file of the first byte that was sent, and how many were.
    pub first: usize,
    pub sent: usize,
}

pub struct Web {
    port: u16,
    manner: Arc<Mutex<Manner>>,
    hits: Arc<Mutex<Vec<Hit>>>,
}

impl Web {
    /// A good server.
    pub fn start(file: &[u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let web = Self {
            port: listener.local_addr().unwrap().port(),
            manner: Arc::new(Mutex::new(Manner {
                file: Arc::new(file.to_vec()),
                etag: Some("\"one\""),
                ranges: true,
                cut: None,
                stall: None,
                refusal: None,
            })),
            hits: Arc::default(),
        };
        let (manner, hits) = (Arc::clone(&web.manner), Arc::clone(&web.hits));
        spawn(move || {
            for connection in listener.incoming().flatten() {
                let manner = manner.lock().unwrap().clone();
                let hits = Arc::clone(&hits);
                // Clients that hang up are part of these tests.
                spawn(move || drop(answer(&connection, &manner, &hits)));
            }
        });
        web
    }

    /// From the next request on.
    pub fn behave(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap());
    }

    pub fn base(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("{}/a.payload", self.base())
    }

    pub fn hits(&self) -> Vec<Hit> {
        self.hits.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.hits.lock().unwrap().clear();
    }

    pub fn sent(&self) -> usize {
        self.hits().iter().map(|hit| hit.sent).sum()
    }

    /// Waits until so many bytes were sent.
    #[track_caller]
    pub fn wait_for(&self, sent: usize) {
        let start = std::time::Instant::now();
        while self.sent() < sent {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.hits());
            sleep(Duration::from_millis(20));
        }
    }

    /// Bytes of the file that were sent more than once.
    pub fn twice(&self) -> usize {
        let mut hits = self.hits();
        hits.sort_by_key(|hit| hit.first);
        let mut end = 0;
        let mut once = 0;
        for hit in &hits {
            let last = hit.first + hit.sent;
            once += last.saturating_sub(end.max(hit.first));
            end = end.max(last);
        }
        self.sent() - once
    }
}

fn answer(connection: &TcpStream, manner: &Manner, hits: &Mutex<Vec<Hit>>) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(connection).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap();
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| {
        let found = headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.clone())
    };
    let range = header("range");
    let same = header("if-range").is_none_or(|tag| Some(tag.as_str()) == manner.etag);
    let total = manner.file.len();
    let wanted = range.as_deref().filter(|_| same && manner.ranges);
    let (start, end) = wanted.map_or((0, total), |range| span(range, total));
    let number = {
        let mut hits = hits.lock().unwrap();
        hits.push(Hit {
            path,
            range: range.clone(),
            first: start,
            sent: 0,
        });
        hits.len() - 1
    };
    let mut out = connection;
    if let Some(refusal) = manner.refusal {
        return write!(out, "HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n");
    }
    if start >= total {
        return write!(
            out,
            "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
        );
    }
    match wanted {
        Some(_) => write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{total}\r\n",
            end - 1
        )?,
        None => write!(out, "HTTP/1.1 200 OK\r\n")?,
    }
    if let Some(etag) = manner.etag {
        write!(out, "ETag: {etag}\r\n")?;
    }
    write!(out, "Content-Length: {}\r\n\r\n", end - start)?;
    let cut = manner.cut.map_or(end, |cut| end.min(start + cut));
    let last = manner.stall.map_or(cut, |stall| cut.min(stall.max(start)));
    for piece in manner.file[start..last].chunks(16 << 10) {
        out.write_all(piece)?;
        hits.lock().unwrap()[number].sent += piece.len();
    }
    if last < cut {
        // Until the client hangs up.
        while out.read(&mut [0; 512])? > 0 {}
    }
    connection.shutdown(Shutdown::Write)
}

fn span(range: &str, total: usize) -> (usize, usize) {
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let end = last
        .parse()
        .map_or(total, |last: usize| total.min(last + 1));
    (first.parse().unwrap(), end)
}
