//! A writer for the archive that the kernel unpacks as initramfs ("newc", kernel: driver-api/early-userspace/buffer-format).
//! Times, owners and numbers are fixed, so the same files give the same bytes.

use anyhow::{Context, Result};

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const TRAILER: &str = "TRAILER!!!";

/// An archive under construction. Parents must be added before what is in them.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY | 0o755, (0, 0), &[])
    }

    pub(super) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(path, REGULAR | permissions, (0, 0), content)
    }

    pub(super) fn character_device(
        &mut self,
        path: &str,
        permissions: u32,
        number: (u32, u32),
    ) -> Result<()> {
        self.entry(path, CHARACTER_DEVICE | permissions, number, &[])
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(TRAILER, 0, (0, 0), &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        let size = u32::try_from(content.len())
            .with_context(|| format!("archive {path}: {} bytes is too long", content.len()))?;
        let name_size = u32::try_from(path.len() + 1)
            .with_context(|| format!("archive {path}: the name is too long"))?;
        self.entries += 1;
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        let (major, minor) = device;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn cpio_lists_what_was_archived() {
        let mut archive = Archive::default();
        archive.directory("dev").unwrap();
        archive
            .character_device("dev/console", 0o600, (5, 1))
            .unwrap();
        archive.file("init", 0o755, b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let mut cpio = Command::new("cpio");
        cpio.args(["--quiet", "-itvn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = cpio.spawn().expect("cpio is needed");
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<Vec<&str>> = listing
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 3, "{listing}");
        assert_eq!(
            (lines[0][0], *lines[0].last().unwrap()),
            ("drwxr-xr-x", "dev")
        );
        assert_eq!(
            (lines[1][0], lines[1][4], lines[1][5]),
            ("crw-------", "5,", "1")
        );
        assert_eq!(
            (lines[2][0], lines[2][4], *lines[2].last().unwrap()),
            ("-rwxr-xr-x", "5", "init")
        );
    }
}
