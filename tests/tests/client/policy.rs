//! A device that is left to itself: the service's own view of it, with days that pass in an instant and reboots that are
//! only written down.

mod unasked;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bootctl::Slot;
use serde_json::Value;
use updater::journal::{Cause, Ended, Journal, Reason, Release};
use updater::policy::{Doing, Policy, World};
use updater::reboot_policy::People;
use updater::reboot_window::LocalZone;
use updater::schedule::Moment;
use updater::service::place::Place;
use updater::service::run::{Device as Seen, Service};
use updater::settings::Settings;

use crate::device::{Device, PATIENCE};
use crate::fixture::{Content, Map, Program, lab};
use crate::web::Web;

const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// Noon of 2026-11-26, a Thursday.
const NOON: u64 = 1_795_651_200 + 12 * HOUR;

struct Alone {
    device: Seen,
    policy: Option<Policy>,
    /// Seconds since noon.
    now: u64,
    people: People,
    looks: Vec<u64>,
    told: Vec<String>,
    reboots: Vec<u64>,
}

impl Alone {
    fn new(device: &Device, active: Option<Slot>) -> Self {
        let place = Place {
            disk: Some(device.disk.path().into()),
            active,
            keys: Some(lab().keys()),
            state: Some(device.state.clone()),
            root: Some(device.root()),
            program: Some(Program::UpdateEngine.path()),
            ..Place::default()
        };
        let service = Service::open(place.complete()).unwrap();
        let mut alone = Self {
            device: service.device(),
            policy: None,
            now: 0,
            people: People::Nobody,
            looks: Vec::new(),
            told: Vec::new(),
            reboots: Vec::new(),
        };
        alone.policy = Some(Policy::start(&mut alone));
        alone
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.now + seconds;
        while self.now < end {
            let mut policy = self.policy.take().unwrap();
            let sleep = policy.turn(self);
            self.policy = Some(policy);
            self.now += sleep.as_secs();
        }
    }
}

impl World for Alone {
    fn settings(&mut self) -> Settings {
        self.device.settings()
    }
    fn now(&mut self) -> Moment {
        Moment(Duration::from_secs(self.now))
    }
    fn unix(&mut self) -> i64 {
        i64::try_from(NOON + self.now).unwrap()
    }
    fn not_before(&mut self) -> i64 {
        self.device.not_before()
    }
    fn random(&mut self) -> u64 {
        self.device.random()
    }
    fn doing(&mut self) -> Doing {
        self.device.doing()
    }
    fn zone(&mut self) -> Option<LocalZone> {
        self.device.zone()
    }
    fn people(&mut self) -> People {
        self.people
    }
    fn tell(&mut self, line: &str) {
        self.told.push(line.to_owned());
    }
    /// The work takes as long as it takes, and none of the time that passes here.
    fn look(&mut self, settings: &Settings, stick: bool) -> Option<u64> {
        self.looks.push(self.now);
        let number = self.device.look(settings, stick);
        let start = Instant::now();
        // That it is over is known a little later than that it rests.
        let ended = |doing: Doing| doing.ended.map(|(number, _)| number);
        while number.is_some() && ended(self.device.doing()) != number {
            assert!(start.elapsed() < PATIENCE);
            sleep(Duration::from_millis(5));
        }
        number
    }
    fn reboot(&mut self) {
        self.reboots.push(NOON + self.now);
    }
}

fn configure(device: &Device, web: &Web, more: &str) {
    device.configure(&format!("SERVER={}\nGROUP=stable\n{more}", web.base()));
}

const WINDOW: &str = "LOCKSMITHD_REBOOT_WINDOW_START=04:00\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1h\n";

#[test]
fn what_the_server_has_is_installed_and_booted_in_the_window_and_never_outside() {
    let device = Device::both();
    let web = Web::start(&lab().good);
    configure(&device, &web, WINDOW);
    let mut alone = Alone::new(&device, None);
    alone.pass(HOUR);
    assert_eq!(alone.looks.len(), 1);
    assert!((120..=780).contains(&alone.looks[0]), "{:?}", alone.looks);
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
    assert_eq!(device.status()["NEW_VERSION"], "2.0.0");
    assert_eq!(alone.reboots, [0; 0]);
    alone.pass(3 * DAY);
    // Each of them failed, and was tried once more.
    assert!(alone.reboots.len() >= 3, "{:?}", alone.reboots);
    for time in &alone.reboots {
        let hour = time % DAY;
        assert!((4 * HOUR..5 * HOUR - 130).contains(&hour), "{hour}");
    }
    // Nobody is asked while a release waits.
    assert_eq!(alone.looks.len(), 1);
}

#[test]
fn without_a_window_it_reboots_at_once_and_with_off_never() {
    for (strategy, reboots) in [("reboot", true), ("off", false), ("etcd-lock", false)] {
        let device = Device::both();
        let web = Web::start(&lab().good);
        configure(&device, &web, "REBOOT_STRATEGY=off\n");
        let mut alone = Alone::new(&device, None);
        alone.pass(HOUR);
        assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
        configure(&device, &web, &format!("REBOOT_STRATEGY={strategy}\n"));
        let before = NOON + alone.now;
        // As after a crash of the service.
        drop(alone);
        let mut alone = Alone::new(&device, None);
        alone.now = before - NOON;
        alone.pass(DAY);
        assert_eq!(!alone.reboots.is_empty(), reboots, "{strategy}");
        if reboots {
            assert_eq!(alone.reboots[0], before);
        }
    }
}

#[test]
fn a_release_that_the_loader_did_not_start_causes_no_endless_reboots() {
    let device = Device::both();
    let web = Web::start(&lab().good);
    configure(&device, &web, "");
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    // As if the machine had been started since.
    let path = device.state.join("journal.json");
    let mut journal: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    journal["staged"]["staged_in"] = "another boot".into();
    fs::write(&path, journal.to_string()).unwrap();
    let mut alone = Alone::new(&device, None);
    alone.pass(3 * DAY);
    assert_eq!(alone.reboots, [0; 0]);
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
    // Something newer would be taken.
    assert!(alone.looks.len() > 10 && web.sent() > 0);
}

/// Gives the newest release that the device has seen another day.
fn made_on(device: &Device, day: &str) {
    let path = device.state.join("journal.json");
    let mut journal: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(journal["newest_signed"]["version"], "2.0.0");
    journal["newest_signed"]["created"] = day.into();
    fs::write(&path, journal.to_string()).unwrap();
}

#[test]
fn a_day_that_somebody_got_wrong_closes_no_window_while_that_release_only_waits() {
    let device = Device::both();
    device.configure(WINDOW);
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    made_on(&device, "2099-01-01");
    let mut alone = Alone::new(&device, None);
    alone.pass(2 * DAY);
    assert!(!alone.reboots.is_empty());
}

#[test]
fn a_clock_behind_the_day_of_the_release_that_runs_is_not_set() {
    let device = Device::both();
    device.configure(WINDOW);
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    let bootctl = |verb| {
        let line = ["--disk", device.disk.path(), "--active", "b", verb];
        Program::Bootctl.run(&line).succeeds(&verb);
    };
    bootctl("mark-successful");
    let mut alone = Alone::new(&device, Some(Slot::B));
    bootctl("rollback");
    for (day, reboots) in [("2099-01-01", false), ("2026-11-25", true)] {
        made_on(&device, day);
        alone.pass(DAY);
        assert_eq!(!alone.reboots.is_empty(), reboots, "{day}");
    }
}

#[test]
fn people_are_told_ten_minutes_before() {
    let device = Device::both();
    let web = Web::start(&lab().good);
    configure(
        &device,
        &web,
        &format!("REBOOT_STRATEGY=best-effort\n{WINDOW}"),
    );
    let mut alone = Alone::new(&device, None);
    alone.people = People::Somebody;
    alone.pass(15 * HOUR);
    assert_eq!((alone.told.len(), alone.reboots.len()), (0, 0));
    alone.pass(HOUR + HOUR / 2);
    let told: Vec<&str> = alone.told.iter().map(String::as_str).collect();
    assert!(told[0].starts_with("tandem: this device reboots into 2.0.0 in 1"));
    assert!(told[1].ends_with("in 5 minutes") && told[2].ends_with("in 1 minute"));
    assert_eq!(alone.reboots[0] % DAY, 4 * HOUR);
}

#[test]
fn a_server_that_fails_is_asked_less_and_less_and_the_status_says_why() {
    let device = Device::both();
    let web = Web::start(&lab().good);
    web.behave(|manner| manner.refusal = Some("404 Not Found"));
    configure(&device, &web, "POLL_INTERVAL=1h\nREBOOT_STRATEGY=off\n");
    let mut alone = Alone::new(&device, None);
    alone.pass(2 * DAY);
    let looks = alone.looks.len();
    assert!((11..=16).contains(&looks), "{:?}", alone.looks);
    assert_eq!(web.hits().len(), looks);
    assert!(device.status()["LAST_ERROR"].contains("404 Not Found"));
    web.behave(|manner| manner.refusal = None);
    alone.pass(5 * HOUR);
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
    assert_eq!(device.status()["LAST_ERROR"], "");
    assert!(alone.reboots.is_empty());
}

#[test]
fn nobody_is_asked_while_the_running_release_is_on_trial() {
    let device = Device::both();
    let web = Web::start(&lab().good);
    configure(&device, &web, "POLL_INTERVAL=1h\n");
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    let mut alone = Alone::new(&device, Some(Slot::B));
    alone.pass(2 * DAY);
    assert_eq!((alone.looks.len(), web.hits().len()), (0, 0));
    assert_eq!(alone.reboots, [0; 0]);
}

#[test]
fn a_payload_that_failed_is_left_alone_for_a_while_also_after_a_restart() {
    let device = Device::both();
    let mut bad = lab().good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let web = Web::start(&bad);
    configure(&device, &web, "POLL_INTERVAL=1m\nREBOOT_STRATEGY=off\n");
    let mut alone = Alone::new(&device, None);
    alone.pass(30 * 60);
    assert!(alone.looks.len() >= 2, "{:?}", alone.looks);
    drop(alone);
    let attempts = device.status()["ATTEMPTS"].clone();
    assert!(attempts.ends_with("last: transport"), "{attempts}");
    // So often that two hours have to pass by the clock of the journal, which are more than this test takes.
    let mut journal = Journal::load(&device.state);
    let release = journal.last_attempts().unwrap().release.clone();
    for _ in 0..8 {
        journal.attempt(&release, Slot::B).unwrap();
        journal
            .ended(&release, Ended::Transport, "cut off")
            .unwrap();
    }
    let attempts = device.status()["ATTEMPTS"].clone();
    let error = device.status()["LAST_ERROR"].clone();
    assert!(error.contains("block"), "{error}");
    let mut alone = Alone::new(&device, None);
    alone.pass(15 * 60);
    assert!(!alone.looks.is_empty());
    assert_eq!(device.status()["ATTEMPTS"], attempts);
    assert_eq!(device.status()["LAST_ERROR"], error);
    drop(alone);
    // By hand it is tried at once.
    web.behave(|manner| manner.file = lab().good.clone().into());
    device.client("-update").succeeds(&"by hand");
    assert!(device.status()["ATTEMPTS"].ends_with("last: staged"));
}

#[test]
fn a_stick_is_noticed_soon() {
    let device = Device::both();
    let folder = device.state.join("stick");
    fs::create_dir(&folder).unwrap();
    device.configure(&format!(
        "PAYLOAD_DIR={}\nREBOOT_STRATEGY=off\nPOLL_INTERVAL=168h\n",
        folder.display()
    ));
    let mut alone = Alone::new(&device, None);
    alone.pass(HOUR);
    let looks = alone.looks.len();
    fs::write(folder.join("v2.payload"), &lab().good).unwrap();
    alone.pass(61 + 5);
    assert_eq!(alone.looks.len(), looks + 1);
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}

#[test]
fn the_status_says_what_fell_back_and_why_and_how_old_the_news_is() {
    let device = Device::both();
    let mut journal = Journal::load(&device.state);
    let release = Release {
        id: [7; 32],
        version: "1.5.0".into(),
        rollback_index: 1,
    };
    for (cause, detail) in [
        (Cause::Health, "required check 10-net failed\nno route"),
        (Cause::Panic, "Kernel panic - not syncing"),
        (Cause::Watchdog, "bcm2835"),
    ] {
        let reason = Reason::new(cause, detail);
        journal.fell_back(&release, Slot::B, &reason).unwrap();
        let status = device.status();
        let first = detail.lines().next().unwrap();
        let said = format!("1.5.0: {}: {first}", cause.as_str());
        assert!(status["LAST_FALLBACK"].starts_with(&said), "{status:?}");
    }
    assert_eq!(device.status()["NEWEST_SIGNED"], "");
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    let status = device.status();
    assert_eq!(status["NEWEST_SIGNED"], "2.0.0");
    let age: u64 = status["NEWEST_SIGNED_AGE"].parse().unwrap();
    assert!(age < 100_000, "{age}");
    assert_eq!(status["ATTEMPTS"], "2.0.0: 1, last: staged");
    let json = device.client("-status -json").stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["last_fallback"]["cause"], "watchdog");
    assert_eq!(json["last_fallback"]["refused"], true);
    assert_eq!(json["attempts"]["count"], 1);
    assert_eq!(json["newest_signed"]["version"], "2.0.0");
    assert!(Path::new(device.disk.path()).exists());
}
