//! Links that break, stall and drip.

use std::io::Read;
use std::time::Duration;

use updater::fetch::{FailureKind, HttpPayload};

use crate::server::{Offer, Server, stall};
use crate::{failure, fetch, impatient, options, read};

#[test]
fn a_connection_that_is_cut_every_29_kilobytes_downloads_nothing_twice() {
    let offer = Offer::new(300_000).cut(29_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| offer.answer(request, link));
    assert!(fetch(&server.url("/p"), options()).unwrap() == *file);
    let begins: Vec<usize> = server
        .requests()
        .iter()
        .map(|request| request.range().map_or(0, |(first, _)| first))
        .collect();
    // Each goes on where the one before was cut.
    let expected: Vec<usize> = (0..300_000).step_by(29_000).collect();
    assert_eq!(begins, expected);
    for request in server.requests().iter().skip(1) {
        assert_eq!(request.header("if-range"), Some("\"one\""));
    }
}

#[test]
fn a_server_that_stalls_is_asked_again() {
    let offer = Offer::new(100_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| {
        if request.number < 2 {
            offer.clone().cut(20_000).answer(request, link)?;
            return stall(link);
        }
        offer.answer(request, link)
    });
    assert!(fetch(&server.url("/p"), impatient()).unwrap() == *file);
    assert!(server.requests().len() >= 3);
}

#[test]
fn a_server_that_only_stalls_is_given_up() {
    let server = Server::plain(|_, link| stall(link));
    let (kind, text) = failure(&server.url("/p"), impatient());
    assert_eq!(kind, FailureKind::Stalled, "{text}");
    // On a busy machine an attempt may end before the server has read its request.
    assert!((1..=3).contains(&server.requests().len()));
}

#[test]
fn a_server_that_drips_is_given_up() {
    let server = Server::plain(|request, link| {
        let first = request.range().map_or(0, |(first, _)| first);
        match first {
            0 => write!(link, "HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")?,
            _ => write!(
                link,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-89999/90000\r\n\r\n"
            )?,
        }
        loop {
            link.write_all(b"x")?;
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let (kind, text) = failure(&server.url("/p"), impatient());
    assert_eq!(kind, FailureKind::Stalled, "{text}");
}

#[test]
fn the_beginning_can_be_left_out() {
    let offer = Offer::new(100_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| offer.answer(request, link));
    let mut payload = HttpPayload::new(&server.url("/p"), options(), None);
    payload.jump(60_000);
    assert!(read(&mut payload).unwrap() == file[60_000..]);
    // And back, on the same file.
    payload.jump(99_999);
    assert!(read(&mut payload).unwrap() == file[99_999..]);
    payload.jump(100_000);
    assert!(read(&mut payload).unwrap().is_empty());
    let ranges: Vec<_> = server.requests().iter().filter_map(|r| r.range()).collect();
    assert_eq!(ranges, [(60_000, None), (99_999, None)]);
}

#[test]
fn a_download_that_is_cancelled_does_not_wait_for_the_server() {
    let server = Server::plain(|_, link| stall(link));
    let mut payload = HttpPayload::new(&server.url("/p"), options(), None);
    let canceller = payload.canceller();
    let waiting = std::thread::spawn(move || {
        let error = payload.read(&mut [0; 10]).unwrap_err();
        (
            error.to_string(),
            read(&mut payload).unwrap_err().failure.kind,
        )
    });
    while server.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    canceller.cancel();
    let (text, kind) = waiting.join().unwrap();
    assert!(text.ends_with(": cancelled"), "{text}");
    assert_eq!(kind, FailureKind::Cancelled);
}

#[test]
fn a_slow_rate_is_kept() {
    let offer = Offer::new(40_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| offer.answer(request, link));
    let mut slow = options();
    slow.rate = Some(20_000);
    let began = std::time::Instant::now();
    assert!(fetch(&server.url("/p"), slow).unwrap() == *file);
    // Never faster; how much slower is the machine's business.
    assert!(began.elapsed() > Duration::from_millis(1500));
}

#[test]
fn nobody_listens_at_the_port() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let free = listener.local_addr().unwrap().port();
    drop(listener);
    let (kind, text) = failure(&format!("http://127.0.0.1:{free}/p"), options());
    assert_eq!(kind, FailureKind::Connect, "{text}");
    let expected = format!("download http://127.0.0.1:{free}/p: no connection to 127.0.0.1: ");
    assert!(text.starts_with(&expected), "{text}");
}
