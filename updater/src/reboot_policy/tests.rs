use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::reboot_window::LocalZone;

const WINDOW: &str = "LOCKSMITHD_REBOOT_WINDOW_START=04:00\nLOCKSMITHD_REBOOT_WINDOW_LENGTH=1h\n";

fn settings(text: &str) -> Settings {
    Settings::parse(text.as_bytes(), b"", &mut |_| ())
}

fn utc() -> LocalZone {
    TimeZone::UTC.into()
}

/// A device over which time passes.
struct Device {
    policy: RebootPolicy,
    settings: Settings,
    zone: Option<LocalZone>,
    unix: i64,
    now: u64,
    staged: bool,
    people: People,
}

impl Device {
    /// At midnight before 2026-11-26, a Thursday.
    fn new(text: &str, people: People) -> Self {
        Self {
            policy: RebootPolicy::default(),
            settings: settings(text),
            zone: Some(utc()),
            unix: 1_795_651_200,
            now: 1000,
            staged: true,
            people,
        }
    }

    fn step(&mut self) -> Step {
        let zone = self.zone.as_ref().map(|zone| zone as &dyn Zone);
        self.policy.step(&Situation {
            staged: self.staged,
            settings: &self.settings,
            unix: self.unix,
            not_before: 1_700_000_000,
            zone,
            people: self.people,
            now: Moment(Duration::from_secs(self.now)),
        })
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        self.unix += i64::try_from(seconds).unwrap();
    }

    /// Does what it is told until the reboot: seconds until then, and what was announced when.
    fn run(&mut self) -> (u64, std::vec::Vec<(u64, u64)>) {
        let begin = self.now;
        let mut told = std::vec::Vec::new();
        for _ in 0..100_000 {
            match self.step() {
                Step::Wait { sleep, .. } => self.pass(sleep.as_secs()),
                Step::Warn { left } => told.push((self.now - begin, left.as_secs())),
                Step::Reboot => return (self.now - begin, told),
            }
        }
        panic!("no reboot");
    }

    fn waits(&mut self) -> Why {
        match self.step() {
            Step::Wait { why, .. } => why,
            step => panic!("{step:?}"),
        }
    }
}

#[test]
fn reboot_asks_nobody_but_the_window() {
    for people in [People::Nobody, People::Somebody] {
        assert_eq!(Device::new("", people).run(), (0, vec![]));
        let mut device = Device::new(WINDOW, people);
        assert_eq!(device.waits(), Why::Closed);
        assert_eq!(device.run(), (4 * 3600, vec![]));
    }
}

#[test]
fn off_bad_settings_and_nothing_staged_never_reboot() {
    let mut device = Device::new("REBOOT_STRATEGY=off", People::Nobody);
    assert_eq!(device.waits(), Why::Off);
    device.settings = settings("TRIES=x");
    assert_eq!(device.waits(), Why::BadSettings);
    // Half a window is not "at any time".
    device.settings = settings("LOCKSMITHD_REBOOT_WINDOW_START=04:00");
    assert_eq!(device.waits(), Why::BadSettings);
    device.settings = settings("");
    device.staged = false;
    assert_eq!(device.waits(), Why::NothingStaged);
}

#[test]
fn a_window_needs_a_zone_and_a_clock_that_is_set() {
    let mut device = Device::new(WINDOW, People::Nobody);
    device.zone = None;
    assert_eq!(device.waits(), Why::NoZone);
    device.zone = Some(utc());
    // 1970-01-01 04:30.
    device.unix = 4 * 3600 + 1800;
    assert_eq!(device.waits(), Why::NoClock);
    // Without a window neither matters.
    device.settings = settings("");
    device.zone = None;
    assert_eq!(device.step(), Step::Reboot);
}

#[test]
fn best_effort_goes_at_once_when_nobody_is_there_and_warns_otherwise() {
    let text = "REBOOT_STRATEGY=best-effort";
    assert_eq!(Device::new(text, People::Nobody).run(), (0, vec![]));
    let told = vec![(0, 600), (300, 300), (540, 60)];
    assert_eq!(Device::new(text, People::Somebody).run(), (600, told));
    // They leave.
    let mut device = Device::new(text, People::Somebody);
    assert!(matches!(device.step(), Step::Warn { .. }));
    device.pass(30);
    device.people = People::Nobody;
    assert_eq!(device.step(), Step::Reboot);
}

#[test]
fn the_warning_ends_when_the_window_opens() {
    let text = std::format!("REBOOT_STRATEGY=best-effort\n{WINDOW}");
    let mut device = Device::new(&text, People::Somebody);
    let (after, told) = device.run();
    assert_eq!(after, 4 * 3600);
    let (at, left) = told[0];
    assert!((600..=660).contains(&left), "{told:?}");
    assert_eq!((at + left, told.len()), (4 * 3600, 3));
}

#[test]
fn a_window_that_would_close_during_the_warning_is_left_alone() {
    let text = std::format!("REBOOT_STRATEGY=best-effort\n{WINDOW}");
    let mut device = Device::new(&text, People::Somebody);
    // Eight minutes before it closes.
    device.pass(4 * 3600 + 52 * 60);
    assert_eq!(device.waits(), Why::Closed);
    let (after, told) = device.run();
    assert_eq!((after, told.len()), (23 * 3600 + 8 * 60, 3));
}

#[test]
fn a_short_window_is_met() {
    for length in ["1s", "1m", "5m", "9m"] {
        let text = std::format!(
            "REBOOT_STRATEGY=best-effort\nLOCKSMITHD_REBOOT_WINDOW_START=Thu 04:00\nLOCKSMITHD_REBOOT_WINDOW_LENGTH={length}"
        );
        let (after, told) = Device::new(&text, People::Somebody).run();
        assert_eq!((after, told.len()), (4 * 3600, 3), "{length}");
    }
}

#[test]
fn setting_the_clock_neither_shortens_the_warning_nor_leaves_the_window() {
    let text = std::format!("REBOOT_STRATEGY=best-effort\n{WINDOW}");
    let mut device = Device::new(&text, People::Somebody);
    device.pass(4 * 3600);
    assert!(matches!(device.step(), Step::Warn { .. }));
    device.pass(60);
    // Forward within the window: the warning goes on.
    device.unix += 600;
    assert_eq!(device.waits(), Why::Warned);
    // Out of it.
    device.unix += 3600;
    assert_eq!(device.waits(), Why::Closed);
    let (_, told) = device.run();
    assert_eq!(told.len(), 3);
}

#[test]
fn a_reboot_that_failed_is_tried_again_later() {
    let mut device = Device::new("", People::Nobody);
    assert_eq!(device.step(), Step::Reboot);
    device
        .policy
        .failed(Moment(Duration::from_secs(device.now)));
    assert_eq!(device.waits(), Why::Failed);
    assert_eq!(device.run(), (1800, vec![]));
}

#[derive(Clone, Debug)]
enum Happens {
    /// Whoever drives it looks again when it was told to, or so much later.
    Pass(u64),
    SetClock(i64),
    Logins(bool),
    Staged(bool),
    Strategy(usize),
    Zone(Option<usize>),
}

const STRATEGIES: [&str; 4] = ["off", "reboot", "best-effort", "etcd-lock"];
const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
];

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        20 => prop_oneof![Just(0), 0..120_u64, 0..100_000_u64].prop_map(Happens::Pass),
        2 => prop_oneof![-5000..5000_i64, -100_000_000..100_000_000_i64].prop_map(Happens::SetClock),
        3 => any::<bool>().prop_map(Happens::Logins),
        2 => prop::bool::weighted(0.9).prop_map(Happens::Staged),
        1 => (0..4_usize).prop_map(Happens::Strategy),
        1 => prop::option::weighted(0.9, 0..5_usize).prop_map(Happens::Zone),
    ]
}

fn text(strategy: usize, day: Option<&str>, minute: u16, length: u32) -> std::string::String {
    let (strategy, day) = (
        STRATEGIES[strategy],
        day.map_or(std::string::String::new(), |d| std::format!("{d} ")),
    );
    let (hour, minute) = (minute / 60, minute % 60);
    std::format!(
        "REBOOT_STRATEGY={strategy}\nLOCKSMITHD_REBOOT_WINDOW_START={day}{hour:02}:{minute:02}\nLOCKSMITHD_REBOOT_WINDOW_LENGTH={length}s"
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens to the device, it reboots only inside the window, with something staged, if its settings want it;
    /// and not before those who are logged in have known it for ten minutes.
    #[test]
    fn a_reboot_never_happens_outside_its_window(
        day in prop::option::of(prop::sample::select(&["Mon", "Wed", "Sun"][..])),
        minute in 0..1440_u16,
        length in prop_oneof![1..4000_u32, 1..=604_800_u32],
        // From an hour before the clocks of Berlin went back, or anywhere.
        unix in prop_oneof![Just(1_792_886_400_i64), 1_767_225_600..1_830_297_600_i64],
        events in prop::collection::vec(happens(), 1..120),
    ) {
        let mut strategy = 2;
        let mut device = Device::new(&text(strategy, day, minute, length), People::Somebody);
        device.unix = unix;
        let mut zone = 0;
        let (mut known_since, mut somebody_since) = (None, Some(device.now));
        for event in events {
            match event {
                Happens::Pass(seconds) => device.pass(seconds),
                Happens::SetClock(by) => device.unix += by,
                Happens::Logins(somebody) => {
                    device.people = if somebody { People::Somebody } else { People::Nobody };
                    somebody_since = somebody.then(|| somebody_since.unwrap_or(device.now));
                }
                Happens::Staged(staged) => device.staged = staged,
                Happens::Strategy(which) => {
                    strategy = which;
                    device.settings = settings(&text(strategy, day, minute, length));
                }
                Happens::Zone(which) => {
                    zone = which.unwrap_or(zone);
                    device.zone = which.map(|w| TimeZone::get(ZONES[w]).unwrap().into());
                }
            }
            match device.step() {
                Step::Wait { why, sleep } => {
                    prop_assert!(sleep >= Duration::from_secs(1) && sleep <= LOOK_AGAIN);
                    if why != Why::Warned {
                        known_since = None;
                    }
                }
                Step::Warn { left } => {
                    prop_assert!(left <= WARNING + LOOK_AGAIN);
                    prop_assert!(strategy == 2 && device.people == People::Somebody);
                    known_since = known_since.or(Some(device.now));
                }
                Step::Reboot => {
                    prop_assert!(device.staged && device.zone.is_some());
                    prop_assert!(device.settings.may_act_alone() && matches!(strategy, 1 | 2));
                    let local = jiff::Timestamp::from_second(device.unix)
                        .unwrap()
                        .to_zoned(TimeZone::get(ZONES[zone]).unwrap());
                    prop_assert!(inside(&local, day, minute, length), "{local}");
                    if strategy == 2 && device.people == People::Somebody {
                        let known = known_since.expect("nobody was told");
                        prop_assert!(device.now - known >= WARNING.as_secs());
                        prop_assert!(somebody_since.is_some());
                    }
                    device.policy = RebootPolicy::default();
                    known_since = None;
                }
            }
        }
    }
}

/// By the calendar: on this date or one before it, the window opened and its length is not over by the clock on the wall.
fn inside(local: &jiff::Zoned, day: Option<&str>, minute: u16, length: u32) -> bool {
    let now = local.datetime();
    (0..=8).any(|days| {
        let date = now
            .date()
            .checked_sub(jiff::Span::new().days(days))
            .unwrap();
        let hour = i8::try_from(minute / 60).unwrap();
        let opens = date.at(hour, i8::try_from(minute % 60).unwrap(), 0, 0);
        let closes = opens
            .checked_add(jiff::Span::new().seconds(length))
            .unwrap();
        let named = day.is_none_or(|day| date.strftime("%a").to_string() == day);
        named && opens <= now && now < closes
    })
}
