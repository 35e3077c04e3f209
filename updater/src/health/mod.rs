//! Health: whether the running slot has proven itself.

pub mod checks;
pub mod run;
