//! What one light says.

use embedded_hal::digital::OutputPin;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// A release is being written: quick and even.
    Writing,
    /// A release is on trial: slow and even.
    OnTrial,
    /// The running release is confirmed: lit for three seconds.
    Good,
    /// A release did not prove itself, or this boot can't go on: three short flashes and a pause.
    Failed,
}

/// Lit or dark for a time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub lit: bool,
    pub ms: u32,
}

const fn on(ms: u32) -> Step {
    Step { lit: true, ms }
}

const fn off(ms: u32) -> Step {
    Step { lit: false, ms }
}

impl Pattern {
    /// One round of it.
    #[must_use]
    pub const fn steps(self) -> &'static [Step] {
        const WRITING: &[Step] = &[on(100), off(100)];
        const ON_TRIAL: &[Step] = &[on(700), off(700)];
        const GOOD: &[Step] = &[on(3000), off(1)];
        const FAILED: &[Step] = &[on(150), off(150), on(150), off(150), on(150), off(850)];
        match self {
            Self::Writing => WRITING,
            Self::OnTrial => ON_TRIAL,
            Self::Good => GOOD,
            Self::Failed => FAILED,
        }
    }
}

/// A light on a pin.
#[derive(Debug)]
pub struct Led<P> {
    pin: P,
    active_low: bool,
}

impl<P: OutputPin> Led<P> {
    pub const fn new(pin: P, active_low: bool) -> Self {
        Self { pin, active_low }
    }

    /// Switches it.
    ///
    /// # Errors
    /// The pin's.
    pub fn set(&mut self, lit: bool) -> Result<(), P::Error> {
        self.pin.set_state((lit != self.active_low).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Line;

    const ALL: [Pattern; 4] = [
        Pattern::Writing,
        Pattern::OnTrial,
        Pattern::Good,
        Pattern::Failed,
    ];

    #[test]
    fn patterns_differ_and_end_dark() {
        for (i, pattern) in ALL.iter().enumerate() {
            let steps = pattern.steps();
            assert!(steps.first().unwrap().lit && !steps.last().unwrap().lit);
            assert!(steps.iter().all(|step| step.ms > 0));
            assert!(ALL.iter().skip(i + 1).all(|other| other.steps() != steps));
        }
    }

    #[test]
    fn a_light_may_be_on_when_its_pin_is_low() {
        for active_low in [false, true] {
            let line = Line::default();
            let mut led = Led::new(line.clone(), active_low);
            led.set(true).unwrap();
            assert_eq!(line.is_high(), !active_low);
            led.set(false).unwrap();
            assert_eq!(line.is_high(), active_low);
        }
    }

    #[test]
    fn a_pin_that_fails_is_an_error() {
        let line = Line::default();
        line.fail();
        assert!(Led::new(line, false).set(true).is_err());
    }
}
