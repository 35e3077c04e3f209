//! Certificates that are not to be trusted, and those that are.

use std::io::Write;

use updater::fetch::{ClientIdentity, FailureKind, FetchOptions};

use crate::certificates::{OURS, Pair, THEIRS};
use crate::server::{Offer, Server, tls};
use crate::{failure, fetch, options};

fn trusting_ours() -> FetchOptions {
    FetchOptions {
        authorities: Some(OURS.certificate.clone()),
        ..options()
    }
}

fn server(pair: &Pair) -> Server {
    let offer = Offer::new(100_000).cut(29_000);
    Server::tls(tls(pair, None), move |request, link| {
        offer.answer(request, link)
    })
}

#[test]
fn an_authority_of_our_own_and_a_link_that_breaks() {
    let server = server(&OURS.good("localhost"));
    let bytes = fetch(&server.url("/p"), trusting_ours()).unwrap();
    assert!(bytes == *Offer::new(100_000).bytes);
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn certificates_that_are_refused() {
    for (pair, kind, words) in [
        (
            OURS.good("elsewhere.example"),
            FailureKind::Certificate,
            "is for another name",
        ),
        (
            THEIRS.good("localhost"),
            FailureKind::Certificate,
            "signed by no authority",
        ),
        (
            OURS.sign("localhost", "20200101", "20210101"),
            FailureKind::Clock,
            "was valid until 2021-01-01T00:00:00Z, and this device's clock says 20",
        ),
        (
            OURS.sign("localhost", "20980101", "20991231"),
            FailureKind::Clock,
            "is valid from 2098-01-01T00:00:00Z, and this device's clock says 20",
        ),
    ] {
        let server = server(&pair);
        let (found, text) = failure(&server.url("/p"), trusting_ours());
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(words), "{text}");
        // Nothing was asked of that server, and it was tried once.
        assert!(server.requests().is_empty());
    }
}

#[test]
fn the_built_in_authorities_do_not_vouch_for_ours() {
    let server = server(&OURS.good("localhost"));
    let (kind, text) = failure(&server.url("/p"), options());
    assert_eq!(kind, FailureKind::Certificate, "{text}");
}

#[test]
fn a_server_that_asks_who_we_are() {
    let offer = Offer::new(1000);
    let file = offer.bytes.clone();
    let config = tls(&OURS.good("localhost"), Some(&OURS));
    let server = Server::tls(config, move |request, link| offer.answer(request, link));
    let with = |certificate: &Pair, key: &Pair| FetchOptions {
        identity: Some(ClientIdentity {
            certificate: certificate.certificate.clone(),
            key: key.key.clone(),
        }),
        ..trusting_ours()
    };
    let device = OURS.good("device.example");
    let bytes = fetch(&server.url("/p"), with(&device, &device)).unwrap();
    assert!(bytes == *file);

    let (kind, text) = failure(&server.url("/p"), trusting_ours());
    assert_eq!(kind, FailureKind::Tls, "{text}");
    assert!(text.contains("client certificate"), "{text}");

    let stranger = THEIRS.good("device.example");
    let (kind, text) = failure(&server.url("/p"), with(&stranger, &stranger));
    assert_eq!(kind, FailureKind::Tls, "{text}");
    assert!(text.contains("client certificate"), "{text}");

    let (kind, text) = failure(&server.url("/p"), with(&device, &stranger));
    assert_eq!(kind, FailureKind::Configuration, "{text}");
}

#[test]
fn a_server_that_speaks_no_tls() {
    // What a plain server makes of the greeting.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            // Closing with the greeting unread would break the connection before the answer is there.
            let _ = std::io::copy(&mut connection, &mut std::io::sink());
        }
    });
    let (kind, text) = failure(&format!("https://localhost:{port}/p"), trusting_ours());
    assert_eq!(kind, FailureKind::Tls, "{text}");
    assert!(text.contains("does not speak TLS"), "{text}");
}

#[test]
fn files_of_certificates_that_hold_none() {
    let bad = FetchOptions {
        authorities: Some("-----BEGIN NOTHING-----\n-----END NOTHING-----\n".into()),
        ..options()
    };
    let (kind, text) = failure("https://localhost:1/p", bad);
    assert_eq!(kind, FailureKind::Configuration, "{text}");
}
