//! A limit for the rate of a download.

use std::time::Duration;

/// Bytes that may come at once, in parts of a second's worth.
const BURST_PARTS: u64 = 4;

/// A bucket that fills with time and that bytes are taken from.
#[derive(Debug)]
pub struct Pace {
    rate: u64,
    /// Bytes taken that time has not paid for yet.
    debt: u64,
}

impl Pace {
    /// `rate` in bytes a second, at least 1.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            debt: 0,
        }
    }

    /// The most that should be read at once.
    pub fn chunk(&self) -> usize {
        let chunk = (self.rate / BURST_PARTS).max(1);
        usize::try_from(chunk).unwrap_or(usize::MAX)
    }

    /// Counts `bytes` that took `elapsed` to come; the time to wait before the next.
    pub fn took(&mut self, bytes: usize, elapsed: Duration) -> Duration {
        let paid = elapsed.as_nanos().saturating_mul(u128::from(self.rate)) / 1_000_000_000;
        let paid = u64::try_from(paid).unwrap_or(u64::MAX);
        self.debt = self.debt.saturating_add(bytes as u64).saturating_sub(paid);
        let wait = u128::from(self.debt).saturating_mul(1_000_000_000) / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds that `bytes` take when each chunk of `chunk` takes `each` to arrive.
    fn seconds(rate: u64, bytes: usize, chunk: usize, each: Duration) -> f64 {
        let mut pace = Pace::new(rate);
        let mut clock = Duration::ZERO;
        let mut before = Duration::ZERO;
        for _ in 0..bytes / chunk {
            clock += each;
            let wait = pace.took(chunk, clock - before);
            before = clock;
            clock += wait;
        }
        clock.as_secs_f64()
    }

    #[test]
    fn a_fast_link_is_held_to_the_rate_and_a_slow_one_left_alone() {
        let fast = seconds(100_000, 10_000_000, 25_000, Duration::from_millis(1));
        assert!((99.0..101.0).contains(&fast), "{fast}");
        let slow = seconds(100_000, 1_000_000, 10_000, Duration::from_millis(500));
        assert!((50.0..50.1).contains(&slow), "{slow}");
    }

    #[test]
    fn a_silly_rate_divides_by_nothing() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.chunk(), 1);
        assert!(pace.took(usize::MAX, Duration::ZERO) > Duration::from_secs(1000));
        assert_eq!(Pace::new(u64::MAX).took(1, Duration::MAX), Duration::ZERO);
    }
}
