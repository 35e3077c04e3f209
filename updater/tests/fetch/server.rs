//! A web server that behaves as it is told, over plain TCP or TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::{Authority, Pair};

/// One request, as the server saw it.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub line: String,
    pub headers: Vec<(String, String)>,
    /// Which request it is, from 0.
    pub number: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap()
    }

    /// First byte, and the last if there is one.
    pub fn range(&self) -> Option<(usize, Option<usize>)> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        let (first, last) = range.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().ok()))
    }
}

pub trait Link: Read + Write {}
impl<T: Read + Write> Link for T {}

type Behaviour = dyn Fn(&Request, &mut dyn Link) -> io::Result<()> + Send + Sync;

/// Runs until the tests end.
pub struct Server {
    port: u16,
    scheme: &'static str,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn plain(
        behave: impl Fn(&Request, &mut dyn Link) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(behave))
    }

    pub fn tls(
        config: ServerConfig,
        behave: impl Fn(&Request, &mut dyn Link) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(Arc::new(config)), Arc::new(behave))
    }

    fn start(tls: Option<Arc<ServerConfig>>, behave: Arc<Behaviour>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            scheme: if tls.is_some() { "https" } else { "http" },
            requests: Arc::default(),
        };
        let requests = Arc::clone(&server.requests);
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (tls, behave, requests) =
                    (tls.clone(), Arc::clone(&behave), Arc::clone(&requests));
                // A connection that breaks is what many of these tests are about.
                std::thread::spawn(move || drop(serve(connection, tls, &*behave, &requests)));
            }
        });
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://localhost:{}{path}", self.scheme, self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(
    connection: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    behave: &Behaviour,
    requests: &Mutex<Vec<Request>>,
) -> io::Result<()> {
    connection.set_nodelay(true)?;
    // Nothing in these tests takes that long; no thread stays for ever.
    connection.set_read_timeout(Some(Duration::from_secs(120)))?;
    let closing = connection.try_clone()?;
    let mut link: Box<dyn Link> = match tls {
        None => Box::new(connection),
        Some(config) => {
            let session = ServerConnection::new(config).map_err(io::Error::other)?;
            Box::new(StreamOwned::new(session, connection))
        }
    };
    let mut request = read_request(&mut *link)?;
    {
        let mut requests = requests.lock().unwrap();
        request.number = requests.len();
        requests.push(request.clone());
    }
    let result = behave(&request, &mut *link);
    let _ = closing.shutdown(std::net::Shutdown::Write);
    result
}

/// Byte by byte, so that nothing of what follows is swallowed.
pub fn read_request(link: &mut dyn Link) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        link.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let mut lines = BufReader::new(&head[..]).lines().map_while(Result::ok);
    let line = lines.next().unwrap_or_default();
    let headers = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect();
    Ok(Request {
        line,
        headers,
        number: 0,
    })
}

/// The TLS side of a server with one certificate; `clients` are asked for one by that authority.
pub fn tls(pair: &Pair, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
            roots.add(root).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

/// A file on a server that knows ranges.
#[derive(Clone)]
pub struct Offer {
    pub bytes: Arc<Vec<u8>>,
    pub etag: Option<&'static str>,
    /// Bytes of a body after which the connection is cut.
    pub cut: Option<usize>,
}

impl Offer {
    pub fn new(length: usize) -> Self {
        let mut state = 0x9E37_79B9_u32;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        });
        Self {
            bytes: Arc::new(bytes.take(length).collect()),
            etag: Some("\"one\""),
            cut: None,
        }
    }

    pub fn cut(self, bytes: usize) -> Self {
        Self {
            cut: Some(bytes),
            ..self
        }
    }

    /// Answers as a good server does, up to the cut.
    pub fn answer(&self, request: &Request, link: &mut dyn Link) -> io::Result<()> {
        let total = self.bytes.len();
        let etag = self
            .etag
            .map_or(String::new(), |tag| format!("ETag: {tag}\r\n"));
        // `If-Range` with another tag means the whole file.
        let is_same = request
            .header("if-range")
            .is_none_or(|tag| Some(tag) == self.etag);
        let (first, last) = match request.range().filter(|_| is_same) {
            None => (0, total - 1),
            Some((first, last)) => (first, last.unwrap_or(total - 1).min(total - 1)),
        };
        if first >= total {
            return write!(
                link,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */{total}\r\nContent-Length: 0\r\n\r\n"
            );
        }
        let body = &self.bytes[first..=last];
        let length = body.len();
        if request.range().is_some() && is_same {
            write!(
                link,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\n"
            )?;
        } else {
            write!(link, "HTTP/1.1 200 OK\r\n")?;
        }
        write!(link, "{etag}Content-Length: {length}\r\n\r\n")?;
        link.write_all(&body[..self.cut.unwrap_or(length).min(length)])?;
        link.flush()
    }
}

/// An answer with a status, headers and an empty body.
pub fn refuse(link: &mut dyn Link, status: &str, headers: &str) -> io::Result<()> {
    write!(
        link,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\n\r\n"
    )
}

/// Waits until the client hangs up.
pub fn stall(link: &mut dyn Link) -> io::Result<()> {
    link.flush()?;
    while link.read(&mut [0; 512])? > 0 {}
    Ok(())
}
