//! A hardware watchdog: it resets a machine that nobody feeds it from any more. embedded-hal 1.0 has no trait for one.

use core::time::Duration;

/// An armed watchdog. Dropped without [`release`](Self::release), it resets the machine.
pub trait Watchdog {
    type Error;

    /// The longest time from one feeding to the next, as the device has it, which may not be what it was asked for.
    fn timeout(&self) -> Duration;

    /// Starts the count anew.
    ///
    /// # Errors
    /// The device's; it goes on counting.
    fn feed(&mut self) -> Result<(), Self::Error>;

    /// Stops it, so that the machine can go on without it or another program can take it over.
    ///
    /// # Errors
    /// The device's; it is still armed then.
    fn release(self) -> Result<(), Self::Error>;
}

/// Feeding is never further apart than this, so that a hang is noticed at the same pace on every device.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);
/// No more often than this: a device that wants it is not one that a program can feed.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(250);

/// How often a device with that time-out is to be fed: twice may come to nothing.
#[must_use]
pub fn interval(timeout: Duration) -> Duration {
    (timeout / 3).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_feedings_may_fail() {
        let seconds = Duration::from_secs;
        // A Raspberry Pi's longest, i6300esb's default, the shortest that a driver can say.
        assert_eq!(interval(seconds(15)), seconds(5));
        assert_eq!(interval(seconds(30)), seconds(5));
        assert!(interval(seconds(1)) * 3 <= seconds(1));
        assert_eq!(interval(Duration::ZERO), SHORTEST_INTERVAL);
    }
}
