//! What must be true of every medium, whatever was lost.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::loader::{self, Attributes, Choice, Confirmed, Table};
use super::log::{Event, Log, SECTOR};
use super::medium::{Key, Medium};
use super::places::{Place, Places};
use super::record::Known;
use crate::qemu::Firmware;
use crate::scenario::Slot;

/// A good medium: what the loader does with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub choice: Choice,
    /// Index of the release that the chosen slot holds.
    pub release: usize,
}

/// What doesn't change from one medium to the next.
#[derive(Debug)]
pub struct Judge<'a> {
    places: &'a Places,
    releases: &'a [Known],
    firmware: Firmware,
    /// The release that each slot holds, by the key of its sectors.
    contents: HashMap<(char, Key), Option<usize>>,
}

impl<'a> Judge<'a> {
    #[must_use]
    pub fn new(places: &'a Places, releases: &'a [Known], firmware: Firmware) -> Self {
        Self {
            places,
            releases,
            firmware,
            contents: HashMap::new(),
        }
    }

    /// Every sector that was written is one that something of ours may write.
    ///
    /// # Errors
    /// One is not.
    pub fn writes(&self, log: &Log) -> Result<()> {
        for (_, event) in &log.events {
            let Event::Write(write) = event else { continue };
            for number in write.range() {
                let place = self.places.of_sector(number);
                let ours = !matches!(
                    place,
                    Place::Foreign | Place::Image('a') | Place::SlotRecord('a')
                );
                ensure!(ours, "sector {number} ({place}) was written");
            }
        }
        Ok(())
    }

    /// The release that a slot holds completely, by the host's own hash.
    fn content(&mut self, medium: &Medium<'_>, slot: Slot) -> Result<Option<usize>> {
        let range = self.places.slot(slot);
        let letter = if slot == Slot::A { 'a' } else { 'b' };
        let key = (letter, medium.key_of(range));
        if let Some(known) = self.contents.get(&key) {
            return Ok(*known);
        }
        let mut found = None;
        for (index, release) in self.releases.iter().enumerate() {
            let sectors = release.size / SECTOR;
            ensure!(
                release.size % SECTOR == 0 && range.start + sectors <= range.end,
                "release {}: {} bytes don't fit",
                release.version,
                release.size
            );
            let bytes = medium.read(range.start, sectors)?;
            if blake3::hash(&bytes).to_hex().as_str() == release.blake3 {
                found = Some(index);
            }
        }
        self.contents.insert(key, found);
        Ok(found)
    }

    /// Holds a medium against the invariants of ARCHITECTURE.md.
    ///
    /// # Errors
    /// One is broken: the message begins with its number. Or I/O.
    pub fn judge(&mut self, medium: &Medium<'_>) -> Result<Judgement> {
        let [primary, backup] = loader::valid_tables(medium)?;
        let table = primary.as_ref().or(backup.as_ref());
        let table = table.context("invariant 6: no copy of the table is valid")?;
        for copy in [&primary, &backup].into_iter().flatten() {
            self.partitions_stay(copy)?;
        }
        let authority = loader::environment(medium, self.places)?;
        let record = loader::confirmed(medium, self.places)?;
        // A sector is written or not, and each of these is one.
        let authority = authority.context("invariant 11: the environment is lost")?;
        let record = record.context("invariant 11: the confirmed record is lost")?;
        let states = [&primary, &backup].map(|copy| copy.as_ref().map(Table::state));
        for slot in [Slot::A, Slot::B] {
            self.incomplete_is_unbootable(medium, slot, &authority, &states, &record)?;
        }
        let sound = [Slot::A, Slot::B].into_iter().zip(authority);
        let mut confirmed = sound.filter(|(_, attributes)| attributes.confirmed());
        ensure!(
            confirmed.next().is_some(),
            "invariant 5: no slot is confirmed: {authority:?}"
        );
        let choice = loader::choose(medium, self.places, self.firmware)?;
        let choice = choice.context("invariant 11: the loader finds nothing to boot")?;
        let content = self.content(medium, choice.slot)?;
        let release = content.with_context(|| {
            format!("invariant 11: the loader's choice is no known image: {choice:?}")
        })?;
        let number = if choice.slot == Slot::A { 3 } else { 4 };
        let wanted = [table.id(number), table.id(9)];
        // While the copies get identifiers of their own they differ; init then goes by the record, which says so.
        ensure!(
            choice.ids == wanted || record.fresh,
            "invariant 11: the loader passes {:?}, the kernel's table has {wanted:?}",
            choice.ids
        );
        Ok(Judgement { choice, release })
    }

    /// No partition is moved; ROOT alone grows.
    fn partitions_stay(&self, table: &Table) -> Result<()> {
        let [a, b] = &self.places.usr;
        for (number, range) in [(3, a), (4, b), (7, &self.places.oem_config)] {
            let borders = table.borders(number);
            ensure!(
                borders == Some((range.start, range.end - 1)),
                "invariant 7: partition {number} lies at {borders:?}, not {range:?}"
            );
        }
        let root = table.borders(9);
        ensure!(
            root.is_some_and(|(first, last)| first == self.places.root.start
                && last + 1 >= self.places.flashed_root_end),
            "invariant 7: ROOT lies at {root:?}, not {:?}",
            self.places.root
        );
        Ok(())
    }

    fn incomplete_is_unbootable(
        &mut self,
        medium: &Medium<'_>,
        slot: Slot,
        authority: &[Attributes; 2],
        tables: &[Option<[Attributes; 2]>; 2],
        record: &Confirmed,
    ) -> Result<()> {
        let of = |state: &[Attributes; 2]| {
            let [a, b] = *state;
            if slot == Slot::A { a } else { b }
        };
        let somewhere = of(authority).candidate()
            || tables.iter().flatten().any(|state| of(state).candidate())
            || record.slot == slot;
        ensure!(
            !somewhere || self.content(medium, slot)?.is_some(),
            "invariant 3: slot {slot} is no complete image and bootable: {authority:?} {tables:?} {record:?}"
        );
        Ok(())
    }
}
