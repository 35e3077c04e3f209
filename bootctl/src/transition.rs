//! The transitions of the boot state, as pure functions from a state to the next one and to the order of the writes.
//!
//! A transition that takes bootability away goes to the confirmed record, the authority and the mirror in that order;
//! one that gives it goes to the mirror and then to the authority, whose write is the moment it takes effect. Whoever
//! executes a [`Plan`] flushes each step before the next, writes nothing for a step whose target already holds the
//! value, and leaves the mirror steps out where the GPT itself is the authority.

use heapless::Vec;

use crate::{Attributes, BootState, Priority, Slot, Tries};

/// Tries that a slot is given when it goes on trial: 1–9, one decimal digit in every store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TryCount(u8);

impl TryCount {
    /// What a slot gets when nobody says otherwise.
    pub const DEFAULT: Self = Self(3);

    /// `None` unless 1–9.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value >= 1 && value <= 9 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// 1–9.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The same number as an attribute.
    #[must_use]
    pub fn tries(self) -> Tries {
        Tries::new(self.0).unwrap_or(Tries::DEFAULT)
    }
}

impl Default for TryCount {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a transition is not allowed (exit code 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "active slot {slot} is not confirmed ({attributes}); confirm it first with mark-successful"
    )]
    ActiveNotConfirmed { slot: Slot, attributes: Attributes },
    #[error("slot {slot} is the active slot")]
    TargetIsActive { slot: Slot },
    #[error("slot {slot} has no valid slot record (--unverified overrides)")]
    NoSlotRecord { slot: Slot },
    #[error("slot {slot} is not a candidate ({attributes})")]
    NotCandidate { slot: Slot, attributes: Attributes },
    #[error("active slot {slot} has priority 0 ({attributes}), so no loader would boot it again")]
    PriorityZero { slot: Slot, attributes: Attributes },
}

/// Whether a transition that leaves only the active slot wants that slot confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The active slot must be confirmed, so that the disk never loses its last confirmed slot.
    Required,
    /// It may be on trial: the user forced that by name.
    Waived,
}

/// One durable write of a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The confirmed record names this slot.
    ConfirmedRecord(Slot),
    /// The mirror (GPT attributes of a board whose authority is another store) holds this state.
    Mirror(BootState),
    /// The store that the loader reads holds this state.
    Authority(BootState),
}

/// The state after a transition and the writes that lead there, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub state: BootState,
    pub steps: Vec<Step, 4>,
}

impl Plan {
    fn new(state: BootState, steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            state,
            steps: steps.into_iter().take(4).collect(),
        }
    }
}

/// `target` becomes P0 T0 S0: no loader boots it any more.
///
/// # Errors
/// `target` is the active slot, or the active slot is not confirmed.
pub fn mark_unbootable(
    state: BootState,
    active: Slot,
    target: Slot,
    fallback: Fallback,
) -> Result<Plan, Refusal> {
    passive_and_confirmed(state, active, target, fallback)?;
    let next = state.with(target, Attributes::UNBOOTABLE);
    Ok(Plan::new(
        next,
        [
            Step::ConfirmedRecord(active),
            Step::Authority(next),
            Step::Mirror(next),
        ],
    ))
}

/// `target` goes on trial with `tries` tries and is preferred; the other slot keeps its tries and success and becomes
/// second. `proven` says that the target has a valid slot record, or that the user waived it.
///
/// # Errors
/// `target` is the active slot, the active slot is not confirmed, or `target` is not proven.
pub fn activate(
    state: BootState,
    active: Slot,
    target: Slot,
    tries: TryCount,
    proven: bool,
    fallback: Fallback,
) -> Result<Plan, Refusal> {
    passive_and_confirmed(state, active, target, fallback)?;
    if !proven {
        return Err(Refusal::NoSlotRecord { slot: target });
    }
    let second = Attributes {
        priority: Priority::LOW,
        ..state.get(active)
    };
    let next = state.with(target, on_trial(tries)).with(active, second);
    Ok(giving(Some(active), next))
}

/// The active slot has proven itself: T0 S1, its priority kept, and a newer staged slot left alone.
///
/// # Errors
/// The active slot has priority 0: somebody took it out of the selection after it booted.
pub fn mark_successful(state: BootState, active: Slot) -> Result<Plan, Refusal> {
    let attributes = state.get(active);
    if attributes.priority == Priority::NEVER {
        return Err(Refusal::PriorityZero {
            slot: active,
            attributes,
        });
    }
    let proven = Attributes {
        tries: Tries::NONE,
        successful: true,
        ..attributes
    };
    let next = state.with(active, proven);
    Ok(Plan::new(
        next,
        [
            Step::Mirror(next),
            Step::Authority(next),
            Step::ConfirmedRecord(active),
        ],
    ))
}

/// The passive slot is preferred from the next boot on. When both slots are confirmed it goes on trial with `tries`
/// tries, so that it too must prove itself; otherwise both keep their tries and success.
///
/// # Errors
/// The passive slot is not a candidate.
pub fn rollback(state: BootState, active: Slot, tries: TryCount) -> Result<Plan, Refusal> {
    let passive = active.other();
    let attributes = state.get(passive);
    if !attributes.is_candidate() {
        return Err(Refusal::NotCandidate {
            slot: passive,
            attributes,
        });
    }
    let preferred = if attributes.successful && state.get(active).is_confirmed() {
        on_trial(tries)
    } else {
        Attributes {
            priority: Priority::HIGH,
            ..attributes
        }
    };
    let second = Attributes {
        priority: Priority::LOW,
        ..state.get(active)
    };
    let next = state.with(passive, preferred).with(active, second);
    Ok(giving(next.best_confirmed(), next))
}

/// The state of an environment that was lost, from the mirror and the slot of the confirmed record. Tries are never
/// given back: a slot that was on trial becomes unbootable. The record's slot is bootable afterwards and preferred
/// over one that the mirror alone calls confirmed; `None` when neither source knows a confirmed slot.
#[must_use]
pub fn rebuild(mirror: BootState, recorded: Option<Slot>) -> Option<BootState> {
    let confirmed = |priority| Attributes {
        priority,
        tries: Tries::NONE,
        successful: true,
    };
    let unknown = recorded.filter(|&slot| !mirror.get(slot).is_confirmed());
    let best = unknown.or(mirror.best_confirmed())?;
    // A foreign edit of the mirror may hold a priority that has no digit in an environment.
    let foreign = Slot::ALL
        .into_iter()
        .any(|slot| mirror.get(slot).priority > Priority::HIGH);
    let mut state = BootState::default();
    for slot in Slot::ALL {
        let attributes = mirror.get(slot);
        if slot == best && (foreign || unknown.is_some()) {
            state = state.with(slot, confirmed(Priority::HIGH));
        } else if attributes.is_confirmed() && (foreign || unknown.is_some()) {
            state = state.with(slot, confirmed(Priority::LOW));
        } else if attributes.is_confirmed() {
            state = state.with(slot, confirmed(attributes.priority));
        }
    }
    Some(state)
}

/// The mirror differs from the authority at most by tries that the loader has spent since it was written.
#[must_use]
pub fn mirror_follows(mirror: BootState, authority: BootState) -> bool {
    Slot::ALL.into_iter().all(|slot| {
        let (old, now) = (mirror.get(slot), authority.get(slot));
        old.priority == now.priority && old.successful == now.successful && now.tries <= old.tries
    })
}

/// Mirror, then authority. Before both the confirmed record must name the slot that stays confirmed, because the
/// loader boots the record's slot without a try when the environment is lost.
fn giving(confirmed: Option<Slot>, next: BootState) -> Plan {
    let record = confirmed.map(Step::ConfirmedRecord);
    let stores = [Step::Mirror(next), Step::Authority(next)];
    Plan::new(next, record.into_iter().chain(stores))
}

fn on_trial(tries: TryCount) -> Attributes {
    Attributes {
        priority: Priority::HIGH,
        tries: tries.tries(),
        successful: false,
    }
}

fn passive_and_confirmed(
    state: BootState,
    active: Slot,
    target: Slot,
    fallback: Fallback,
) -> Result<(), Refusal> {
    if target == active {
        return Err(Refusal::TargetIsActive { slot: target });
    }
    let attributes = state.get(active);
    if !attributes.is_confirmed() && fallback == Fallback::Required {
        return Err(Refusal::ActiveNotConfirmed {
            slot: active,
            attributes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
