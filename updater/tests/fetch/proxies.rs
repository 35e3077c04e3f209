//! Proxies, with and without a password.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use updater::fetch::{FailureKind, FetchOptions, Proxies};

use crate::certificates::OURS;
use crate::server::{Link, Offer, Request, Server, refuse, tls};
use crate::{failure, fetch, options};

/// `joe:secret` in base 64.
const JOE: &str = "Basic am9lOnNlY3JldA==";

/// A proxy that wants a name and a password and then connects to wherever it is told.
struct Proxy {
    port: u16,
    tunnels: Arc<AtomicUsize>,
}

static PROXY: LazyLock<Proxy> = LazyLock::new(Proxy::start);

impl Proxy {
    fn start() -> Self {
        let tunnels = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&tunnels);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || drop(serve(connection, &counter)));
            }
        });
        Self { port, tunnels }
    }

    fn options(&self, user: &str) -> FetchOptions {
        let address = format!("http://{user}localhost:{}", self.port);
        FetchOptions {
            proxies: Proxies {
                http: Some(address.clone()),
                https: Some(address),
                no: None,
            },
            authorities: Some(OURS.certificate.clone()),
            ..options()
        }
    }
}

fn serve(mut client: TcpStream, tunnels: &AtomicUsize) -> io::Result<()> {
    let request: Request = crate::server::read_request(&mut client)?;
    if request.header("proxy-authorization") != Some(JOE) {
        let headers = "Proxy-Authenticate: Basic realm=\"proxy\"\r\n";
        return refuse(
            &mut client as &mut dyn Link,
            "407 Proxy Authentication Required",
            headers,
        );
    }
    let target = request.line.split(' ').nth(1).unwrap();
    assert!(request.line.starts_with("CONNECT "), "{}", request.line);
    let mut server = TcpStream::connect(target.replace("localhost", "127.0.0.1"))?;
    tunnels.fetch_add(1, Ordering::SeqCst);
    io::Write::write_all(&mut client, b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Write)
}

#[test]
fn a_proxy_that_demands_a_password_says_so() {
    let offer = Offer::new(1000);
    let server = Server::plain(move |request, link| offer.answer(request, link));
    for user in ["", "joe:wrong@"] {
        let (kind, text) = failure(&server.url("/p"), PROXY.options(user));
        assert_eq!(kind, FailureKind::ProxyPassword, "{text}");
        assert!(text.contains("http://name:password@proxy:port"), "{text}");
        assert!(!text.contains("wrong"), "{text}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn a_proxy_that_gets_its_password_lets_us_through() {
    let offer = Offer::new(100_000).cut(29_000);
    let file = offer.bytes.clone();
    let encrypted = offer.clone();
    let plain = Server::plain(move |request, link| offer.answer(request, link));
    let secure = Server::tls(tls(&OURS.good("localhost"), None), move |request, link| {
        encrypted.answer(request, link)
    });
    for server in [plain, secure] {
        let before = PROXY.tunnels.load(Ordering::SeqCst);
        let bytes = fetch(&server.url("/p"), PROXY.options("joe:secret@")).unwrap();
        assert!(bytes == *file);
        assert!(PROXY.tunnels.load(Ordering::SeqCst) >= before + 4);
    }
}

#[test]
fn no_proxy_goes_past_it() {
    let offer = Offer::new(1000);
    let server = Server::plain(move |request, link| offer.answer(request, link));
    let mut options = PROXY.options("");
    options.proxies.no = Some("example.com,localhost".into());
    fetch(&server.url("/p"), options).unwrap();
}
