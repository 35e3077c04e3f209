//! Health: whether the running slot has proven itself.

pub mod checks;
pub mod evidence;
pub mod os_release;
pub mod reboot;
pub mod run;
