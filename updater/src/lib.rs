//! Payloads, signatures, the rules of acceptance and the installation: the update engine.
//!
//! The core (`default-features = false`) is `no_std`, allocates nothing and opens nothing: it decodes, verifies, decides
//! and says which step comes next. The `std` feature adds sources, key folders, the engine that carries the steps out
//! and the `update_engine` program.
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
pub mod apply;
#[cfg(feature = "std")]
pub mod attendance;
#[cfg(feature = "std")]
pub mod bus;
#[cfg(feature = "std")]
pub mod control_socket;
#[cfg(feature = "std")]
pub mod decode;
#[cfg(feature = "std")]
pub mod engine;
#[cfg(feature = "std")]
pub mod ext4;
#[cfg(feature = "std")]
pub mod fetch;
#[cfg(feature = "std")]
mod files;
pub mod gates;
pub mod hash;
#[cfg(feature = "std")]
pub mod health;
#[cfg(feature = "std")]
pub mod incoming;
pub mod install;
#[cfg(feature = "std")]
pub mod journal;
pub mod json;
#[cfg(feature = "std")]
pub mod keys;
#[cfg(feature = "std")]
pub mod logins;
pub mod manifest;
pub mod name;
#[cfg(feature = "std")]
pub mod offline;
pub mod payload;
#[cfg(feature = "std")]
pub mod policy;
#[cfg(feature = "std")]
pub mod print;
pub mod reboot_policy;
pub mod reboot_window;
#[cfg(feature = "std")]
pub mod resume;
pub mod schedule;
#[cfg(feature = "std")]
pub mod service;
pub mod settings;
pub mod signature;
#[cfg(feature = "std")]
pub mod source;
#[cfg(feature = "std")]
pub mod stick;
pub mod table;
#[cfg(feature = "std")]
mod unprivileged;
pub mod version;

pub use hash::Digest;
pub use name::Name;
