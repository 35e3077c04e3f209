//! Lines of JSON on a Unix socket, with the descriptors that come along.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest line in bytes, with its end.
pub const LINE_MAX: usize = 16 << 10;
/// Bytes that are taken from the socket at once.
const PIECE: usize = 1024;
/// Descriptors that one message may bring; more of them are closed by the kernel.
const DESCRIPTORS: usize = 1;

/// Why a line was not received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Between two lines, which is how a conversation ends.
    #[error("the other side has hung up")]
    Closed,
    #[error("the other side hung up in the middle of a line")]
    Cut,
    #[error("a line has more than {LINE_MAX} bytes")]
    TooLong,
    #[error("a line is not understood: {0}")]
    NotUnderstood(serde_json::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One end of a conversation.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    /// Received, but not a whole line yet, or more than one.
    buffer: Vec<u8>,
    /// The last one that came; those before it are closed.
    descriptor: Option<OwnedFd>,
}

impl Channel {
    #[must_use]
    pub const fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            descriptor: None,
        }
    }

    /// The socket, for its time-outs and credentials.
    #[must_use]
    pub const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Receives one line.
    ///
    /// # Errors
    /// The other side hung up, says nothing in time, too much, or something else.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<T, LineError> {
        let mut searched = 0;
        loop {
            let unseen = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                return serde_json::from_slice(&line).map_err(LineError::NotUnderstood);
            }
            searched = self.buffer.len();
            if searched >= LINE_MAX {
                return Err(LineError::TooLong);
            }
            if self.fill()? == 0 {
                return Err(match searched {
                    0 => LineError::Closed,
                    _ => LineError::Cut,
                });
            }
        }
    }

    /// The descriptor that came with the lines so far, if any.
    pub const fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptor.take()
    }

    fn fill(&mut self) -> Result<usize, LineError> {
        let mut piece = [0; PIECE];
        let room = PIECE.min(LINE_MAX.saturating_sub(self.buffer.len()));
        let piece = piece.get_mut(..room).unwrap_or_default();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(piece)];
            match recvmsg(
                &self.stream,
                &mut slices,
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Ok(received) => break received.bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptor = descriptors.last().or(self.descriptor.take());
            }
        }
        self.buffer
            .extend_from_slice(piece.get(..received).unwrap_or_default());
        Ok(received)
    }

    /// Sends one line, with a descriptor if one is given.
    ///
    /// # Errors
    /// The other side has gone or does not listen.
    pub fn send(
        &mut self,
        message: &impl Serialize,
        descriptor: Option<&dyn AsFd>,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        if line.len() > LINE_MAX {
            return Err(ErrorKind::InvalidInput.into());
        }
        let mut sent = 0;
        if let Some(descriptor) = descriptor {
            let descriptors = [descriptor.as_fd()];
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
                return Err(ErrorKind::InvalidInput.into());
            }
            let slices = [IoSlice::new(&line)];
            sent = sendmsg(&self.stream, &slices, &mut control, SendFlags::NOSIGNAL)?;
        }
        self.stream.write_all(line.get(sent..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use serde_json::{Value, json};

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    #[test]
    fn lines_and_a_descriptor_arrive_however_they_are_cut() {
        let (mut one, mut other) = pair();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "payload").unwrap();
        let opened = File::open(file.path()).unwrap();
        one.send(&json!({"a": 1}), Some(&opened)).unwrap();
        one.send(&json!([2]), None).unwrap();
        assert_eq!(other.receive::<Value>().unwrap(), json!({"a": 1}));
        assert_eq!(other.receive::<Value>().unwrap(), json!([2]));
        let mut text = String::new();
        let mut file = File::from(other.take_descriptor().unwrap());
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "payload");
        assert!(other.take_descriptor().is_none());
        for byte in b"{\"b\":3}\n" {
            one.stream().write_all(&[*byte]).unwrap();
        }
        assert_eq!(other.receive::<Value>().unwrap(), json!({"b": 3}));
        drop(one);
        assert!(matches!(other.receive::<Value>(), Err(LineError::Closed)));
    }

    #[test]
    fn garbage_is_an_error_and_bounded() {
        let receive = |bytes: Vec<u8>| {
            let (one, mut other) = pair();
            let sender = std::thread::spawn(move || {
                // The other side may have seen enough.
                let _ = one.stream().write_all(&bytes);
            });
            let result = other.receive::<super::super::Request>();
            assert!(other.buffer.len() <= LINE_MAX);
            drop(other);
            sender.join().unwrap();
            result.unwrap_err()
        };
        assert!(matches!(receive(vec![b'x'; 1 << 20]), LineError::TooLong));
        assert!(matches!(receive(b"{".to_vec()), LineError::Cut));
        for line in ["\n", "{}\n", "\0\u{ff}\n", "{\"verb\":\"become-root\"}\n"] {
            let error = receive(line.as_bytes().to_vec());
            assert!(matches!(error, LineError::NotUnderstood(_)), "{line:?}");
        }
        let deep = [b"[".repeat(10_000), b"\n".to_vec()].concat();
        assert!(matches!(receive(deep), LineError::NotUnderstood(_)));
    }
}
