//! Servers that say no.

use std::time::Duration;

use updater::fetch::{FailureKind, HttpPayload};

use crate::server::{Offer, Server, refuse};
use crate::{failure, fetch, options, read};

#[test]
fn not_found_is_final() {
    let server = Server::plain(|_, link| refuse(link, "404 Not Found", ""));
    let (kind, text) = failure(&server.url("/p"), options());
    assert_eq!(kind, FailureKind::Status(404));
    let url = server.url("/p");
    assert_eq!(
        text,
        format!(
            "download {url}: the server says 404 Not Found; check the address, or SERVER and GROUP in update.conf"
        )
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_server_in_trouble_is_asked_again_but_not_for_ever() {
    let server = Server::plain(|_, link| refuse(link, "500 Internal Server Error", ""));
    let (kind, text) = failure(&server.url("/p"), options());
    assert_eq!(kind, FailureKind::Status(500), "{text}");
    assert_eq!(server.requests().len(), 3);
    let offer = Offer::new(1000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| match request.number {
        0 => refuse(link, "502 Bad Gateway", ""),
        _ => offer.answer(request, link),
    });
    assert!(fetch(&server.url("/p"), options()).unwrap() == *file);
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let offer = Offer::new(1000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| match request.number {
        0 => refuse(link, "503 Service Unavailable", "Retry-After: 1\r\n"),
        _ => offer.answer(request, link),
    });
    let began = std::time::Instant::now();
    assert!(fetch(&server.url("/p"), options()).unwrap() == *file);
    assert!(began.elapsed() >= Duration::from_secs(1));
    // Longer than a download waits: whoever plans the next check is told.
    let server =
        Server::plain(|_, link| refuse(link, "503 Service Unavailable", "Retry-After: 7200\r\n"));
    let error = fetch(&server.url("/p"), options()).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7200)));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_range_that_the_server_has_not() {
    let offer = Offer::new(1000);
    let server = Server::plain(move |request, link| offer.answer(request, link));
    let mut payload = HttpPayload::new(&server.url("/p"), options(), None);
    payload.jump(5000);
    let error = read(&mut payload).unwrap_err();
    assert!(error.is_changed(), "{error}");
    // One that says 416 to everything.
    let server = Server::plain(|_, link| refuse(link, "416 Range Not Satisfiable", ""));
    let (kind, text) = failure(&server.url("/p"), options());
    assert_eq!(kind, FailureKind::Answer, "{text}");
}
