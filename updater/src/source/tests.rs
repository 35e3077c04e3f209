use super::*;
use std::io::Write;

#[test]
fn a_file_is_seekable_and_held_to_its_length() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"0123456789").unwrap();
    let mut source = Source::open(file.path()).unwrap();
    assert_eq!(source.known_len(), Some(10));
    assert!(source.check_len(10).is_ok());
    assert!(matches!(
        source.check_len(9),
        Err(SourceError::Trailing { at: 9 })
    ));
    assert!(matches!(
        source.check_len(12),
        Err(SourceError::Truncated { at: 10, missing: 2 })
    ));
    let mut buf = [0; 4];
    source.read_exact(&mut buf).unwrap();
    source.seek(6).unwrap();
    source.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"6789");
    assert!(source.expect_end().is_ok());
    source.seek(8).unwrap();
    assert!(matches!(
        source.read_exact(&mut buf),
        Err(SourceError::Truncated { at: 10, missing: 2 })
    ));
    assert_eq!(
        Source::open(Path::new("/")).unwrap_err().kind(),
        ErrorKind::IsADirectory
    );
}

/// Gives one byte at a time and then fails.
struct Drip(u8);

impl Read for Drip {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(1).ok_or(ErrorKind::ConnectionReset)?;
        buf[0] = self.0;
        Ok(1)
    }
}

#[test]
fn a_stream_that_breaks_is_not_one_that_ends() {
    let mut source = Source::stream(Drip(5));
    let mut buf = [0; 5];
    source.read_exact(&mut buf).unwrap();
    assert_eq!(buf, [4, 3, 2, 1, 0]);
    assert!(matches!(
        source.read_exact(&mut buf),
        Err(SourceError::Read { offset: 5, .. })
    ));
    let mut source = Source::stream(&b"ab"[..]);
    assert!(matches!(
        source.read_exact(&mut buf),
        Err(SourceError::Truncated { at: 2, missing: 3 })
    ));
    let mut source = Source::stream(&b"ab"[..]);
    source.read_exact(&mut buf[..1]).unwrap();
    assert!(matches!(
        source.expect_end(),
        Err(SourceError::Trailing { at: 1 })
    ));
}

/// Ten bytes somewhere else; counts jumps and bytes.
struct Elsewhere {
    at: usize,
    log: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl Read for Elsewhere {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = (&b"0123456789"[self.at.min(10)..]).read(buf)?;
        self.at += count;
        self.log.lock().unwrap().push(format!("read {count}"));
        Ok(count)
    }
}

impl Remote for Elsewhere {
    fn jump(&mut self, offset: u64) -> Result<(), SourceError> {
        self.at = usize::try_from(offset).unwrap();
        self.log.lock().unwrap().push(format!("jump {offset}"));
        Ok(())
    }
}

#[test]
fn a_remote_source_is_asked_only_for_what_is_not_known() {
    let log = std::sync::Arc::default();
    let elsewhere = |log: &std::sync::Arc<_>| Elsewhere {
        at: 0,
        log: std::sync::Arc::clone(log),
    };
    let mut source = Source::resumed(b"012".to_vec(), elsewhere(&log));
    assert_eq!((source.known_len(), source.is_remote()), (None, true));
    let mut buf = [0; 5];
    source.read_exact(&mut buf[..2]).unwrap();
    assert_eq!(*log.lock().unwrap(), [""; 0]);
    source.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"23456");
    assert_eq!(*log.lock().unwrap(), ["jump 3", "read 4"]);
    // Going elsewhere costs nothing until something is read there.
    source.skip_to(2).unwrap();
    source.skip_to(8).unwrap();
    source.read_exact(&mut buf[..2]).unwrap();
    assert_eq!(&buf[..2], b"89");
    assert!(source.expect_end().is_ok());
    let asked = ["jump 3", "read 4", "jump 8", "read 2", "read 0"];
    assert_eq!(*log.lock().unwrap(), asked);

    let log = std::sync::Arc::default();
    let mut source = Source::remote(elsewhere(&log));
    source.read_exact(&mut buf).unwrap();
    assert_eq!(*log.lock().unwrap(), ["read 5"]);
}

#[test]
fn a_stream_is_skipped_by_reading_it_and_a_file_by_seeking() {
    let mut buf = [0; 2];
    let mut source = Source::stream(&b"0123456789"[..]);
    source.skip_to(4).unwrap();
    source.read_exact(&mut buf).unwrap();
    assert_eq!((&buf, source.position()), (b"45", 6));
    assert!(source.skip_to(5).is_err());
    assert!(matches!(
        source.skip_to(12),
        Err(SourceError::Truncated { at: 10, missing: 2 })
    ));
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"0123456789").unwrap();
    let mut source = Source::open(file.path()).unwrap();
    source.skip_to(7).unwrap();
    source.read_exact(&mut buf).unwrap();
    assert_eq!(&buf, b"78");
}
