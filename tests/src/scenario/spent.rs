//! What the boot script of U-Boot leaves on a disk before it boots a slot: one try less where there was one, in the very
//! bytes that `bootctl` would have written, and nothing else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::Gpt;
use bootctl::uboot_env::{self, Layout};
use bootctl::{Attributes, BootState, Slot, Tries};

use super::{LoaderLine, damage};
use crate::system;
use crate::uboot::Machine;
use crate::uboot::own::OwnCopies;

/// Both copies of a table, without the MBR.
const TABLE_LENGTH: usize = damage::SECTOR + damage::ENTRIES_LENGTH;

/// Where the loader finds the boot state, and everything that it may write, as it was at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Length of the disk in bytes.
    length: u64,
    primary: Vec<u8>,
    backup: Vec<u8>,
    store: Store,
}

/// What a board has beside the table.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Store {
    Table,
    /// The sector of an environment.
    Environment(Vec<u8>),
    /// U-Boot's own.
    Own(OwnCopies),
}

impl Snapshot {
    pub(super) fn take(image: &Path, machine: Machine) -> Result<Self> {
        let length = fs::metadata(image).context("size of the disk")?.len();
        let store = match machine {
            Machine::Virt => {
                let place = damage::environment(image)?;
                Store::Environment(damage::read(image, place, damage::SECTOR)?)
            }
            Machine::Pi3 | Machine::Pi4 => Store::Table,
            Machine::Own => Store::Own(OwnCopies::read(image)?),
        };
        Ok(Self {
            length,
            primary: damage::read(image, damage::HEADER_AT, TABLE_LENGTH)?,
            backup: damage::read(image, length - TABLE_LENGTH as u64, TABLE_LENGTH)?,
            store,
        })
    }

    /// Compares the disk, which was like this when the loader started, with what the loader says that it has done.
    ///
    /// # Errors
    /// It has spent another try, none, or something that was not to be spent; or written something else.
    pub(super) fn check(&self, after: &Self, line: &LoaderLine, image: &Path) -> Result<()> {
        let slot: Slot = line.slot.name().parse().map_err(|e| anyhow!("{e}"))?;
        let before = match (&self.store, line.environment.as_str()) {
            (Store::Own(before), "lost") => return self.made_anew(before, after, image),
            // What can't be read or written is left alone.
            (_, "lost" | "readonly") => None,
            (Store::Environment(sector), _) => {
                let state = uboot_env::decode(sector, Layout::Single);
                Some(state.map_err(|e| anyhow!("read the environment before the boot: {e}"))?)
            }
            (Store::Own(before), _) => Some(before.state()?),
            (Store::Table, _) => Some(self.table_state(image)?),
        };
        let spends = before.filter(|state| state.get(slot).tries.get() > 0);
        let Some(state) = spends else {
            ensure!(
                self == after,
                "a boot that spends nothing wrote to the disk"
            );
            return Ok(());
        };
        let left = Attributes {
            tries: state.get(slot).tries.spent(),
            ..state.get(slot)
        };
        ensure!(
            line.tries == left.tries.get(),
            "expect {} tries to be left: {line:?}",
            left.tries.get()
        );
        let wanted = state.with(slot, left);
        let expected = match &self.store {
            Store::Environment(_) => self.with_environment(after, wanted)?,
            Store::Own(before) => self.with_own(before, after, wanted)?,
            Store::Table => self.with_table(wanted, image)?,
        };
        ensure!(
            *after == expected,
            "compare what the loader wrote with what bootctl writes: they differ"
        );
        tools_agree(image)
    }

    /// U-Boot sorts its variables: what it wrote is right where `bootctl` would change no byte of it.
    fn with_environment(&self, after: &Self, wanted: BootState) -> Result<Self> {
        let Store::Environment(mut sector) = after.store.clone() else {
            bail!("no environment");
        };
        let found = uboot_env::decode(&sector, Layout::Single);
        let found = found.map_err(|e| anyhow!("read the environment after the boot: {e}"))?;
        ensure!(
            found == wanted,
            "expect the environment to hold {wanted:?}: it holds {found:?}"
        );
        uboot_env::encode(&mut sector, Layout::Single, 0, &wanted)
            .map_err(|e| anyhow!("write the environment: {e}"))?;
        Ok(Self {
            store: Store::Environment(sector),
            ..self.clone()
        })
    }

    /// What U-Boot saves beside the state is its own affair.
    fn with_own(&self, before: &OwnCopies, after: &Self, wanted: BootState) -> Result<Self> {
        let Store::Own(copies) = &after.store else {
            bail!("no copies");
        };
        copies.check_saved(before, wanted)?;
        copies.check_others(before)?;
        Ok(self.with_store_of(after))
    }

    fn with_store_of(&self, after: &Self) -> Self {
        Self {
            store: after.store.clone(),
            ..self.clone()
        }
    }

    /// U-Boot's own environment was lost: it holds what was confirmed in the table now.
    fn made_anew(&self, before: &OwnCopies, after: &Self, image: &Path) -> Result<()> {
        let mirror = self.table_state(image)?;
        let confirmed = |slot| match mirror.get(slot) {
            attributes if attributes.successful => Attributes {
                tries: Tries::NONE,
                ..attributes
            },
            _ => Attributes::UNBOOTABLE,
        };
        let wanted = BootState {
            a: confirmed(Slot::A),
            b: confirmed(Slot::B),
        };
        let Store::Own(copies) = &after.store else {
            bail!("no copies");
        };
        copies.check_made_anew(before, wanted)?;
        let expected = self.with_store_of(after);
        ensure!(*after == expected, "the loader wrote to the table");
        Ok(())
    }

    fn with_table(&self, wanted: BootState, image: &Path) -> Result<Self> {
        let copy = self.copy(image)?;
        let mut disk = Disk::open(&copy, Access::Write).map_err(|e| anyhow!("{e}"))?;
        let mut table = Gpt::read(&mut disk).map_err(|e| anyhow!("read the table: {e}"))?;
        let set = table.set_boot_state(wanted);
        set.map_err(|e| anyhow!("set the boot state: {e}"))?;
        let commit = table.commit(&mut disk);
        commit.map_err(|e| anyhow!("commit: {e}"))?;
        drop(disk);
        Self::take(&copy, Machine::Pi3)
    }

    fn table_state(&self, image: &Path) -> Result<BootState> {
        let mut disk = Disk::open(self.copy(image)?, Access::Read).map_err(|e| anyhow!("{e}"))?;
        let table = Gpt::read(&mut disk).map_err(|e| anyhow!("read the table: {e}"))?;
        let state = table.boot_state();
        state.map_err(|e| anyhow!("read the boot state before the boot: {e}"))
    }

    /// A disk beside `image` that has nothing but these tables.
    fn copy(&self, image: &Path) -> Result<std::path::PathBuf> {
        let path = image.with_extension("table");
        let write = || -> std::io::Result<()> {
            let file = File::create(&path)?;
            file.set_len(self.length)?;
            file.write_all_at(&self.primary, damage::HEADER_AT)?;
            file.write_all_at(&self.backup, self.length - TABLE_LENGTH as u64)
        };
        write().with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}

/// Others find nothing wrong with the table.
fn tools_agree(image: &Path) -> Result<()> {
    let text = system::run(Command::new("sgdisk").arg("-v").arg(image))?;
    ensure!(text.contains("No problems found"), "sgdisk: {text}");
    let text = system::run(Command::new("cgpt").arg("show").arg(image))?;
    ensure!(
        !text.contains("INVALID") && text.contains("Sec GPT header"),
        "cgpt: {text}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use boards::rpi3_uboot;
    use boards::uboot::Options;

    use super::*;
    use crate::uboot::disk;

    /// One confirmed slot and one with this many tries.
    fn words(tries: u64) -> [u64; 2] {
        [1 << 48 | 1 << 56, 2 << 48 | tries << 52]
    }

    #[test]
    fn a_try_that_is_not_spent_or_spent_in_other_bytes_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("disk.img");
        let options = Options {
            board: &rpi3_uboot::BOARD,
            store: boards::uboot::Store::Gpt,
            scratch: rpi3_uboot::SCRATCH,
            watchdog: None,
        };
        disk::make(&image, &options).unwrap();
        let with = |tries| {
            disk::set_words(&image, words(tries)).unwrap();
            Snapshot::take(&image, Machine::Pi3).unwrap()
        };
        let [before, after, twice] = [3, 2, 1].map(with);
        let line = |rest| LoaderLine::parse(rest).unwrap();
        let said = line("b tries=2 env=ok gpt=ok");
        before.check(&after, &said, &image).unwrap();
        for wrong in [&before, &twice] {
            before.check(wrong, &said, &image).unwrap_err();
        }
        let other = line("b tries=3 env=ok gpt=ok");
        before.check(&after, &other, &image).unwrap_err();

        let mut header_first = after.clone();
        header_first.primary.clone_from(&before.primary);
        before.check(&header_first, &said, &image).unwrap_err();

        for nothing_to_spend in ["a tries=0 env=ok gpt=ok", "a tries=0 env=readonly gpt=ok"] {
            let said = line(nothing_to_spend);
            before.check(&before, &said, &image).unwrap();
            before.check(&after, &said, &image).unwrap_err();
        }
    }
}
