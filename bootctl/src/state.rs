//! The boot state of a disk and the rule by which every loader of ours picks a slot from it.

use crate::{Attributes, Slot};

/// The boot attributes of both slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootState {
    pub a: Attributes,
    pub b: Attributes,
}

impl BootState {
    /// The attributes of one slot.
    #[must_use]
    pub const fn get(&self, slot: Slot) -> Attributes {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }

    /// This state with one slot's attributes replaced.
    #[must_use]
    pub const fn with(mut self, slot: Slot, attributes: Attributes) -> Self {
        match slot {
            Slot::A => self.a = attributes,
            Slot::B => self.b = attributes,
        }
        self
    }

    /// The slot that a loader tries first (Flatcar's `gptprio.next`): the candidate of highest priority, the first
    /// slot on a tie, never priority 0.
    #[must_use]
    pub fn next(&self) -> Option<Slot> {
        self.best(Attributes::is_candidate)
    }

    /// The confirmed candidate of highest priority, the first slot on a tie.
    #[must_use]
    pub fn best_confirmed(&self) -> Option<Slot> {
        self.best(Attributes::is_confirmed)
    }

    fn best(&self, eligible: impl Fn(Attributes) -> bool) -> Option<Slot> {
        let mut best: Option<Slot> = None;
        for slot in Slot::ALL {
            let attributes = self.get(slot);
            let beats = best.is_none_or(|b| attributes.priority > self.get(b).priority);
            if eligible(attributes) && beats {
                best = Some(slot);
            }
        }
        best
    }
}
