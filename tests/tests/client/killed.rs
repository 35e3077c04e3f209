//! The service killed at random moments of an update, and started again. Mostly while it downloads.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bootctl::Slot;
use bootctl::control::Control;
use bootctl::disk::{Access, Disk as RealDisk};
use updater::control_socket::{Channel, Payload, Request, Wish};

use crate::device::{Device, PATIENCE};
use crate::fixture::{Content, Map, lab};
use crate::web::Web;

const KILLS: usize = 100;
/// At least as many in each phase, of those that interrupted a download.
const EACH: usize = 15;
const PHASES: [&str; 3] = ["downloading", "verifying", "finalizing"];

/// Small and the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn killed_at_a_hundred_moments_the_service_tells_the_truth_and_goes_on() {
    let device = Device::both();
    let file = device.payload();
    let web = Web::start(&lab().good);
    let before = Content::read(Path::new(device.disk.path()));
    let mut random = Random(7);
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let (mut round, mut staged) = (0, true);
    let lacking = |tally: &BTreeMap<String, usize>| {
        let lacks = |phase: &&str| tally.get(*phase).is_none_or(|count| *count < EACH);
        PHASES.into_iter().find(lacks)
    };
    while round < KILLS || lacking(&tally).is_some() {
        // Some phases are short; those that were not hit often enough come again.
        let phase = match round < KILLS {
            true => PHASES[round % PHASES.len()],
            false => lacking(&tally).unwrap(),
        };
        round += 1;
        assert!(round <= 10 * KILLS, "{tally:?}");
        // What was downloaded may be gone on with, or have vanished.
        if staged || round % 3 == 0 {
            device.disk.restore();
        }
        let _ = fs::remove_file(device.state.join("service.json"));
        let from_file = round % 5 == 0;
        let payload = from_file.then_some(file.as_str());
        kill_while(&device, payload, &web, phase, &mut random);
        let interrupted = judge(&device, &before);
        staged = interrupted == "staged";
        let interrupted = match from_file {
            true => format!("{interrupted}, from a file"),
            false => interrupted,
        };
        *tally.entry(interrupted).or_default() += 1;
    }
    println!("{round} kills: {tally:?}");
    let update = device.client(&format!("-update -payload {}", web.url()));
    // A release that the last one staged already is as good.
    assert!(matches!(update.code, Some(0 | 4)), "{update:?}");
}

/// Starts an update and kills the service a random while after the phase has begun.
fn kill_while(device: &Device, file: Option<&str>, web: &Web, phase: &str, random: &mut Random) {
    let service = device.serve();
    let mut channel = Channel::new(UnixStream::connect(device.socket()).unwrap());
    let payload = match file {
        Some(_) => Payload::Descriptor,
        None => Payload::Url(web.url()),
    };
    let force = Vec::new();
    let wish = Request::Update(Wish { payload, force });
    let file = file.map(|file| File::open(file).unwrap());
    channel
        .send(&wish, file.as_ref().map(|file| file as _))
        .unwrap();
    let wanted = format!("UPDATE_STATUS_{}", phase.to_uppercase());
    let start = Instant::now();
    loop {
        // Written down before the phase begins.
        let stored = fs::read_to_string(device.state.join("service.json")).unwrap_or_default();
        if stored.contains(&wanted) || stored.contains("NEED_REBOOT") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{phase}: {stored}");
    }
    let span = match phase {
        "downloading" => 10_000,
        _ => 4_000,
    };
    sleep(Duration::from_micros(random.below(span)));
    service.kill();
}

/// What a service that is started again says, held against the disk; what was interrupted.
fn judge(device: &Device, before: &Content) -> String {
    let disk = RealDisk::open(Path::new(device.disk.path()), Access::Read).unwrap();
    let mut control = Control::open(disk).unwrap();
    let state = control.state().unwrap().state.unwrap();
    let after = Content::read(Path::new(device.disk.path()));
    let map = Map::of(&after);
    let slot = |content: &Content, slot: &std::ops::Range<u64>| {
        content.bytes(slot.start, usize::try_from(slot.end - slot.start).unwrap())
    };
    assert!(
        slot(before, &map.usr_a) == slot(&after, &map.usr_a),
        "slot a"
    );
    assert!(state.get(Slot::A).is_confirmed(), "{state:?}");
    let service = device.serve();
    let status = device.status();
    let told = match state.get(Slot::B) {
        b if b.is_confirmed() => {
            // Nothing has been touched yet.
            assert!(
                slot(before, &map.usr_b) == slot(&after, &map.usr_b),
                "slot b"
            );
            false
        }
        b if b.is_candidate() => {
            let image = after.bytes(map.usr_b.start, lab().image.len());
            assert!(image == lab().image, "slot b is staged and not whole");
            true
        }
        _ => false,
    };
    let operation = status["CURRENT_OP"].strip_prefix("UPDATE_STATUS_").unwrap();
    let wanted = if told { "UPDATED_NEED_REBOOT" } else { "IDLE" };
    assert_eq!(operation, wanted, "{status:?}");
    drop(service);
    if told {
        return "staged".into();
    }
    let error = &status["LAST_ERROR"];
    let doing = error.strip_prefix("install payload: interrupted while ");
    doing.unwrap_or_else(|| panic!("{status:?}")).to_owned()
}
