//! What every boot does to the disk before anything of it is mounted. All of it is idempotent, costs no write where
//! nothing is to be done, and none of it is worth not booting for.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result};
use bootctl::control::Control;
use bootctl::disk::{Access, Disk};
use bootctl::gpt::Guid;

use super::disks::Chosen;
use super::{partitions, say};

const RANDOM: &str = "/dev/random";

/// Gives a new disk identifiers of its own, repairs the table, lets ROOT reach the end of the disk, and tells the
/// kernel. Failures are reported.
pub fn disk(chosen: &Chosen) {
    if let Err(error) = identity_and_size(chosen) {
        say(&format!("prepare {}: {error:#}", chosen.name));
    }
    if let Err(error) = partitions::refresh(chosen) {
        say(&format!("prepare {}: {error:#}", chosen.name));
    }
}

fn identity_and_size(chosen: &Chosen) -> Result<()> {
    let path = chosen.node();
    let disk = match Disk::open(&path, Access::Write) {
        Ok(disk) => disk,
        Err(error) => return Err(error).context("open the disk for writing"),
    };
    let mut control = Control::open(disk).context("read the disk")?;
    if chosen.fresh() {
        // All of them first: an error half-way would leave half of the disk with its own. There are enough, and a commit
        // would refuse the same one twice.
        let mut guids = random_guids()?.into_iter();
        let next = || guids.next().unwrap_or(Guid([0; 16]));
        if control
            .first_boot(next)
            .context("give the disk its own identifiers")?
        {
            say("first boot: the disk has identifiers of its own now");
        }
    }
    if control
        .grow_root()
        .context("let ROOT grow to the end of the disk")?
    {
        say("the partition table was repaired or ROOT grown");
    }
    Ok(())
}

/// One for the disk and one for each of at most 128 partitions: random ones, version 4 of RFC 9562.
fn random_guids() -> Result<Vec<Guid>> {
    let mut random = File::open(RANDOM).with_context(|| format!("open {RANDOM}"))?;
    (0..=128)
        .map(|_| random_guid(&mut random))
        .collect::<io::Result<_>>()
        .with_context(|| format!("read {RANDOM}"))
}

fn random_guid(random: &mut impl Read) -> io::Result<Guid> {
    let mut bytes = [0; 16];
    random.read_exact(&mut bytes)?;
    // The first three fields are little-endian on the disk, so the version is in byte 7.
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Ok(Guid(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_of_version_4() {
        for fill in [0x00, 0xff] {
            let guid = random_guid(&mut io::repeat(fill)).unwrap().to_string();
            assert_eq!(guid.as_bytes()[14], b'4', "{guid}");
            assert!(b"89ab".contains(&guid.as_bytes()[19]), "{guid}");
        }
        assert!(random_guid(&mut io::empty()).is_err());
    }
}
