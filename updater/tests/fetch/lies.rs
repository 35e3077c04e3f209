//! Servers that change the file, or say what is not so.

use updater::fetch::{FailureKind, HttpPayload, Validator};

use crate::server::{Offer, Server, stall};
use crate::{failure, fetch, impatient, options, read};

#[test]
fn a_server_without_ranges_is_read_from_the_beginning_again() {
    let offer = Offer::new(200_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| {
        let mut plain = request.clone();
        plain.headers.clear();
        match request.number {
            0 => offer.clone().cut(70_000).answer(&plain, link),
            _ => offer.answer(&plain, link),
        }
    });
    assert!(fetch(&server.url("/p"), options()).unwrap() == *file);
    assert_eq!(server.requests().len(), 2);
}

/// Silence of that length would be taken for the end of the download process.
#[test]
fn a_server_without_ranges_may_need_longer_to_get_there_than_anybody_waits() {
    let offer = Offer::new(170_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| {
        let mut plain = request.clone();
        plain.headers.clear();
        offer.answer(&plain, link)
    });
    let mut options = options();
    options.rate = Some(10_000);
    options.patience.connect = 500;
    options.patience.response = 1000;
    options.patience.stall = 1000;
    options.patience.longest_wait = 100;
    let mut payload = HttpPayload::new(&server.url("/p"), options, None);
    payload.jump(165_000);
    assert!(Some(read(&mut payload).unwrap().as_slice()) == file.get(165_000..));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_file_that_changes_during_the_download_is_not_mixed() {
    for tags in [[Some("\"one\""), Some("\"two\"")], [None, None]] {
        let old = Offer::new(200_000);
        // Without tags only the length tells.
        let new = Offer::new(if tags[0].is_some() { 200_000 } else { 200_001 });
        let server = Server::plain(move |request, link| {
            let (offer, tag) = match request.number {
                0 => (old.clone().cut(50_000), tags[0]),
                _ => (new.clone(), tags[1]),
            };
            Offer { etag: tag, ..offer }.answer(request, link)
        });
        let (kind, text) = failure(&server.url("/p"), options());
        assert_eq!(kind, FailureKind::Changed, "{tags:?} {text}");
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn a_file_that_changed_since_the_last_boot_is_not_mixed() {
    let offer = Offer::new(100_000);
    let server = Server::plain(move |request, link| offer.answer(request, link));
    let mut payload = HttpPayload::new(&server.url("/p"), options(), None);
    payload.jump(99_000);
    read(&mut payload).unwrap();
    let known = payload.validator().unwrap().clone();
    assert_eq!(known.length, Some(100_000));
    let mut again = HttpPayload::new(&server.url("/p"), options(), Some(known.clone()));
    again.jump(98_000);
    assert_eq!(read(&mut again).unwrap().len(), 2000);
    let older = Validator {
        etag: Some("\"zero\"".into()),
        ..known
    };
    let mut other = HttpPayload::new(&server.url("/p"), options(), Some(older));
    other.jump(98_000);
    assert!(read(&mut other).unwrap_err().is_changed());
}

#[test]
fn a_file_that_is_shorter_than_announced() {
    // The server announces 300,000 bytes, and closes after 100,000 whatever is asked for.
    let server = Server::plain(|request, link| {
        let first = request.range().map_or(0, |(first, _)| first);
        let left = 100_000_usize.saturating_sub(first);
        if first > 0 {
            write!(
                link,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-299999/300000\r\nContent-Length: {}\r\n\r\n",
                300_000 - first
            )?;
        } else {
            write!(link, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")?;
        }
        link.write_all(&vec![7; left])
    });
    let (kind, text) = failure(&server.url("/p"), options());
    assert_eq!(kind, FailureKind::CutOff, "{text}");
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_file_that_is_longer_than_announced_ends_where_it_was_said_to() {
    let server = Server::plain(|_, link| {
        write!(link, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
        link.write_all(&[7; 5000])
    });
    assert_eq!(fetch(&server.url("/p"), options()).unwrap(), [7; 1000]);
}

#[test]
fn a_file_without_length_ends_when_the_server_says_so() {
    let offer = Offer::new(60_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| match request.number {
        0 => {
            write!(link, "HTTP/1.0 200 OK\r\n\r\n")?;
            link.write_all(&offer.bytes[..25_000])
        }
        _ => offer.answer(request, link),
    });
    assert!(fetch(&server.url("/p"), options()).unwrap() == *file);
    // And one that knows neither length nor ranges is believed.
    let server = Server::plain(|_, link| {
        write!(link, "HTTP/1.0 200 OK\r\n\r\n")?;
        link.write_all(&[7; 5000])
    });
    assert_eq!(fetch(&server.url("/p"), options()).unwrap(), [7; 5000]);
}

#[test]
fn an_endless_file_is_read_only_as_far_as_it_is_wanted() {
    let server = Server::plain(|_, link| {
        write!(
            link,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        )?;
        loop {
            write!(link, "1000\r\n")?;
            link.write_all(&[7; 0x1000])?;
            write!(link, "\r\n")?;
        }
    });
    let head = HttpPayload::head(&server.url("/p"), options(), 16_784).unwrap();
    assert_eq!(head, vec![7; 16_784]);
    assert_eq!(server.requests()[0].range(), Some((0, Some(16_783))));
}

#[test]
fn heads_that_never_end_or_are_none() {
    let endless = Server::plain(|_, link| {
        write!(link, "HTTP/1.1 200 OK\r\n")?;
        loop {
            write!(link, "X-Filler: {}\r\n", "x".repeat(100))?;
        }
    });
    let (kind, text) = failure(&endless.url("/p"), options());
    assert_eq!(kind, FailureKind::Answer, "{text}");
    let garbage = Server::plain(|_, link| link.write_all(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n"));
    let (kind, text) = failure(&garbage.url("/p"), options());
    assert_eq!(kind, FailureKind::Answer, "{text}");
    let slow = Server::plain(|_, link| {
        write!(link, "HTTP/1.1 200 O")?;
        stall(link)
    });
    let (kind, text) = failure(&slow.url("/p"), impatient());
    assert_eq!(kind, FailureKind::Stalled, "{text}");
    let chunks = Server::plain(|_, link| {
        write!(
            link,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"
        )
    });
    fetch(&chunks.url("/p"), options()).unwrap_err();
}

#[test]
fn only_the_head_of_a_payload_is_fetched_for_a_check() {
    let offer = Offer::new(100_000);
    let file = offer.bytes.clone();
    let server = Server::plain(move |request, link| offer.answer(request, link));
    let head = HttpPayload::head(&server.url("/p"), options(), 16_784).unwrap();
    assert!(head == file[..16_784]);
    let short = Offer::new(300);
    let server = Server::plain(move |request, link| short.answer(request, link));
    let head = HttpPayload::head(&server.url("/p"), options(), 16_784).unwrap();
    assert_eq!(head.len(), 300);
}
