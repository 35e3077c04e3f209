//! Scenarios: what a device goes through in QEMU, and what must be true of it afterwards.

pub mod damage;
mod list;
mod loader;
mod rig;

pub use list::{Choice, Listed, Platform, parse_list};
pub use loader::{LoaderLine, loader_lines};
pub use rig::{Rig, Slot, expect};

use anyhow::Result;

/// One scenario of a whole system; it runs with each firmware of a PC.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&mut Rig<'_>) -> Result<()>,
}
