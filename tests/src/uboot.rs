//! Our boot script in stock builds of U-Boot, against models that know nothing of `bootctl`.
//!
//! The disks here have a script and a partition table, but nothing in the slots: in one boot the loader goes through
//! everything that it would boot, in its order, spends the tries and says that there is nothing left.

mod bench;
pub(crate) mod disk;
mod environment_choice;
pub(crate) mod own;
mod own_choice;
mod table_choice;

pub use bench::{Bench, Machine};

use anyhow::Result;

/// A scenario of the loader alone.
#[derive(Clone, Copy, Debug)]
pub struct LoaderScenario {
    pub name: &'static str,
    pub machine: Machine,
    pub run: fn(&mut Bench) -> Result<()>,
}

/// All of them.
pub const SCENARIOS: &[LoaderScenario] = &[
    LoaderScenario {
        name: "uboot-choice",
        machine: Machine::Virt,
        run: |bench| table_choice::run(bench, |_| true),
    },
    LoaderScenario {
        // The slower machine gets a part of the cases.
        name: "uboot-choice",
        machine: Machine::Pi3,
        run: |bench| table_choice::run(bench, |number| number % 5 < 3),
    },
    LoaderScenario {
        name: "uboot-environment-choice",
        machine: Machine::Virt,
        run: environment_choice::run,
    },
    LoaderScenario {
        name: "uboot-own-environment-choice",
        machine: Machine::Own,
        run: own_choice::run,
    },
];
