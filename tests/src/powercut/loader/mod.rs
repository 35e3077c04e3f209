//! What each board's loader does with a disk, as plain Rust from its description. Nothing here uses `bootctl`.

mod gpt_script;
mod gptprio;
mod grub;
mod uboot_env;

pub use uboot_env::places;

use super::disk::SimDisk;
use super::fixture::{Board, Fixture};
use super::parse::{Attr, State, best, uuid};
use super::release::{Number, Quality};

/// What the loader tells the kernel of its environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Env {
    Ok,
    Lost,
    ReadOnly,
}

/// A slot that the loader tried to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub slot: usize,
    /// The release that is there; `None` for anything that is no complete image.
    pub content: Option<Number>,
    /// It was chosen by a store that does not call it confirmed.
    pub on_trial: bool,
    /// Its kernel was found and started. Of an incomplete image we assume the worst.
    pub loaded: bool,
    pub env: Env,
    /// Tries that it has left, as the loader says.
    pub tries: u8,
    /// What the loader says of the partition table.
    pub table: &'static str,
    /// PARTUUIDs on the kernel's command line.
    pub usr_id: String,
    pub root_id: String,
}

/// One start of the machine: every slot that the loader tried, the last of which runs if it was loaded.
#[must_use]
pub fn boot(fixture: &Fixture, disk: &mut SimDisk) -> Vec<Attempt> {
    match fixture.board {
        Board::X86Grub => grub::boot(fixture, disk),
        Board::RpiUboot => gpt_script::boot(fixture, disk),
        Board::Arm64Env | Board::Arm64Redundant => uboot_env::boot(fixture, disk),
        Board::X86Gptprio => gptprio::boot(fixture, disk),
    }
}

/// The slot's partition, as the kernel would find it by the ids that the loader names.
fn attempt(
    fixture: &Fixture,
    disk: &SimDisk,
    (slot, on_trial): (usize, bool),
    (env, tries): (Env, u8),
    ids: [String; 2],
) -> Attempt {
    let content = fixture.content(&disk.now(), slot);
    let quality = content.and_then(|number| fixture.releases.get(number));
    let [usr_id, root_id] = ids;
    Attempt {
        slot,
        content,
        on_trial,
        loaded: quality.is_none_or(|release| release.quality != Quality::NoKernel),
        env,
        tries,
        table: "ok",
        usr_id,
        root_id,
    }
}

/// Ids of a slot and of ROOT in a table.
fn ids(table: &super::parse::Table, slot: usize) -> [String; 2] {
    [uuid(table.guid(3 + slot)), uuid(table.guid(9))]
}

/// What all our scripts do with a readable state: the best candidate first, a try spent before it is loaded, what does
/// not load ruled out. `spend` writes the new state and says whether it is known to be there.
fn follow_the_rule(
    fixture: &Fixture,
    disk: &mut SimDisk,
    (mut state, mut env): (State, Env),
    ids: impl Fn(usize) -> [String; 2],
    mut spend: impl FnMut(&mut SimDisk, &State) -> bool,
) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut seen = [false; 2];
    for _ in 0..2 {
        let fit = |slot: usize, attr: Attr| {
            let fit = attr.successful || (attr.tries > 0 && env == Env::Ok);
            fit && !seen.get(slot).copied().unwrap_or(true)
        };
        let Some(slot) = best(&state, fit) else { break };
        let Some(attr) = state.get_mut(slot) else {
            break;
        };
        let was = *attr;
        let mut left = was.tries;
        if attr.tries > 0 {
            attr.tries -= 1;
            left = attr.tries;
            if env != Env::Ok || !spend(disk, &state) {
                env = Env::ReadOnly;
                left = was.tries;
                if let Some(attr) = state.get_mut(slot) {
                    *attr = was;
                }
            }
        }
        if let Some(seen) = seen.get_mut(slot) {
            *seen = true;
        }
        if env == Env::ReadOnly && !was.successful {
            continue;
        }
        let tried = attempt(
            fixture,
            disk,
            (slot, !was.successful),
            (env, left),
            ids(slot),
        );
        let loaded = tried.loaded;
        attempts.push(tried);
        if loaded {
            break;
        }
    }
    attempts
}

#[cfg(test)]
mod tests;
