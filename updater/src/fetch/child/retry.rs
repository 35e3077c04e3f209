//! When to try again.

use std::time::Duration;

use crate::fetch::options::Patience;

/// An attempt that brought this much counts as one that got on.
const PROGRESS: u64 = 16 << 10;
/// Before the attempt that follows one that got on.
const AFTER_PROGRESS: u64 = 100;

/// Counts the attempts that brought nothing.
#[derive(Debug)]
pub struct Retry {
    patience: Patience,
    in_vain: u32,
    has_begun: bool,
}

impl Retry {
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            in_vain: 0,
            has_begun: false,
        }
    }

    /// The time to wait after an attempt that brought `bytes`, or none if it was the last. `asked` is what the server
    /// wants; `random` makes devices that broke off together come back one by one.
    pub fn after(&mut self, bytes: u64, asked: Option<Duration>, random: u16) -> Option<Duration> {
        self.has_begun |= bytes > 0;
        self.in_vain = match bytes >= PROGRESS {
            true => 0,
            false => self.in_vain.saturating_add(1),
        };
        let patience = &self.patience;
        let attempts = match self.has_begun {
            true => patience.attempts_to_go_on,
            false => patience.attempts_to_begin,
        };
        if self.in_vain >= attempts {
            return None;
        }
        let longest = Duration::from_millis(patience.longest_wait);
        let wait = match self.in_vain.checked_sub(1) {
            None => AFTER_PROGRESS.min(patience.first_wait),
            Some(doublings) => 1_u64
                .checked_shl(doublings)
                .unwrap_or(u64::MAX)
                .saturating_mul(patience.first_wait)
                .min(patience.longest_wait),
        };
        // Between half of it and all of it.
        let half = wait / 2;
        let jitter = half.saturating_mul(u64::from(random)) / u64::from(u16::MAX);
        let wait = Duration::from_millis(half.saturating_add(jitter));
        match asked {
            Some(asked) if asked > longest => None,
            Some(asked) => Some(wait.max(asked)),
            None => Some(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(retry: &mut Retry, bytes: u64, random: u16) -> Vec<u128> {
        let mut waits = Vec::new();
        while let Some(wait) = retry.after(bytes, None, random) {
            waits.push(wait.as_millis());
            if waits.len() > 1000 {
                break;
            }
        }
        waits
    }

    #[test]
    fn waits_grow_and_end() {
        let mut retry = Retry::new(Patience::default());
        assert_eq!(waits(&mut retry, 0, u16::MAX), [1000, 2000, 4000, 8000]);
        let mut retry = Retry::new(Patience::default());
        assert_eq!(waits(&mut retry, 0, 0), [500, 1000, 2000, 4000]);
        let mut retry = Retry::new(Patience::default());
        let late = waits(&mut retry, 1, u16::MAX);
        assert_eq!(late.len(), 19);
        assert_eq!(late.iter().max(), Some(&120_000));
    }

    #[test]
    fn a_link_that_breaks_every_29_kilobytes_gets_through() {
        let mut retry = Retry::new(Patience::default());
        assert!((0..100_000).all(|_| retry.after(29_000, None, 7).is_some()));
        // One that brings a byte each time does not.
        assert_eq!(waits(&mut retry, 1, 0).len(), 19);
    }

    #[test]
    fn the_server_may_ask_for_more_but_not_for_everything() {
        let mut retry = Retry::new(Patience::default());
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(retry.after(0, asked(30), 0), asked(30));
        assert_eq!(retry.after(0, asked(3600), 0), None);
    }
}
