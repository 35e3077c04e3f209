use std::io::Write;
use std::thread;

use super::*;

/// A download whose process does what `play` does.
fn payload(play: impl FnOnce(UnixStream) -> io::Result<()> + Send + 'static) -> HttpPayload {
    let (process, theirs) = Process::played();
    process
        .socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut payload = HttpPayload::new("http://h/p", FetchOptions::default(), None);
    payload.process = Some(process);
    // It ends when nobody listens any more.
    thread::spawn(move || drop(play(theirs)));
    payload
}

fn failure(play: impl FnOnce(UnixStream) -> io::Result<()> + Send + 'static) -> FailureKind {
    let mut payload = payload(play);
    let mut total = 0_u64;
    loop {
        match payload.fill().map(<[u8]>::len) {
            Ok(0) => panic!("it ended well after {total} bytes"),
            Ok(count) => {
                total += count as u64;
                payload.consume(count);
            }
            Err(error) => return error.failure.kind,
        }
    }
}

#[test]
fn garbage_from_the_download_process() {
    assert_eq!(
        failure(|mut socket| socket.write_all(&[0x41; 4096])),
        FailureKind::Protocol
    );
    // Data that announces four gigabytes.
    assert_eq!(
        failure(|mut socket| socket.write_all(&[3, 0xff, 0xff, 0xff, 0xff])),
        FailureKind::Protocol
    );
    // A head that is no JSON, and one that ends too early.
    assert_eq!(
        failure(|mut socket| socket.write_all(&[2, 2, 0, 0, 0, b'{', b'['])),
        FailureKind::Protocol
    );
    assert_eq!(
        failure(|mut socket| socket.write_all(&[2, 9, 0, 0, 0, b'{'])),
        FailureKind::Process
    );
}

#[test]
fn a_download_process_that_only_talks() {
    let talk = |mut socket: UnixStream| {
        loop {
            wire::send_alive(&mut socket)?;
        }
    };
    assert_eq!(failure(talk), FailureKind::Protocol);
    let empty = |mut socket: UnixStream| {
        loop {
            socket.write_all(&[3, 0, 0, 0, 0])?;
        }
    };
    assert_eq!(failure(empty), FailureKind::Protocol);
}

#[test]
fn a_download_process_that_goes_silent() {
    let silent = |mut socket: UnixStream| {
        wire::send_data(&mut socket, b"some")?;
        socket.read(&mut [0]).map(drop)
    };
    assert_eq!(failure(silent), FailureKind::Protocol);
}

#[test]
fn a_file_that_turns_into_another_length() {
    let two = |mut socket: UnixStream| {
        for length in [10, 11] {
            let head = Validator {
                length: Some(length),
                ..Validator::default()
            };
            wire::send_head(&mut socket, &head)?;
        }
        Ok(())
    };
    assert_eq!(failure(two), FailureKind::Changed);
}

#[test]
fn words_of_the_download_process_reach_no_terminal_as_they_are() {
    let mut payload = payload(|mut socket| {
        let evil = Failure::new(FailureKind::Answer, "\x1b]0;owned\x07".repeat(100));
        wire::send_failure(&mut socket, &evil)
    });
    let text = payload.fill().unwrap_err().to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
    assert!(text.len() < 600);
}

#[test]
fn an_error_stays_until_the_next_jump() {
    let mut payload = payload(|_| Ok(()));
    assert!(payload.read(&mut [0]).is_err());
    assert!(payload.read(&mut [0]).is_err());
    payload.jump(7);
    assert!(payload.failed.is_none());
    assert_eq!(payload.position(), 7);
}

#[test]
fn dripping_for_half_an_hour_is_the_end() {
    let mut pulse = Pulse::default();
    let second = Duration::from_secs(1);
    assert!((0..1799).all(|_| pulse.is_alive(second, 9)));
    assert!(!pulse.is_alive(second, 9));
    let mut pulse = Pulse::default();
    assert!((0..100_000).all(|_| pulse.is_alive(second, 10)));
}

#[test]
fn bytes_that_are_thrown_away_count_as_progress_and_are_none_of_the_file() {
    let mut payload = payload(|mut socket| {
        for _ in 0..2 * MAX_NOTES {
            wire::send_skipped(&mut socket, 1 << 16)?;
        }
        wire::send_data(&mut socket, b"some")
    });
    payload.at = 1 << 28;
    payload.pulse.waited = PULSE;
    assert_eq!(payload.read(&mut [0; 8]).unwrap(), 4);
    assert_eq!(payload.position(), (1 << 28) + 4);
}

#[test]
fn a_download_process_that_throws_away_more_than_there_is() {
    let mut payload = payload(|mut socket| {
        loop {
            wire::send_skipped(&mut socket, 1 << 16)?;
        }
    });
    payload.at = 1 << 20;
    let error = payload.fill().unwrap_err();
    assert_eq!(error.failure.kind, FailureKind::Protocol);
}

#[test]
fn who_asks_whether_bytes_are_there_is_not_kept_waiting() {
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let mut payload = payload(move |mut socket| {
        wire::send_alive(&mut socket)?;
        may_go_on.recv().map_err(io::Error::other)?;
        wire::send_data(&mut socket, b"some")
    });
    let now = Duration::ZERO;
    let soon = Duration::from_secs(5);
    // A message that brings no byte is none.
    assert!(!payload.is_ready(soon));
    assert!(!payload.is_ready(now));
    go_on.send(()).unwrap();
    assert!(payload.is_ready(soon));
    assert!(payload.is_ready(now), "nothing was read yet");
    assert_eq!(payload.read(&mut [0; 8]).unwrap(), 4);
    // It is gone, and reading says so.
    assert!(payload.is_ready(soon));
    assert!(payload.read(&mut [0]).is_err());
}

#[test]
fn a_frame_that_drips_is_the_end_however_long_each_byte_may_take() {
    struct Drips;
    impl Read for Drips {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            thread::sleep(Duration::from_millis(20));
            let Some(byte) = buf.first_mut() else {
                return Ok(0);
            };
            // Kind 3, and lengths of 3 too.
            *byte = 3;
            Ok(1)
        }
    }
    let mut buffer = [0; MAX_DATA];
    let began = Instant::now();
    let answer = wire::receive_answer(Drips, &mut buffer, Duration::from_millis(70));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(began.elapsed() < Duration::from_secs(5));
}
