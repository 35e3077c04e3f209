//! What Tandem knows about each board: its loader, what the loader can read, and how a disk for it is laid out.
//!
//! The core (`default-features = false`) is data and needs no `std`. The `std` feature adds the loader scripts, which are
//! generated from `bootctl`'s constants, and `tandem-init`, the program that a slot's initramfs starts with.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

pub mod arm64_uboot_env;
pub mod board;
pub mod button;
#[cfg(feature = "std")]
pub mod init;
pub mod led;
#[cfg(feature = "std")]
pub mod linux;
#[cfg(test)]
mod mock;
pub mod pins;
pub mod raspberry_pi;
pub mod rpi3_uboot;
pub mod rpi4_uboot;
#[cfg(feature = "std")]
pub mod start;
#[cfg(feature = "std")]
pub mod uboot;
pub mod watchdog;
pub mod x86_64_grub;

pub use board::{BOARDS, Board, Filesystem, LOADER_CONTRACT, find};
