//! Frames between the process that holds the disk and the one that talks to the network, over a Unix socket.
//!
//! A frame is one byte of kind, four bytes of length (little-endian) and so many bytes. One request goes down, answers
//! come up, and a socket that closes ends both. Each kind has a limit for its length, held to before anything is
//! allocated; who receives a frame that breaks a rule ends the connection.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::options::{ClientIdentity, Patience, Proxies};

/// Bytes of the payload in one frame.
pub const MAX_DATA: usize = 64 << 10;
/// Bytes of everything else that comes up.
const MAX_NOTE: usize = 4 << 10;
/// Bytes of a request: certificates and settings.
const MAX_REQUEST: usize = 4 << 20;
/// Bytes of `ETag` and `Last-Modified` that are kept; longer ones count as absent.
pub const MAX_TAG: usize = 256;

const HEADER: usize = 5;
const REQUEST: u8 = 1;
const HEAD: u8 = 2;
const DATA: u8 = 3;
const TROUBLE: u8 = 4;
const END: u8 = 5;
const FAILED: u8 = 6;
const ALIVE: u8 = 7;
const SKIPPED: u8 = 8;

/// What tells one version of a file on a server from the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validator {
    /// `ETag`, as sent.
    #[serde(default)]
    pub etag: Option<String>,
    /// `Last-Modified`, as sent.
    #[serde(default)]
    pub modified: Option<String>,
    /// Bytes of the whole file.
    #[serde(default)]
    pub length: Option<u64>,
}

impl Validator {
    /// For a file that remembers it.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// As it was remembered; a text that is none of ours is as good as nothing.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// What to fetch, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub url: String,
    /// First byte that is wanted.
    pub offset: u64,
    /// End of what is wanted, the end of the file if none.
    pub end: Option<u64>,
    /// The file as it was known before.
    pub validator: Option<Validator>,
    /// Authorities to trust instead of the built-in ones, PEM.
    pub authorities: Option<String>,
    pub identity: Option<ClientIdentity>,
    pub proxies: Proxies,
    /// Bytes a second.
    pub rate: Option<u64>,
    pub patience: Patience,
}

/// An attempt failed and another one follows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trouble {
    /// First byte of the file that is missing.
    pub at: u64,
    /// Milliseconds until the next attempt.
    pub wait: u64,
    pub failure: Failure,
}

/// What comes up.
#[derive(Debug)]
pub enum Answer {
    /// What the server says about the file, before the first byte of it.
    Head(Validator),
    /// So many bytes of the file are in the buffer.
    Data(usize),
    Trouble(Trouble),
    /// The file, or the part of it that was wanted, is complete.
    End,
    /// No further attempt.
    Failed(Failure),
    /// A connection is about to be made.
    Alive,
    /// So many bytes came since the last frame that lie before what is wanted: the server knows no ranges.
    Skipped(u32),
}

pub fn send_request(to: &mut impl Write, request: &Request) -> io::Result<()> {
    send_json(to, REQUEST, request, MAX_REQUEST)
}

pub fn receive_request(from: &mut impl Read) -> io::Result<Request> {
    match receive_header(from)? {
        (REQUEST, length) => receive_json(from, length, MAX_REQUEST),
        _ => Err(broken()),
    }
}

pub fn send_head(to: &mut impl Write, head: &Validator) -> io::Result<()> {
    send_json(to, HEAD, head, MAX_NOTE)
}

pub fn send_trouble(to: &mut impl Write, trouble: &Trouble) -> io::Result<()> {
    send_json(to, TROUBLE, trouble, MAX_NOTE)
}

pub fn send_failure(to: &mut impl Write, failure: &Failure) -> io::Result<()> {
    send_json(to, FAILED, failure, MAX_NOTE)
}

pub fn send_data(to: &mut impl Write, data: &[u8]) -> io::Result<()> {
    for chunk in data.chunks(MAX_DATA) {
        send(to, DATA, chunk)?;
    }
    Ok(())
}

pub fn send_alive(to: &mut impl Write) -> io::Result<()> {
    send(to, ALIVE, &[])
}

pub fn send_skipped(to: &mut impl Write, bytes: u32) -> io::Result<()> {
    send(to, SKIPPED, &bytes.to_le_bytes())
}

pub fn send_end(to: &mut impl Write) -> io::Result<()> {
    send(to, END, &[])
}

/// Takes the next answer, all of which has to come within `patience`; data goes to the front of `buffer`.
pub fn receive_answer(
    from: impl Read,
    buffer: &mut [u8; MAX_DATA],
    patience: Duration,
) -> io::Result<Answer> {
    let from = &mut Hasty {
        from,
        began: Instant::now(),
        patience,
    };
    let (kind, length) = receive_header(from)?;
    Ok(match kind {
        HEAD => Answer::Head(receive_json(from, length, MAX_NOTE)?),
        TROUBLE => Answer::Trouble(receive_json(from, length, MAX_NOTE)?),
        FAILED => Answer::Failed(receive_json(from, length, MAX_NOTE)?),
        END if length == 0 => Answer::End,
        ALIVE if length == 0 => Answer::Alive,
        SKIPPED if length == size_of::<u32>() => {
            let mut bytes = [0; size_of::<u32>()];
            from.read_exact(&mut bytes)?;
            Answer::Skipped(u32::from_le_bytes(bytes))
        }
        DATA => {
            let data = buffer.get_mut(..length).ok_or_else(broken)?;
            from.read_exact(data)?;
            Answer::Data(length)
        }
        _ => return Err(broken()),
    })
}

/// Ends a frame that drips.
struct Hasty<R> {
    from: R,
    began: Instant,
    patience: Duration,
}

impl<R: Read> Read for Hasty<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.began.elapsed() > self.patience {
            true => Err(ErrorKind::TimedOut.into()),
            false => self.from.read(buf),
        }
    }
}

fn receive_header(from: &mut impl Read) -> io::Result<(u8, usize)> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| broken())?;
    Ok((kind, length))
}

fn receive_json<T: DeserializeOwned>(
    from: &mut impl Read,
    length: usize,
    limit: usize,
) -> io::Result<T> {
    if length > limit {
        return Err(broken());
    }
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    serde_json::from_slice(&text).map_err(|_| broken())
}

fn send_json(
    to: &mut impl Write,
    kind: u8,
    value: &impl Serialize,
    limit: usize,
) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    match text.len() > limit {
        true => Err(ErrorKind::FileTooLarge.into()),
        false => send(to, kind, &text),
    }
}

fn send(to: &mut impl Write, kind: u8, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| broken())?;
    let [a, b, c, d] = length.to_le_bytes();
    to.write_all(&[kind, a, b, c, d])?;
    to.write_all(body)
}

fn broken() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "a frame that breaks the rules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::FailureKind;
    use proptest::prelude::*;

    fn answers(bytes: &[u8]) -> Vec<io::Result<Answer>> {
        let mut buffer = [0; MAX_DATA];
        let mut from = bytes;
        let mut all = Vec::new();
        loop {
            let answer = receive_answer(&mut from, &mut buffer, Duration::MAX);
            let last = answer.is_err();
            all.push(answer);
            if last {
                return all;
            }
        }
    }

    #[test]
    fn answers_arrive_as_they_were_sent() {
        let mut bytes = Vec::new();
        let head = Validator {
            etag: Some("\"x\"".into()),
            modified: None,
            length: Some(7),
        };
        send_head(&mut bytes, &head).unwrap();
        send_skipped(&mut bytes, 70_000).unwrap();
        send_data(&mut bytes, &[1; MAX_DATA + 1]).unwrap();
        let failure = Failure::new(FailureKind::Status(503), "later");
        let trouble = Trouble {
            at: 9,
            wait: 1,
            failure: failure.clone(),
        };
        send_trouble(&mut bytes, &trouble).unwrap();
        send_end(&mut bytes).unwrap();
        send_failure(&mut bytes, &failure).unwrap();
        let all = answers(&bytes);
        assert!(matches!(&all[0], Ok(Answer::Head(h)) if *h == head));
        assert!(matches!(all[1], Ok(Answer::Skipped(70_000))));
        assert!(matches!(all[2], Ok(Answer::Data(MAX_DATA))));
        assert!(matches!(all[3], Ok(Answer::Data(1))));
        assert!(matches!(&all[4], Ok(Answer::Trouble(t)) if t.at == 9 && t.failure == failure));
        assert!(matches!(all[5], Ok(Answer::End)));
        assert!(matches!(&all[6], Ok(Answer::Failed(f)) if *f == failure));
        assert_eq!(
            all[7].as_ref().unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }

    #[test]
    fn a_frame_that_announces_gigabytes_is_refused_before_it_is_read() {
        for kind in [
            REQUEST, HEAD, DATA, TROUBLE, END, FAILED, ALIVE, SKIPPED, 0, 200,
        ] {
            let bytes = [kind, 0xff, 0xff, 0xff, 0xff];
            let error = answers(&bytes).remove(0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidData, "kind {kind}");
        }
        let mut request: &[u8] = &[REQUEST, 0, 0, 0, 0x80];
        assert_eq!(
            receive_request(&mut request).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
    }

    proptest! {
        #[test]
        fn garbage_ends_in_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let all = answers(&bytes);
            prop_assert!(all.last().unwrap().is_err());
        }
    }
}
