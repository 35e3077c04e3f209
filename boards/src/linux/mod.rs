//! The board's parts as Linux shows them: watchdog, light and button.

pub mod gpio;
pub mod signal;
pub mod watchdog;
