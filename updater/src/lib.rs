#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]

#[cfg(feature = "std")]
pub mod health;
#[cfg(feature = "std")]
pub mod journal;
pub mod settings;
