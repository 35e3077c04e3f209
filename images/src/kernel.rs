//! What kernels say of their own length: x86 (Linux: `Documentation/arch/x86/boot.rst`), arm64
//! (`Documentation/arch/arm64/booting.rst`) and, for the latter, the section table that UEFI firmware reads (PE/COFF).

const SECTOR: u64 = 512;
const SETUP_SECTORS: usize = 0x1f1;
const PROTECTED_MODE_SIZE: usize = 0x1f4;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
/// From this version on the size has four bytes.
const VERSION_2_04: u16 = 0x204;

const ARM64_MEMORY: usize = 16;
const ARM64_MAGIC: usize = 56;
const ARM64_PE: usize = 60;
/// Bytes of the PE header before the optional one, and of a section.
const PE_HEADER: usize = 24;
const PE_SECTION: usize = 40;

/// As much of a kernel as [`announced_length`] looks at, in bytes.
pub const HEAD: u64 = 4096;

/// How long a kernel that begins with `head` is by its header, in bytes; `None` if it does not say so.
#[must_use]
pub fn announced_length(head: &[u8]) -> Option<u64> {
    x86(head).or_else(|| arm64(head))
}

fn x86(head: &[u8]) -> Option<u64> {
    if head.get(MAGIC..MAGIC + 4)? != b"HdrS" || u16_at(head, VERSION)? < VERSION_2_04 {
        return None;
    }
    // The boot sector is not counted, and 0 stands for 4.
    let setup = match *head.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let paragraphs = u32_at(head, PROTECTED_MODE_SIZE)?;
    Some((setup + 1) * SECTOR + u64::from(paragraphs) * 16)
}

/// To the end of the last section, where there is a section table.
fn arm64(head: &[u8]) -> Option<u64> {
    arm64_memory(head)?;
    let pe = usize::try_from(u32_at(head, ARM64_PE)?).ok()?;
    let header = head.get(pe..)?;
    if !header.starts_with(b"PE\0\0") {
        return None;
    }
    let (count, optional) = (u16_at(header, 6)?, u16_at(header, 20)?);
    let sections = header.get(PE_HEADER + usize::from(optional)..)?;
    let mut end = 0;
    for section in sections.chunks(PE_SECTION).take(count.into()) {
        let (length, at) = (u32_at(section, 16)?, u32_at(section, 20)?);
        end = end.max(u64::from(length) + u64::from(at));
    }
    Some(end)
}

/// Bytes of memory that an arm64 kernel takes from where it is started; `None` if it is none, or compressed.
#[must_use]
pub fn arm64_memory(head: &[u8]) -> Option<u64> {
    if head.get(ARM64_MAGIC..ARM64_MAGIC + 4)? != b"ARM\x64" {
        return None;
    }
    let field = head.get(ARM64_MEMORY..)?.first_chunk()?;
    Some(u64::from_le_bytes(*field))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
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

    /// The fields of Debian's 6.1.0-56-arm64, which has 32956352 bytes: a signature follows.
    fn arm64_head() -> Vec<u8> {
        let mut head = vec![0; 0x400];
        let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(16, &33_619_968_u64.to_le_bytes());
        put(56, b"ARM\x64\x40\0\0\0PE\0\0");
        put(0x40 + 6, &2_u16.to_le_bytes());
        put(0x40 + 20, &160_u16.to_le_bytes());
        let sections = 0x40 + 24 + 160;
        for (number, (length, place)) in [(24_313_856_u32, 65_536_u32), (8_575_488, 24_379_392)]
            .into_iter()
            .enumerate()
        {
            put(sections + 40 * number + 16, &length.to_le_bytes());
            put(sections + 40 * number + 20, &place.to_le_bytes());
        }
        head
    }

    #[test]
    fn an_arm64_kernel_says_how_long_it_is_and_what_memory_it_takes() {
        let head = arm64_head();
        assert_eq!(announced_length(&head), Some(32_954_880));
        assert_eq!(arm64_memory(&head), Some(33_619_968));
    }

    #[test]
    fn an_arm64_kernel_without_sections_says_less() {
        let mut head = arm64_head();
        head[0x40] = 0;
        assert_eq!(announced_length(&head), None);
        assert_eq!(arm64_memory(&head), Some(33_619_968));
        head[60..64].copy_from_slice(&[0xff; 4]);
        assert_eq!(announced_length(&head), None);
        assert_eq!(arm64_memory(&head[..60]), Some(33_619_968));
        assert_eq!(arm64_memory(&head[..59]), None);
        assert_eq!(arm64_memory(&[0x1f; 0x400]), None);
        // Sections that the head does not hold to their end.
        assert_eq!(
            announced_length(&arm64_head()[..0x40 + 24 + 160 + 50]),
            None
        );
    }
}
