//! The clock and the dice of the running system.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::Moment;

/// This moment. Only a machine without the clock `CLOCK_BOOTTIME` has none, and Linux has had it since 2011; there the
/// time stands still and nothing is due.
#[must_use]
pub fn now() -> Moment {
    match clock_gettime(ClockId::CLOCK_BOOTTIME) {
        Ok(time) => Moment(Duration::from(time)),
        Err(errno) => {
            log::error!("read the clock: {errno}");
            Moment::default()
        }
    }
}

/// A number for [`super::Schedule`]; nothing that has to be secret comes from it.
#[must_use]
pub fn random() -> u64 {
    // The standard library seeds each of these from the kernel.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_run_backwards_and_numbers_differ() {
        let first = now();
        assert!(first > Moment::default() && now() >= first);
        let numbers: std::collections::HashSet<u64> = (0..100).map(|_| random()).collect();
        assert_eq!(numbers.len(), 100);
    }
}
