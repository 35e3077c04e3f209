//! A limit for the rate of a download.

use std::time::{Duration, Instant};

/// Bytes that may come at once, in parts of a second's worth.
const BURST_PARTS: u64 = 4;

/// A bucket that fills with time and that bytes are taken from.
#[derive(Debug)]
pub struct Pace {
    rate: u64,
    /// Bytes taken that time has not paid for yet.
    debt: u64,
    /// Until when it has paid.
    paid_until: Option<Instant>,
}

impl Pace {
    /// `rate` in bytes a second, at least 1.
    pub fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1),
            debt: 0,
            paid_until: None,
        }
    }

    /// The most that should be read at once.
    pub fn chunk(&self) -> usize {
        let chunk = (self.rate / BURST_PARTS).max(1);
        usize::try_from(chunk).unwrap_or(usize::MAX)
    }

    /// Counts `bytes` that have come at `now`; the time to wait before the next. All time between two calls pays, that of
    /// the wait too.
    pub fn took(&mut self, bytes: usize, now: Instant) -> Duration {
        let before = self.paid_until.replace(now).unwrap_or(now);
        let elapsed = now.saturating_duration_since(before);
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
        let start = Instant::now();
        let mut clock = start;
        for _ in 0..bytes / chunk {
            clock += each;
            clock += pace.took(chunk, clock);
        }
        (clock - start).as_secs_f64()
    }

    #[test]
    fn a_fast_link_is_held_to_the_rate_and_a_slow_one_left_alone() {
        let fast = seconds(100_000, 10_000_000, 25_000, Duration::from_millis(1));
        assert!((99.0..101.0).contains(&fast), "{fast}");
        let slow = seconds(100_000, 1_000_000, 10_000, Duration::from_millis(500));
        assert!((50.0..50.2).contains(&slow), "{slow}");
    }

    #[test]
    fn a_silly_rate_divides_by_nothing() {
        let mut pace = Pace::new(0);
        assert_eq!(pace.chunk(), 1);
        assert!(pace.took(usize::MAX, Instant::now()) > Duration::from_secs(1000));
        let mut endless = Pace::new(u64::MAX);
        let start = Instant::now();
        endless.took(1, start);
        let later = start + Duration::from_secs(1);
        assert_eq!(endless.took(1, later), Duration::ZERO);
    }

    #[test]
    fn the_pauses_of_a_long_download_do_not_grow() {
        let mut pace = Pace::new(100_000);
        let mut clock = Instant::now();
        for _ in 0..1000 {
            let pause = pace.took(25_000, clock);
            assert!(pause <= Duration::from_millis(251), "{pause:?}");
            clock += pause;
        }
    }
}
