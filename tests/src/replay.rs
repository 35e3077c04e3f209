//! Power cuts of a real update: QEMU records every write and flush of a real guest, the loader's own among them, while
//! it is updated. The record is replayed to every flush and to samples of what may survive between two of them; each
//! medium is judged by a model of the loader, and some are booted by the real one.
//!
//! Nothing here uses `bootctl`.

mod boot;
mod judge;
mod loader;
mod log;
mod media;
mod medium;
mod places;
mod record;
mod sample;

pub use boot::{Booted, boot, images};
pub use judge::{Judge, Judgement};
pub use log::{Event, Log};
pub use media::{Cut, Found, choose, judge_all};
pub use medium::{Base, Replay};
pub use places::{Place, Places};
pub use record::{Known, Mark, Recording, record};

#[cfg(test)]
mod tests;
