//! What a device goes through: all scenarios, one file a subject.

mod board;
mod choice;
mod disk;
mod environment;
mod faults;
mod policy;
mod power;
mod update;

use crate::scenario::Scenario;

/// All of them, in the order in which they run.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        update::SCENARIOS,
        policy::SCENARIOS,
        faults::SCENARIOS,
        power::SCENARIOS,
        environment::SCENARIOS,
        disk::SCENARIOS,
        board::SCENARIOS,
        choice::SCENARIOS,
    ]
    .concat()
}
