use std::fs;

use jiff::tz::TimeZone;

use super::*;

/// A device in which time passes only when it is told to.
struct Fake {
    settings: String,
    doing: Doing,
    now: u64,
    people: People,
    /// What the world was asked to do, and when.
    log: Vec<(u64, String)>,
    works: u64,
    /// How each look ends; none is begun where there is none.
    looks: Option<Outcome>,
}

impl Fake {
    fn new(settings: &str) -> Self {
        Self {
            settings: settings.to_owned(),
            doing: Doing {
                confirmed: true,
                ..Doing::default()
            },
            now: 100,
            people: People::Nobody,
            log: Vec::new(),
            works: 0,
            looks: Some(Outcome::Answered),
        }
    }

    fn note(&mut self, text: impl Into<String>) {
        self.log.push((self.now, text.into()));
    }

    fn run(&mut self, policy: &mut Policy, seconds: u64) {
        let end = self.now + seconds;
        while self.now < end {
            let sleep = policy.turn(self);
            assert!((TURN_MIN..=TURN).contains(&sleep));
            self.now += sleep.as_secs();
        }
    }

    fn said(&self) -> Vec<&str> {
        self.log.iter().map(|(_, text)| text.as_str()).collect()
    }
}

impl World for Fake {
    fn settings(&mut self) -> Settings {
        Settings::parse(self.settings.as_bytes(), b"", &mut |_| ())
    }
    fn now(&mut self) -> Moment {
        Moment(Duration::from_secs(self.now))
    }
    fn unix(&mut self) -> i64 {
        // Midnight before 2026-11-26, a Thursday.
        1_795_651_200 + i64::try_from(self.now).unwrap()
    }
    fn not_before(&mut self) -> i64 {
        0
    }
    fn random(&mut self) -> u64 {
        self.now.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn doing(&mut self) -> Doing {
        self.doing.clone()
    }
    fn zone(&mut self) -> Option<LocalZone> {
        Some(TimeZone::UTC.into())
    }
    fn people(&mut self) -> People {
        self.people
    }
    fn tell(&mut self, line: &str) {
        self.note(line);
    }
    fn look(&mut self, _: &Settings, stick: bool) -> Option<u64> {
        self.note(if stick { "stick" } else { "look" });
        let outcome = self.looks?;
        self.works += 1;
        self.doing.ended = Some((self.works, outcome));
        Some(self.works)
    }
    fn reboot(&mut self) {
        self.note("reboot");
    }
}

#[test]
fn a_device_looks_around_its_interval_and_less_often_when_nobody_answers() {
    let mut fake = Fake::new("SERVER=https://u.example\nPOLL_INTERVAL=1h");
    let mut policy = Policy::start(&mut fake);
    fake.run(&mut policy, 100 * 3600);
    let answered = fake.log.len();
    assert!((88..=115).contains(&answered), "{answered}");
    let gaps: Vec<u64> = fake.log.windows(2).map(|two| two[1].0 - two[0].0).collect();
    assert!(
        gaps.iter().all(|gap| (3150..=4170).contains(gap)),
        "{gaps:?}"
    );
    assert!(gaps.iter().any(|gap| *gap != gaps[0]), "{gaps:?}");
    for outcome in [Some(Outcome::Failed { retry_after: None }), None] {
        fake.looks = outcome;
        fake.log.clear();
        fake.run(&mut policy, 100 * 3600);
        assert!((22..=32).contains(&fake.log.len()), "{:?}", fake.log);
    }
    assert!(policy.failures() > 40);
}

#[test]
fn nobody_is_asked_on_trial_when_turned_off_or_with_settings_that_cannot_be_read() {
    let server = "SERVER=https://u.example\n";
    let mut fake = Fake::new(server);
    let mut policy = Policy::start(&mut fake);
    fake.doing.confirmed = false;
    fake.run(&mut policy, 86_400);
    fake.doing.confirmed = true;
    for bad in ["SERVER=disabled", "", "SERVER=https://u.example\nTRIES=x"] {
        fake.settings = bad.to_owned();
        fake.run(&mut policy, 86_400);
    }
    assert!(fake.log.is_empty(), "{:?}", fake.log);
    fake.settings = server.to_owned();
    fake.run(&mut policy, 60);
    assert_eq!(fake.said(), ["look"]);
}

#[test]
fn a_stick_is_looked_at_once_within_a_minute_and_what_it_takes_to_see_that_it_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "PAYLOAD_DIR={}\nPOLL_INTERVAL=168h",
        folder.path().display()
    );
    let mut fake = Fake::new(&settings);
    let mut policy = Policy::start(&mut fake);
    // The first look, which counts for the folder too.
    fake.run(&mut policy, 3600);
    fake.log.clear();
    fs::write(folder.path().join("v2.payload"), "x").unwrap();
    fake.doing.confirmed = false;
    fake.run(&mut policy, 3600);
    assert_eq!(fake.said(), [""; 0]);
    fake.doing.confirmed = true;
    fake.run(&mut policy, 61 + 5);
    assert_eq!(fake.said(), ["stick"]);
    fake.run(&mut policy, 86_400);
    assert_eq!(fake.said(), ["stick"]);
}

#[test]
fn what_is_staged_is_announced_and_booted_in_its_window() {
    let mut fake = Fake::new(
        "SERVER=https://u.example\nREBOOT_STRATEGY=best-effort\nLOCKSMITHD_REBOOT_WINDOW_START=04:00\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1h",
    );
    fake.people = People::Somebody;
    fake.doing.staged = Some("2.0.0".into());
    let mut policy = Policy::start(&mut fake);
    fake.run(&mut policy, 4 * 3600 + 600);
    let said = fake.said();
    assert!(
        said[0].starts_with("tandem: this device reboots into 2.0.0 in 1"),
        "{said:?}"
    );
    assert_eq!(
        said[1..],
        [
            "tandem: this device reboots into 2.0.0 in 5 minutes",
            "tandem: this device reboots into 2.0.0 in 1 minute",
            "tandem: this device reboots into 2.0.0 now",
            "reboot",
        ]
    );
    assert_eq!(fake.log.last().unwrap().0, 4 * 3600);
    // It failed, and is tried again, but not at once.
    fake.log.clear();
    fake.run(&mut policy, 1000);
    assert_eq!(fake.said(), [""; 0]);
    fake.run(&mut policy, 1200);
    assert_eq!(fake.said().last(), Some(&"reboot"));
    assert_eq!(fake.log.len(), 5);
}

#[test]
fn nothing_is_rebooted_while_something_is_under_way() {
    let mut fake = Fake::new("");
    let mut policy = Policy::start(&mut fake);
    fake.doing.staged = Some("2.0.0".into());
    fake.doing.busy = true;
    fake.run(&mut policy, 86_400);
    assert_eq!(fake.said(), [""; 0]);
    fake.doing.busy = false;
    fake.run(&mut policy, 1);
    assert_eq!(
        fake.said(),
        ["tandem: this device reboots into 2.0.0 now", "reboot"]
    );
    fake.doing.staged = None;
    fake.run(&mut policy, 86_400);
    assert_eq!(fake.log.len(), 2);
}

#[test]
fn a_look_that_ended_unheard_before_somebody_elses_does_not_keep_the_device_waiting() {
    let mut fake = Fake::new("SERVER=http://h\nGROUP=g\nPOLL_INTERVAL=1h");
    let mut policy = Policy::start(&mut fake);
    while fake.log.is_empty() {
        fake.run(&mut policy, 1);
    }
    // Of both ends only the later one is known.
    fake.doing.ended = Some((fake.works + 1, Outcome::Answered));
    fake.log.clear();
    fake.run(&mut policy, 2 * 3600);
    assert!(fake.said().contains(&"look"), "{:?}", fake.said());
}
