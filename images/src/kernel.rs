//! The header of an x86 kernel (Linux: `Documentation/arch/x86/boot.rst`).

const SECTOR: u64 = 512;
const SETUP_SECTORS: usize = 0x1f1;
const PROTECTED_MODE_SIZE: usize = 0x1f4;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
/// From this version on the size has four bytes.
const VERSION_2_04: u16 = 0x204;

/// As much of a kernel as [`announced_length`] looks at, in bytes.
pub const HEAD: u64 = 0x208;

/// How long a kernel that begins with `head` is by its header, in bytes; `None` if it is no x86 kernel that says so.
#[must_use]
pub fn announced_length(head: &[u8]) -> Option<u64> {
    let version = u16::from_le_bytes(head.get(VERSION..VERSION + 2)?.try_into().ok()?);
    if head.get(MAGIC..MAGIC + 4)? != b"HdrS" || version < VERSION_2_04 {
        return None;
    }
    // The boot sector is not counted, and 0 stands for 4.
    let setup = match *head.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let size = head.get(PROTECTED_MODE_SIZE..PROTECTED_MODE_SIZE + 4)?;
    let paragraphs = u32::from_le_bytes(size.try_into().ok()?);
    Some((setup + 1) * SECTOR + u64::from(paragraphs) * 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of Debian's 6.1.0-56-amd64, which has 8247232 bytes: a signature follows.
    fn head() -> Vec<u8> {
        let mut head = vec![0; 0x208];
        head[SETUP_SECTORS] = 39;
        head[PROTECTED_MODE_SIZE..PROTECTED_MODE_SIZE + 4].copy_from_slice(&[0x20, 0xd8, 0x07, 0]);
        head[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        head[VERSION..VERSION + 2].copy_from_slice(&[0x0f, 0x02]);
        head
    }

    #[test]
    fn a_kernel_says_how_long_it_is() {
        assert_eq!(announced_length(&head()), Some(40 * 512 + 0x7d820 * 16));
    }

    #[test]
    fn no_setup_sectors_are_four() {
        let mut head = head();
        head[SETUP_SECTORS] = 0;
        assert_eq!(announced_length(&head), Some(5 * 512 + 0x7d820 * 16));
    }

    #[test]
    fn what_is_no_kernel_or_too_old_says_nothing() {
        assert_eq!(announced_length(&head()[..0x200]), None);
        assert_eq!(announced_length(&[0; 0x208]), None);
        let mut old = head();
        old[VERSION] = 3;
        assert_eq!(announced_length(&old), None);
    }
}
