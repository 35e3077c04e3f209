//! Redirects.

use updater::fetch::FailureKind;

use crate::certificates::OURS;
use crate::server::{Offer, Server, refuse, tls};
use crate::{failure, fetch, options};

#[test]
fn a_loop_ends() {
    let server = Server::plain(|_, link| refuse(link, "302 Found", "Location: /p\r\n"));
    let (kind, text) = failure(&server.url("/p"), options());
    assert_eq!(kind, FailureKind::Redirect, "{text}");
    assert_eq!(server.requests().len(), 11);
}

#[test]
fn a_redirect_is_followed_also_for_the_rest() {
    let offer = Offer::new(50_000).cut(29_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| match request.path() {
        "/a/latest" => refuse(link, "307 Temporary Redirect", "Location: ../b/file?x\r\n"),
        _ => offer.answer(request, link),
    });
    assert!(fetch(&server.url("/a/latest"), options()).unwrap() == *file);
    let paths: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.path().to_owned())
        .collect();
    assert_eq!(
        paths,
        ["/a/latest", "/a/../b/file?x", "/a/latest", "/a/../b/file?x"]
    );
}

#[test]
fn a_redirect_never_leads_from_https_to_http() {
    let offer = Offer::new(1000);
    let plain = Server::plain(move |request, link| offer.answer(request, link));
    let target = format!("Location: {}\r\n", plain.url("/p"));
    let server = Server::tls(tls(&OURS.good("localhost"), None), move |_, link| {
        refuse(link, "302 Found", &target)
    });
    let mut options = options();
    options.authorities = Some(OURS.certificate.clone());
    let (kind, text) = failure(&server.url("/p"), options);
    assert_eq!(kind, FailureKind::Downgrade, "{text}");
    assert!(plain.requests().is_empty());
}

#[test]
fn addresses_that_are_none() {
    for url in [
        "http://",
        "https:///p",
        "ftp://localhost/p",
        "http://a b/",
        "localhost/p",
    ] {
        let (kind, text) = failure(url, options());
        assert_eq!(kind, FailureKind::Address, "{text}");
    }
}
