//! Health: whether the running slot has proven itself.
//!
//! A confirmed slot costs no write; what the loader came back from is told once. A slot on trial passes the built-in
//! check ([`announcement`]), then the executables in `required.d` ([`checks`], [`run`]), and is confirmed; those in
//! `wanted.d` only warn. One that fails leaves its reason in the journal, for the slot that the loader falls back to.

pub mod announcement;
pub mod checks;
pub mod checkup;
pub mod evidence;
pub mod os_release;
pub mod reboot;
pub mod run;
mod system;
mod trial;

pub use checkup::{Checkup, Verdict};
pub use system::{HealthError, System};
pub use trial::Failure;
