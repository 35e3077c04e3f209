//! U-Boot's own environment in two copies: what `saveenv` of the boot script leaves there.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use bootctl::BootState;
use bootctl::uboot_env::{self, Layout, UbootEnv, current};
use bootctl::vars::{CHECK, NAMES, PLACES};

use crate::scenario::damage;
use crate::system::{OWN_COPIES, OWN_COPY_LENGTH};

/// What U-Boot sets when it starts a script on this board, of the script's file and of the board.
const LEFT: &[&[u8]] = &[
    b"board_rev",
    b"board_rev_scheme",
    b"board_revision",
    b"bootfstype",
    b"devplist",
    b"ethaddr",
    b"fdt_addr",
    b"fdtcontroladdr",
    b"fdtfile",
    b"fileaddr",
    b"filesize",
    b"serial#",
    b"usbethaddr",
];
/// Variables that nobody changes there: U-Boot's, and those that the cases put in.
const STEADY: &[&[u8]] = &[b"bootcmd", b"mark", b"bootargs", b"cmdline"];

/// Both copies, as they lie on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnCopies(pub [Vec<u8>; 2]);

impl OwnCopies {
    /// # Errors
    /// I/O.
    pub(crate) fn read(image: &Path) -> Result<Self> {
        let [first, second] = OWN_COPIES.map(|at| damage::read(image, at, OWN_COPY_LENGTH));
        Ok(Self([first?, second?]))
    }

    /// The serial number of a good copy.
    pub(crate) fn serial(&self, number: usize) -> Option<u8> {
        self.copy(number).map(|env| env.serial())
    }

    fn copy(&self, number: usize) -> Option<UbootEnv<'_>> {
        UbootEnv::new(self.0.get(number)?, Layout::Redundant)
    }

    /// The copy that U-Boot takes.
    pub(crate) fn current(&self) -> Option<usize> {
        current([0, 1].map(|number| self.serial(number)))
    }

    /// The state in the copy that U-Boot takes.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn state(&self) -> Result<BootState> {
        let number = self.current().context("no copy is good")?;
        let copy = self.0.get(number).context("no such copy")?;
        uboot_env::decode(copy, Layout::Redundant).map_err(|e| anyhow!("{e}"))
    }

    /// Every variable but the boot state, and but those that U-Boot's own commands leave behind.
    fn others(&self, number: usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let entries = self.copy(number).into_iter().flat_map(|env| env.entries());
        let kept = entries.filter(|entry| {
            let names = NAMES.iter().chain([&CHECK, &PLACES]);
            let state = names.into_iter().any(|name| name.as_bytes() == entry.name);
            !state && !LEFT.contains(&entry.name)
        });
        kept.map(|entry| (entry.name.to_vec(), entry.value().collect()))
            .collect()
    }

    /// Checks that both copies hold this state and U-Boot's own variables, none of the script's, after three saves.
    ///
    /// # Errors
    /// They don't.
    pub(crate) fn check_made_anew(&self, before: &Self, wanted: BootState) -> Result<()> {
        let was = before.current().and_then(|number| before.serial(number));
        let is = self.current().and_then(|number| self.serial(number));
        let three_on = was.unwrap_or(0).wrapping_add(3);
        ensure!(
            is == Some(three_on),
            "expect three saves, from serial number {was:?} to {three_on}: it is {is:?}"
        );
        for number in [0, 1] {
            let copy = self.0.get(number).context("no such copy")?;
            let state = uboot_env::decode(copy, Layout::Redundant);
            ensure!(
                state == Ok(wanted),
                "expect {wanted:?} in copy {number}: it holds {state:?}"
            );
            let others = self.others(number);
            ensure!(
                others.contains_key(&b"bootcmd"[..])
                    && !others.keys().any(|n| n.starts_with(b"t_")),
                "expect U-Boot's own variables alone: {others:?}"
            );
        }
        Ok(())
    }

    /// Compares with the copies that the script found: one save, of the older copy, with this state.
    ///
    /// # Errors
    /// Another copy was written, or another state.
    pub(crate) fn check_saved(&self, before: &Self, wanted: BootState) -> Result<()> {
        let was = before.current();
        // Where no copy is good U-Boot 2023.01 begins with the second.
        let target = was.map_or(1, |number| 1 - number);
        ensure!(
            self.current() == Some(target),
            "expect copy {target} to be the newer one: {:?} is",
            self.current()
        );
        ensure!(
            self.0.get(1 - target) == before.0.get(1 - target),
            "copy {} was written too",
            1 - target
        );
        let serials = (
            was.and_then(|number| before.serial(number)).unwrap_or(0),
            self.serial(target),
        );
        ensure!(
            serials.1 == Some(serials.0.wrapping_add(1)),
            "expect the next serial number: {serials:?}"
        );
        let state = self.state()?;
        ensure!(
            state == wanted,
            "expect {wanted:?} to be saved: it is {state:?}"
        );
        Ok(())
    }

    /// Checks that what U-Boot takes now holds all that it took before, beside the state, and nothing of the script's.
    ///
    /// # Errors
    /// Another variable came, went or changed.
    pub(crate) fn check_others(&self, before: &Self) -> Result<()> {
        let number = self.current().context("no copy is good")?;
        let others = self.others(number);
        ensure!(
            others.contains_key(&b"bootcmd"[..]),
            "expect U-Boot's own variables to be there: {others:?}"
        );
        let Some(was) = before.current() else {
            return Ok(());
        };
        let before = before.others(was);
        let names = [&before, &others].map(|all| all.keys().collect::<Vec<_>>());
        ensure!(
            names[0] == names[1],
            "expect the same variables to be there: {names:?}"
        );
        for name in STEADY {
            ensure!(
                before.get(*name) == others.get(*name),
                "{name:?} was changed: {:?}",
                others.get(*name)
            );
        }
        Ok(())
    }
}
