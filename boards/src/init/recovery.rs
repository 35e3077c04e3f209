//! The recovery button: whoever holds it while the machine starts gets the other slot once.
//!
//! The other slot goes on trial with one try and the machine is reset, so that the loader boots that slot's own kernel.
//! If it proves healthy it stays; if not, the next boot is this slot's again. A slot on trial does not ask for the button:
//! one that is stuck must not send the machine back and forth for ever.

use anyhow::{Context, Result};
use bootctl::control::Control;
use bootctl::disk::{Access, Disk};
use bootctl::transition::TryCount;
use bootctl::{BootState, Slot};
use linux_embedded_hal::Delay;

use super::disks::Chosen;
use super::say;
use crate::button::HOLD;
use crate::linux::gpio;
use crate::pins::{BUTTON, Pin};

/// Whether the button is held, by the pin that the kernel command line names. Takes no time if it is not.
///
/// # Errors
/// The pin can't be used.
pub fn is_wanted(cmdline: &str) -> Result<bool> {
    let pin = Pin::of(cmdline, BUTTON).with_context(|| format!("read {BUTTON}"))?;
    let Some(pin) = pin else {
        return Ok(false);
    };
    gpio::button(pin)?
        .is_held(HOLD, &mut Delay)
        .with_context(|| format!("read button {pin}"))
}

/// Makes the other slot the next one, once. False if `slot` has to stay: the reason is on the console.
///
/// # Errors
/// The disk can't be read or written.
pub fn prefer_the_other(chosen: &Chosen, slot: Slot) -> Result<bool> {
    let disk = Disk::open(chosen.node(), Access::Write).context("open the disk for writing")?;
    let mut control = Control::open(disk).context("read the disk")?;
    let report = control.state().context("read the boot state")?;
    let other = slot.other();
    let Some(once) = report.state.and_then(|state| tries(state, slot)) else {
        say(&format!(
            "the button is held, but slot {slot} is on trial or slot {other} can't be booted"
        ));
        return Ok(false);
    };
    control
        .rollback(slot, once)
        .with_context(|| format!("prefer slot {other}"))?;
    say(&format!("the button is held: slot {other} once"));
    Ok(true)
}

/// `slot` is on trial, and the loader has another one to go to. Not so where the disk does not say.
pub fn is_on_trial(chosen: &Chosen, slot: Slot) -> bool {
    let state = || -> Result<Option<BootState>> {
        let disk = Disk::open(chosen.node(), Access::Read)?;
        Ok(Control::open(disk)?.state()?.state)
    };
    let state = state().unwrap_or_else(|error| {
        say(&format!("read the boot state: {error:#}"));
        None
    });
    state.is_some_and(|state| {
        !state.get(slot).is_confirmed() && state.get(slot.other()).is_candidate()
    })
}

/// What the other slot gets, if it may be booted instead of `slot`.
fn tries(state: BootState, slot: Slot) -> Option<TryCount> {
    let may = state.get(slot).is_confirmed() && state.get(slot.other()).is_candidate();
    may.then(|| TryCount::new(1)).flatten()
}

#[cfg(test)]
mod tests {
    use bootctl::{Attributes, Priority, Tries, transition};

    use super::*;

    fn attributes(priority: u8, tries: u8, successful: bool) -> Attributes {
        Attributes {
            priority: Priority::new(priority).unwrap(),
            tries: Tries::new(tries).unwrap(),
            successful,
        }
    }

    #[test]
    fn the_other_slot_is_booted_once_and_only_from_a_confirmed_one() {
        let confirmed = attributes(2, 0, true);
        let older = attributes(1, 0, true);
        let state = BootState {
            a: confirmed,
            b: older,
        };
        let once = tries(state, Slot::A).unwrap();
        let plan = transition::rollback(state, Slot::A, once).unwrap();
        assert_eq!(plan.state.b, attributes(2, 1, false));
        assert!(plan.state.a.is_confirmed() && plan.state.next() == Some(Slot::B));
        // The button is still held when slot b starts, on trial, its try spent.
        let spent = plan.state.with(Slot::B, attributes(2, 0, false));
        assert_eq!(tries(spent, Slot::B), None);
        for other in [
            attributes(0, 0, false),
            attributes(2, 0, false),
            attributes(0, 3, true),
        ] {
            let state = state.with(Slot::B, other);
            assert_eq!(tries(state, Slot::A), None, "{other:?}");
        }
    }

    #[test]
    fn a_board_without_a_button_wants_nothing() {
        assert!(!is_wanted("quiet tandem.led=gpiochip0/17").unwrap());
        assert!(is_wanted("tandem.button=5").is_err());
        let error = is_wanted("tandem.button=gpiochip255/5").unwrap_err();
        assert!(error.to_string().contains("gpiochip255/5"), "{error}");
    }
}
