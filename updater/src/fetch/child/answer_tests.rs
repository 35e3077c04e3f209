use super::*;
use ureq::http::HeaderValue;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    });
    pairs.collect()
}

fn known(etag: Option<&str>, modified: Option<&str>, length: Option<u64>) -> Validator {
    Validator {
        etag: etag.map(str::to_owned),
        modified: modified.map(str::to_owned),
        length,
    }
}

fn judge(
    offset: u64,
    known: Option<&Validator>,
    status: u16,
    pairs: &[(&'static str, &'static str)],
) -> Verdict {
    let wanted = Wanted {
        offset,
        end: None,
        known,
    };
    wanted.judge(StatusCode::from_u16(status).unwrap(), &headers(pairs))
}

fn kind(verdict: Verdict) -> FailureKind {
    match verdict {
        Verdict::Failed(failure) => failure.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_download_begins_and_goes_on() {
    let file = known(Some("\"v1\""), None, Some(100));
    let first = judge(
        0,
        None,
        200,
        &[("etag", "\"v1\""), ("content-length", "100")],
    );
    assert_eq!(
        first,
        Verdict::Body {
            skip: 0,
            head: file.clone(),
            ends_file: true
        }
    );
    let range = [
        ("etag", "\"v1\""),
        ("content-range", "bytes 40-99/100"),
        ("content-length", "60"),
    ];
    assert_eq!(
        judge(40, Some(&file), 206, &range),
        Verdict::Body {
            skip: 0,
            head: file.clone(),
            ends_file: false
        }
    );
    // A server that knows no ranges: the beginning is read again and thrown away.
    let whole = judge(
        40,
        Some(&file),
        200,
        &[("etag", "\"v1\""), ("content-length", "100")],
    );
    assert_eq!(
        whole,
        Verdict::Body {
            skip: 40,
            head: file.clone(),
            ends_file: true
        }
    );
}

#[test]
fn another_file_under_the_same_address_is_noticed() {
    let file = known(Some("\"v1\""), Some("yesterday"), Some(100));
    for (status, pairs) in [
        (200, vec![("etag", "\"v2\""), ("content-length", "100")]),
        (200, vec![("content-length", "101")]),
        (
            200,
            vec![("last-modified", "today"), ("content-length", "100")],
        ),
        (
            206,
            vec![("etag", "\"v2\""), ("content-range", "bytes 40-99/100")],
        ),
        (206, vec![("content-range", "bytes 40-89/90")]),
        (416, vec![("content-range", "bytes */39")]),
        (416, vec![("content-range", "bytes */40")]),
    ] {
        let verdict = judge(40, Some(&file), status, &pairs);
        assert_eq!(kind(verdict), FailureKind::Changed, "{status} {pairs:?}");
    }
    // The tag says that it is the same.
    let same = [
        ("etag", "\"v1\""),
        ("last-modified", "today"),
        ("content-range", "bytes 40-99/100"),
    ];
    assert!(matches!(
        judge(40, Some(&file), 206, &same),
        Verdict::Body { .. }
    ));
    // Nothing is known but that 40 bytes came.
    let verdict = judge(40, None, 200, &[("content-length", "39")]);
    assert_eq!(kind(verdict), FailureKind::Changed);
}

#[test]
fn parts_that_were_not_asked_for_are_refused() {
    for range in [
        "bytes 39-99/100",
        "bytes 41-99/100",
        "bytes 40-100/100",
        "bytes 40-39/100",
        "bytes 40-99/4x",
        "bytes +40-99/100",
        "40-99/100",
        "bytes */100",
        "bytes 40-99",
        "bytes 99999999999999999999-2/1",
        "",
    ] {
        let verdict = judge(40, None, 206, &[("content-range", range)]);
        assert_eq!(kind(verdict), FailureKind::Answer, "{range}");
    }
    assert_eq!(kind(judge(40, None, 206, &[])), FailureKind::Answer);
    let wanted = Wanted {
        offset: 0,
        end: Some(10),
        known: None,
    };
    let more = headers(&[("content-range", "bytes 0-10/100")]);
    assert_eq!(
        kind(wanted.judge(StatusCode::PARTIAL_CONTENT, &more)),
        FailureKind::Answer
    );
}

#[test]
fn the_end_of_a_file_of_unknown_length_is_416() {
    assert_eq!(
        judge(40, None, 416, &[("content-range", "bytes */40")]),
        Verdict::Complete
    );
    let file = known(None, None, Some(40));
    assert_eq!(judge(40, Some(&file), 416, &[]), Verdict::Complete);
    assert_eq!(kind(judge(40, None, 416, &[])), FailureKind::Answer);
    assert_eq!(
        kind(judge(40, None, 416, &[("content-range", "bytes */90")])),
        FailureKind::Answer
    );
}

#[test]
fn a_closed_connection_is_no_end_of_a_file_without_length() {
    let ends = |pairs: &[(&'static str, &'static str)]| match judge(0, None, 200, pairs) {
        Verdict::Body { ends_file, .. } => ends_file,
        other => panic!("{other:?}"),
    };
    assert!(!ends(&[]));
    assert!(ends(&[("transfer-encoding", "chunked")]));
    assert!(ends(&[("content-length", "5")]));
}

#[test]
fn compressed_bodies_and_lost_redirects_make_no_sense() {
    let gzip = [("content-encoding", "gzip"), ("content-length", "5")];
    assert_eq!(kind(judge(0, None, 200, &gzip)), FailureKind::Answer);
    assert_eq!(kind(judge(0, None, 302, &[])), FailureKind::Answer);
    assert_eq!(
        judge(0, None, 302, &[("location", "/x")]),
        Verdict::Redirect("/x".into())
    );
}

#[test]
fn a_busy_server_says_when() {
    let failure = match judge(0, None, 503, &[("retry-after", "7")]) {
        Verdict::Failed(failure) => failure,
        other => panic!("{other:?}"),
    };
    assert!(failure.is_transient());
    assert_eq!(failure.retry_after, Some(7));
    assert_eq!(failure.detail, "the server says 503 Service Unavailable");
    assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    let far = retry_after("Tue, 21 Oct 2098 07:28:00 GMT").unwrap();
    assert!(far > 1_000_000);
    assert_eq!(retry_after("-7"), None);
    for (code, transient) in [
        (404, false),
        (500, true),
        (501, false),
        (403, false),
        (429, true),
    ] {
        let failure = refusal(code, StatusCode::from_u16(code).unwrap(), &HeaderMap::new());
        assert_eq!(failure.is_transient(), transient, "{code}");
    }
}

#[test]
fn the_headers_of_a_request() {
    let strong = known(Some("\"a\""), Some("date"), None);
    let weak = known(Some("W/\"a\""), Some("date"), None);
    let wanted = |offset, end, known| Wanted { offset, end, known };
    assert_eq!(wanted(0, None, None).range(), None);
    assert_eq!(wanted(5, None, None).range().as_deref(), Some("bytes=5-"));
    assert_eq!(
        wanted(0, Some(16784), None).range().as_deref(),
        Some("bytes=0-16783")
    );
    assert_eq!(wanted(5, None, Some(&strong)).if_range(), Some("\"a\""));
    assert_eq!(wanted(5, None, Some(&weak)).if_range(), Some("date"));
    assert_eq!(wanted(0, Some(9), Some(&strong)).if_range(), None);
}
