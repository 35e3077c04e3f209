//! What a device goes through: all scenarios, one file a subject.

mod choice;
mod disk;
mod environment;
mod faults;
mod power;
mod update;

use crate::scenario::Scenario;

/// All of them, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        update::SCENARIOS,
        faults::SCENARIOS,
        power::SCENARIOS,
        environment::SCENARIOS,
        disk::SCENARIOS,
        choice::SCENARIOS,
    ]
    .concat()
}
