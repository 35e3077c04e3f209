//! Slots, boot state and the stores that loaders read it from.
//!
//! The core (`default-features = false`) is `no_std` and opens nothing: it decodes, decides and plans, and reaches a
//! disk only through [`BlockIo`]. The `std` feature adds block devices, locks, active-slot discovery and the
//! `tandem-bootctl` program.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
pub mod active;
pub mod attributes;
pub mod block_io;
pub mod confirmed;
pub mod control;
pub mod descriptor;
#[cfg(feature = "std")]
pub mod disk;
pub mod exit;
pub mod gpt;
pub mod grub_env;
#[cfg(feature = "std")]
pub mod ioctl;
pub mod slot;
pub mod slot_record;
pub mod state;
pub mod store;
#[cfg(feature = "std")]
pub mod transaction;
pub mod transition;
pub mod uboot_env;
pub mod vars;

pub use attributes::{Attributes, Priority, Tries};
pub use block_io::{BlockIo, SectorSize};
pub use slot::Slot;
pub use state::BootState;
