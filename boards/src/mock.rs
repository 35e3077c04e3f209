//! Pins and time for tests.

use core::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use embedded_hal::delay::DelayNs;
use embedded_hal::digital::{Error, ErrorKind, ErrorType, InputPin, OutputPin};

/// A line that both sides see.
#[derive(Clone, Debug, Default)]
pub struct Line {
    high: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
    /// Every level that was set, in order.
    pub history: Arc<Mutex<Vec<bool>>>,
}

#[derive(Debug)]
pub struct Broken;

impl Error for Broken {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Other
    }
}

impl Line {
    pub fn set(&self, high: bool) {
        self.high.store(high, Ordering::SeqCst);
    }

    pub fn is_high(&self) -> bool {
        self.high.load(Ordering::SeqCst)
    }

    pub fn fail(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), Broken> {
        match self.broken.load(Ordering::SeqCst) {
            true => Err(Broken),
            false => Ok(()),
        }
    }
}

impl ErrorType for Line {
    type Error = Broken;
}

impl OutputPin for Line {
    fn set_low(&mut self) -> Result<(), Broken> {
        self.check()?;
        self.history.lock().unwrap().push(false);
        self.set(false);
        Ok(())
    }

    fn set_high(&mut self) -> Result<(), Broken> {
        self.check()?;
        self.history.lock().unwrap().push(true);
        self.set(true);
        Ok(())
    }
}

impl InputPin for Line {
    fn is_high(&mut self) -> Result<bool, Broken> {
        self.check()?;
        Ok(Self::is_high(self))
    }

    fn is_low(&mut self) -> Result<bool, Broken> {
        Ok(!InputPin::is_high(self)?)
    }
}

/// Time that passes when somebody waits.
#[derive(Debug, Default)]
pub struct Clock {
    now: Duration,
    event: Option<(Duration, Line, bool)>,
}

impl Clock {
    /// What becomes of a line at a time.
    pub fn at(&mut self, time: Duration, line: Line, high: bool) {
        self.event = Some((time, line, high));
    }

    pub fn elapsed(&self) -> Duration {
        self.now
    }
}

impl DelayNs for Clock {
    fn delay_ns(&mut self, ns: u32) {
        self.now += Duration::from_nanos(ns.into());
        if let Some((time, line, high)) = &self.event
            && self.now >= *time
        {
            line.set(*high);
        }
    }
}
