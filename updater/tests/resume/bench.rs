//! What the tests start from.

use std::fs;
use std::os::unix::fs::FileExt;

use bootctl::{Attributes, Slot};

use super::child::Paths;
use super::device::{Device, GOOD};
use super::payload::Payload;

const MIB: u64 = 1 << 20;
const SLOT: u64 = 48 * MIB;
/// More than what is written between two flushes.
pub const IMAGE: usize = 40 << 20;

/// A disk whose slot B is empty, a payload for it, and a folder for the mark.
pub struct Bench<'a> {
    pub device: Device,
    pub payload: &'a Payload,
    pub paths: Paths,
}

impl<'a> Bench<'a> {
    pub fn new(payload: &'a Payload) -> Self {
        let device = Device::with_slots(SLOT);
        device.set_state(GOOD, Attributes::UNBOOTABLE);
        let folder = device.root();
        let paths = Paths {
            disk: device.disk(),
            payload: folder.join("payload"),
            keys: folder.join("usr/lib/tandem/keys.d"),
            state: folder.join("var/lib/tandem"),
            log: folder.join("log"),
        };
        fs::write(&paths.payload, &payload.bytes).unwrap();
        Self {
            device,
            payload,
            paths,
        }
    }

    /// The bytes of a slot, as many as the image has.
    pub fn slot(&self, slot: Slot) -> Vec<u8> {
        let mut bytes = vec![0; self.payload.image.len()];
        let file = fs::File::open(&self.paths.disk).unwrap();
        file.read_exact_at(&mut bytes, Self::start_of(slot))
            .unwrap();
        bytes
    }

    /// Puts the first bytes of the image into a slot.
    pub fn fill(&self, slot: Slot, count: usize) {
        let file = fs::File::options().write(true).open(&self.paths.disk);
        let bytes = &self.payload.image[..count];
        file.unwrap()
            .write_all_at(bytes, Self::start_of(slot))
            .unwrap();
    }

    const fn start_of(slot: Slot) -> u64 {
        match slot {
            Slot::A => 4 * MIB,
            Slot::B => 4 * MIB + SLOT,
        }
    }

    pub fn slot_b_is_the_image(&self) -> bool {
        self.slot(Slot::B) == self.payload.image
    }

    /// What holds whenever the power may go: slot A is what it was and confirmed, and slot B boots only if it is
    /// complete.
    pub fn assert_safe(&self, slot_a: &[u8]) {
        let state = self.device.state();
        assert!(state.a.is_confirmed());
        assert!(self.slot(Slot::A) == slot_a, "slot A was written");
        if state.b.is_candidate() {
            assert!(self.slot_b_is_the_image(), "slot B boots what it is not");
        }
    }

    /// The reads of the processes so far: which bytes came from afar.
    pub fn fetched(&self) -> Vec<std::ops::Range<u64>> {
        let text = fs::read_to_string(&self.paths.log).unwrap_or_default();
        text.lines()
            .map(|line| {
                let (from, to) = line.split_once(' ').unwrap();
                from.parse().unwrap()..to.parse().unwrap()
            })
            .collect()
    }
}
