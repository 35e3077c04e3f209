//! A byte range of a file as a file of its own, and copies that leave holes where the data is zero.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};

/// The bytes `start..start + len` of a file. Reads and writes end at the region's end.
#[derive(Debug)]
pub struct Region<'a> {
    file: &'a File,
    start: u64,
    len: u64,
    position: u64,
}

impl<'a> Region<'a> {
    /// A region positioned at its first byte.
    #[must_use]
    pub const fn new(file: &'a File, start: u64, len: u64) -> Self {
        Self {
            file,
            start,
            len,
            position: 0,
        }
    }

    fn room(&self, wanted: usize) -> usize {
        let left = self.len.saturating_sub(self.position);
        usize::try_from(left).map_or(wanted, |left| left.min(wanted))
    }

    fn advance(&mut self, n: usize) {
        self.position = self.position.saturating_add(n as u64);
    }
}

impl Read for Region<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buf.len());
        let n = self
            .file
            .read_at(&mut buf[..room], self.start + self.position)?;
        self.advance(n);
        Ok(n)
    }
}

impl Write for Region<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = self.room(buf.len());
        let n = self
            .file
            .write_at(&buf[..room], self.start + self.position)?;
        self.advance(n);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Region<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::Current(n) => self.position.checked_add_signed(n),
            SeekFrom::End(n) => self.len.checked_add_signed(n),
        };
        self.position = target
            .filter(|&n| n <= self.len)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// Copies all of `source` to `start..` of `target`, whose bytes there are zero, and leaves holes for zero pages.
///
/// # Errors
/// `source` is longer than `limit` bytes, or one of the two can't be read or written.
pub fn copy_sparse(source: &File, target: &File, start: u64, limit: u64) -> Result<u64> {
    let size = source.metadata().context("read the size")?.len();
    ensure!(
        size <= limit,
        "copy: {size} bytes do not fit into {limit} bytes"
    );
    let mut chunk = vec![0_u8; 1 << 20];
    let mut offset = 0;
    while offset < size {
        let Some(data) = next_data(source, offset, size)? else {
            break;
        };
        offset = data;
        let wanted = usize::try_from(size - offset).map_or(chunk.len(), |n| n.min(chunk.len()));
        let part = &mut chunk[..wanted];
        source.read_exact_at(part, offset).context("read")?;
        for (i, page) in part.chunks(4096).enumerate() {
            if !is_zero(page) {
                target
                    .write_all_at(page, start + offset + i as u64 * 4096)
                    .context("write")?;
            }
        }
        offset += wanted as u64;
    }
    Ok(size)
}

/// The next offset at or after `offset` that may hold data, rounded down to a page; `None` if only holes follow.
///
/// # Errors
/// The file can't be asked.
pub fn next_data(file: &File, offset: u64, size: u64) -> Result<Option<u64>> {
    use rustix::fs::SeekFrom as To;
    match rustix::fs::seek(file, To::Data(offset)) {
        Ok(data) if data < size => Ok(Some((data & !4095).max(offset))),
        Ok(_) | Err(rustix::io::Errno::NXIO) => Ok(None),
        // A device or a file system without holes: everything is data.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(offset)),
        Err(e) => Err(io::Error::from(e)).context("look for data"),
    }
}

/// True if every byte is zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (head, words, tail) = (
        bytes.len() % 16,
        bytes.chunks_exact(16),
        bytes.chunks_exact(16).remainder(),
    );
    debug_assert_eq!(head, tail.len());
    words
        .map(|w| u128::from_ne_bytes(w.try_into().unwrap_or([1; 16])))
        .all(|w| w == 0)
        && tail.iter().all(|&b| b == 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_region_ends_where_it_ends() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(100).unwrap();
        let mut region = Region::new(&file, 10, 4);
        assert_eq!(region.write(b"abcdef").unwrap(), 4);
        assert!(region.seek(SeekFrom::Start(5)).is_err());
        region.seek(SeekFrom::End(-2)).unwrap();
        let mut rest = Vec::new();
        region.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"cd");
        let mut all = [0; 6];
        file.read_exact_at(&mut all, 9).unwrap();
        assert_eq!(&all, b"\0abcd\0");
    }

    #[test]
    fn copies_keep_the_bytes_and_the_holes() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(8 << 20).unwrap();
        source.write_all_at(b"first", 4096 * 3 + 7).unwrap();
        source.write_all_at(b"last", (8 << 20) - 4).unwrap();
        target.set_len(16 << 20).unwrap();
        assert_eq!(
            copy_sparse(&source, &target, 4 << 20, 8 << 20).unwrap(),
            8 << 20
        );
        let mut copied = vec![0; 8 << 20];
        target.read_exact_at(&mut copied, 4 << 20).unwrap();
        let mut original = vec![0; 8 << 20];
        source.read_exact_at(&mut original, 0).unwrap();
        assert!(copied == original);
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
        assert!(copy_sparse(&source, &target, 0, 4096).is_err());
    }

    #[test]
    fn zero_is_zero_at_every_length() {
        for len in 0..70 {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for i in 0..len {
                bytes[i] = 1;
                assert!(!is_zero(&bytes));
                bytes[i] = 0;
            }
        }
    }
}
