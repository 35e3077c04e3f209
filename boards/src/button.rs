//! The recovery button: held while the machine starts, it boots the other slot once.

use core::time::Duration;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::InputPin;

/// How long it has to be held: longer than a contact bounces or a cable picks something up.
pub const HOLD: Duration = Duration::from_secs(2);
/// Time between two looks, in milliseconds.
const LOOK_MS: u32 = 20;

/// A button on a pin.
#[derive(Debug)]
pub struct Button<P> {
    pin: P,
    active_low: bool,
}

impl<P: InputPin> Button<P> {
    pub const fn new(pin: P, active_low: bool) -> Self {
        Self { pin, active_low }
    }

    /// Whether it is pressed now.
    ///
    /// # Errors
    /// The pin's.
    pub fn is_pressed(&mut self) -> Result<bool, P::Error> {
        Ok(self.pin.is_high()? != self.active_low)
    }

    /// Whether it is pressed now and stays so for `time`. One that is not pressed costs no time.
    ///
    /// # Errors
    /// The pin's.
    pub fn is_held(&mut self, time: Duration, delay: &mut impl DelayNs) -> Result<bool, P::Error> {
        let looks = time.as_millis() / u128::from(LOOK_MS);
        for _ in 0..looks {
            if !self.is_pressed()? {
                return Ok(false);
            }
            delay.delay_ms(LOOK_MS);
        }
        self.is_pressed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::{Clock, Line};

    #[test]
    fn a_held_button_is_held_all_the_time() {
        let (line, mut clock) = (Line::default(), Clock::default());
        line.set(true);
        let mut button = Button::new(line, false);
        assert!(button.is_held(HOLD, &mut clock).unwrap());
        assert_eq!(clock.elapsed(), HOLD);
    }

    #[test]
    fn a_button_that_is_not_pressed_costs_no_time() {
        let mut clock = Clock::default();
        let mut button = Button::new(Line::default(), false);
        assert!(!button.is_held(HOLD, &mut clock).unwrap());
        assert_eq!(clock.elapsed(), Duration::ZERO);
    }

    #[test]
    fn a_bounce_is_not_a_hold() {
        let (line, mut clock) = (Line::default(), Clock::default());
        line.set(true);
        clock.at(HOLD / 2, line.clone(), false);
        let mut button = Button::new(line, false);
        assert!(!button.is_held(HOLD, &mut clock).unwrap());
    }

    #[test]
    fn pressed_may_be_low_and_an_error_is_not_pressed() {
        let line = Line::default();
        assert!(Button::new(line.clone(), true).is_pressed().unwrap());
        line.fail();
        assert!(Button::new(line, true).is_pressed().is_err());
    }
}
