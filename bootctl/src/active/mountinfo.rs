//! The text of `/proc/self/mountinfo` (proc(5)). Pure.

use crate::disk::DeviceNumber;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount<'a> {
    pub id: u64,
    /// The mount that this one was mounted on.
    pub parent: u64,
    /// Major 0 means that no single block device is behind it.
    pub device: DeviceNumber,
    /// With octal escapes for blanks and backslashes, as in the text.
    pub mount_point: &'a str,
    pub filesystem: &'a str,
    /// With octal escapes.
    pub source: &'a str,
}

/// Every line that has the documented form, in order.
pub fn mounts(text: &str) -> impl Iterator<Item = Mount<'_>> {
    text.lines().filter_map(parse)
}

/// The lowest block-device mount at exactly this mount point: the one that no other mount at the same place lies
/// below. What is merged above it, say an overlay of extensions, is skipped.
#[must_use]
pub fn bottom_block_mount<'a>(text: &'a str, mount_point: &str) -> Option<Mount<'a>> {
    let here = || mounts(text).filter(|m| m.mount_point == mount_point && m.device.major != 0);
    // Mounts at one place are stacked: each one's parent is the one below it, possibly with others between them.
    let lies_on = |upper: &Mount<'_>, lower: u64| {
        let mut parent = upper.parent;
        for _ in mounts(text) {
            if parent == lower {
                return true;
            }
            match mounts(text).find(|m| m.id == parent && m.mount_point == mount_point) {
                Some(between) => parent = between.parent,
                None => return false,
            }
        }
        false
    };
    here().find(|m| !here().any(|other| other.id != m.id && lies_on(m, other.id)))
}

fn parse(line: &str) -> Option<Mount<'_>> {
    // Optional fields end with a lone hyphen.
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let id = left.next()?.parse().ok()?;
    let parent = left.next()?.parse().ok()?;
    let device = left.next()?.parse().ok()?;
    let mount_point = left.nth(1)?;
    let mut right = right.split(' ');
    Some(Mount {
        id,
        parent,
        device,
        mount_point,
        filesystem: right.next()?,
        source: right.next()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As on a booted system of ours with an extension merged twice (a refresh stacks overlays).
    const MERGED: &str = "\
22 1 254:9 / / rw,relatime shared:1 - ext4 /dev/vda9 rw
23 22 254:4 / /usr ro,relatime shared:2 - ext4 /dev/vda4 ro
24 22 0:21 / /proc rw,nosuid shared:12 - proc proc rw
40 23 0:44 / /usr ro,nodev,relatime shared:70 - overlay sysext ro,lowerdir=/run/a:/usr
41 40 0:45 / /usr ro,nodev,relatime shared:71 - overlay sysext ro,lowerdir=/run/b:/usr
42 41 254:6 / /usr/share/oem rw - btrfs /dev/vda6 rw
43 22 254:3 / /usr\\040old rw - ext4 /dev/vda3 rw
";

    #[test]
    fn extensions_above_usr_are_skipped() {
        let found = bottom_block_mount(MERGED, "/usr").unwrap();
        assert_eq!(found.device.to_string(), "254:4");
        assert_eq!((found.id, found.parent, found.filesystem), (23, 22, "ext4"));
        assert_eq!(found.source, "/dev/vda4");
    }

    #[test]
    fn the_bottom_one_wins_in_any_order_of_lines() {
        let stacked = "\
60 50 7:1 / /usr ro - squashfs /dev/loop1 ro
50 45 0:50 / /usr ro - overlay overlay ro
45 22 254:3 / /usr ro - ext4 /dev/vda3 ro
22 1 254:9 / / rw - ext4 /dev/vda9 rw
";
        assert_eq!(bottom_block_mount(stacked, "/usr").unwrap().id, 45);
        let loops = "5 6 8:1 / /usr ro - ext4 /dev/a ro\n6 5 8:2 / /usr ro - ext4 /dev/b ro\n";
        assert_eq!(bottom_block_mount(loops, "/usr"), None);
    }

    #[test]
    fn lines_without_the_documented_form_are_skipped() {
        for text in [
            "",
            "\n\n",
            "23 22 254:4 / /usr ro",
            "23 22 254:4 / /usr ro - ext4",
            "x 22 254:4 / /usr ro - ext4 /dev/vda4 ro",
            "23 22 254 / /usr ro - ext4 /dev/vda4 ro",
            "23 22 0:4 / /usr ro - overlay overlay ro",
            "23 22 254:4 / /usr/local ro - ext4 /dev/vda4 ro",
        ] {
            assert_eq!(bottom_block_mount(text, "/usr"), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([0-9]{1,2} [0-9]{1,2} [0-9]:[0-9] / /usr ro - e d o\n|.{0,30}\n){0,12}") {
            let _ = bottom_block_mount(&text, "/usr");
        }
    }
}
