//! A light that shows a pattern while its program does something else.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use embedded_hal::digital::OutputPin;

use super::gpio;
use crate::led::{Led, Pattern};
use crate::pins::{LED, Pin};

/// How often one asks for a light that somebody else has.
const AGAIN: Duration = Duration::from_millis(500);

/// The light shows the pattern until another follows or this is dropped; it is dark then.
#[derive(Debug)]
pub struct Signal {
    patterns: Option<Sender<Pattern>>,
    thread: Option<JoinHandle<()>>,
}

/// There is a light, but it can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    #[error("read {LED} of the kernel command line: {0}")]
    Pin(#[from] crate::pins::NotAPin),
    #[error(transparent)]
    Gpio(#[from] gpio::GpioError),
    #[error("show a pattern: {0}")]
    Thread(#[from] io::Error),
}

impl Signal {
    /// Shows a pattern on the light that a kernel command line names; `None` if it names none.
    ///
    /// # Errors
    /// The light can't be used. Nothing is worth stopping for that.
    pub fn of(cmdline: &str, pattern: Pattern) -> Result<Option<Self>, SignalError> {
        match Pin::of(cmdline, LED)? {
            None => Ok(None),
            Some(pin) => Ok(Some(Self::on(gpio::led(pin)?, pattern)?)),
        }
    }

    /// The same, and while somebody else has the light it waits: for some seconds after the start of the machine the
    /// light says how the last trial ended.
    ///
    /// # Errors
    /// The light can't be used, and not because somebody has it.
    pub fn when_free(cmdline: &str, pattern: Pattern) -> Result<Option<Self>, SignalError> {
        let Some(pin) = Pin::of(cmdline, LED)? else {
            return Ok(None);
        };
        let signal = match gpio::led(pin) {
            Ok(led) => Self::on(led, pattern)?,
            Err(_) if gpio::is_taken(pin) => Self::taking(move || gpio::led(pin).ok(), pattern)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(signal))
    }

    /// Shows a pattern on any light.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn on<P>(led: Led<P>, pattern: Pattern) -> io::Result<Self>
    where
        P: OutputPin + Send + 'static,
    {
        let mut led = Some(led);
        Self::taking(move || led.take(), pattern)
    }

    /// Shows a pattern as soon as `take` gives a light.
    fn taking<P>(
        mut take: impl FnMut() -> Option<Led<P>> + Send + 'static,
        pattern: Pattern,
    ) -> io::Result<Self>
    where
        P: OutputPin + Send + 'static,
    {
        let (patterns, next) = mpsc::channel();
        let thread = thread::Builder::new().spawn(move || {
            let mut pattern = pattern;
            let mut led = loop {
                if let Some(led) = take() {
                    break led;
                }
                match next.recv_timeout(AGAIN) {
                    Ok(new) => pattern = new,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            };
            // An error of the pin ends the show and nothing else.
            'patterns: loop {
                for step in pattern.steps() {
                    if led.set(step.lit).is_err() {
                        break 'patterns;
                    }
                    match next.recv_timeout(Duration::from_millis(step.ms.into())) {
                        Ok(new) => {
                            pattern = new;
                            continue 'patterns;
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break 'patterns,
                    }
                }
            }
            led.set(false).ok();
        })?;
        Ok(Self {
            patterns: Some(patterns),
            thread: Some(thread),
        })
    }

    /// Goes on with another pattern, from its beginning.
    pub fn show(&self, pattern: Pattern) {
        if let Some(patterns) = &self.patterns {
            // The show may be over.
            patterns.send(pattern).ok();
        }
    }

    /// Shows one round of a pattern, `times` over, and ends.
    pub fn finish(self, pattern: Pattern, times: u32) {
        self.show(pattern);
        let round: u32 = pattern.steps().iter().map(|step| step.ms).sum();
        thread::sleep(Duration::from_millis(round.into()) * times);
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        drop(self.patterns.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Line;

    #[test]
    fn a_pattern_is_shown_until_another_follows_and_then_it_is_dark() {
        let line = Line::default();
        let signal = Signal::on(Led::new(line.clone(), false), Pattern::Writing).unwrap();
        let switched = |times| {
            while line.history.lock().unwrap().len() < times {
                thread::sleep(Duration::from_millis(1));
            }
        };
        switched(3);
        signal.show(Pattern::OnTrial);
        switched(4);
        drop(signal);
        assert!(!line.is_high());
        let history = line.history.lock().unwrap();
        assert_eq!(history[..3], [true, false, true]);
    }

    /// An installation that began while the light still said how the last trial had ended stayed dark to its end.
    #[test]
    fn a_light_that_somebody_has_is_taken_when_they_give_it_back() {
        let line = Line::default();
        let mut asked = 0;
        let mut led = Some(Led::new(line.clone(), false));
        let take = move || {
            asked += 1;
            (asked > 2).then(|| led.take()).flatten()
        };
        let signal = Signal::taking(take, Pattern::OnTrial).unwrap();
        signal.show(Pattern::Writing);
        while line.history.lock().unwrap().len() < 4 {
            thread::sleep(Duration::from_millis(1));
        }
        drop(signal);
        assert!(!line.is_high());
        // Nobody waits for one that never comes.
        let never = || -> Option<Led<Line>> { None };
        drop(Signal::taking(never, Pattern::Good).unwrap());
    }

    #[test]
    fn a_light_that_breaks_stops_nobody() {
        let line = Line::default();
        line.fail();
        let signal = Signal::on(Led::new(line, true), Pattern::Failed).unwrap();
        signal.show(Pattern::Good);
        drop(signal);
    }

    #[test]
    fn a_board_without_a_light_is_dark() {
        assert!(Signal::of("quiet", Pattern::Good).unwrap().is_none());
        assert!(Signal::of("tandem.led=17", Pattern::Good).is_err());
        assert!(Signal::of("tandem.led=gpiochip255/1", Pattern::Good).is_err());
        assert!(Signal::when_free("tandem.led=gpiochip255/1", Pattern::Good).is_err());
    }
}
