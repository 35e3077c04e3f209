//! Pins through the kernel's GPIO character devices.

use linux_embedded_hal::CdevPin;
use linux_embedded_hal::gpio_cdev::{Chip, LineRequestFlags, errors};

use crate::button::Button;
use crate::led::Led;
use crate::pins::Pin;

/// The name by which `gpioinfo` shows who has a line.
const CONSUMER: &str = "tandem";

/// A pin can't be used.
#[derive(Debug, thiserror::Error)]
#[error("use pin {pin}: {cause}")]
pub struct GpioError {
    pin: Pin,
    cause: errors::Error,
}

/// The light on a pin, dark. The pin is given back when it is dropped.
///
/// # Errors
/// There is no such chip or line, or another program or driver has it.
pub fn led(pin: Pin) -> Result<Led<CdevPin>, GpioError> {
    let dark = u8::from(pin.active_low);
    let line = request(pin, LineRequestFlags::OUTPUT, dark)?;
    Ok(Led::new(line, pin.active_low))
}

/// Whether a program or a driver has the pin.
#[must_use]
pub fn is_taken(pin: Pin) -> bool {
    Chip::new(format!("/dev/gpiochip{}", pin.chip))
        .and_then(|mut chip| chip.get_line(pin.line))
        .and_then(|line| line.info())
        .is_ok_and(|info| info.is_used())
}

/// The button on a pin.
///
/// # Errors
/// There is no such chip or line, or another program or driver has it.
pub fn button(pin: Pin) -> Result<Button<CdevPin>, GpioError> {
    let line = request(pin, LineRequestFlags::INPUT, 0)?;
    Ok(Button::new(line, pin.active_low))
}

fn request(pin: Pin, flags: LineRequestFlags, value: u8) -> Result<CdevPin, GpioError> {
    let failed = |cause| GpioError { pin, cause };
    Chip::new(format!("/dev/gpiochip{}", pin.chip))
        .and_then(|mut chip| chip.get_line(pin.line))
        .and_then(|line| line.request(flags, value, CONSUMER))
        .and_then(CdevPin::new)
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_that_is_not_there_is_named() {
        let pin = Pin {
            chip: 255,
            line: 3,
            active_low: true,
        };
        let error = led(pin).err().unwrap().to_string();
        assert!(error.starts_with("use pin gpiochip255/3/low: "), "{error}");
    }
}
