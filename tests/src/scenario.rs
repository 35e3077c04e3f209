//! Scenarios: what a device goes through in QEMU, and what must be true of it afterwards.

pub mod damage;
mod delivery;
mod list;
mod loader;
mod platform;
mod queue;
mod rig;
mod slot;
mod spent;

pub use list::{Choice, Listed, parse_list};
pub use loader::{LoaderLine, loader_lines};
pub use platform::Platform;
pub use queue::run_all;
pub use rig::{Rig, expect};
pub use slot::Slot;

use anyhow::Result;

/// One scenario of a whole system.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub on: &'static [Platform],
    pub run: fn(&mut Rig<'_>) -> Result<()>,
}
