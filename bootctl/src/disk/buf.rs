//! Memory that direct I/O accepts.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// Alignment of every [`AlignedBuf`]: what any device asks for at most.
pub const ALIGNMENT: usize = 4096;

/// A fixed-size buffer, zeroed at first, that starts at a multiple of 4096 in memory. Transfers from and to it reach a
/// device without being copied.
pub struct AlignedBuf {
    /// Never grows, so its memory never moves.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// `len` bytes of zeros, and up to 4095 more for the alignment.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len.saturating_add(ALIGNMENT - 1)];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT - 1);
        Self { memory, start, len }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.memory
            .get(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.memory
            .get_mut(self.start..self.start + self.len)
            .unwrap_or_default()
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_aligned() {
        for len in [0, 1, 511, 512, 4096, 1 << 20] {
            let mut buf = AlignedBuf::new(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_ptr().align_offset(ALIGNMENT), 0);
            buf.fill(0xa5);
            assert!(buf.iter().all(|&byte| byte == 0xa5));
        }
    }
}
