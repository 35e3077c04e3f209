use jiff::civil::{self, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;

const DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

/// Zones whose clocks change in ways of their own: half an hour (Lord Howe), at midnight (Beirut, São Paulo until
/// 2019), backwards in spring (Casablanca, Dublin by its rules), a whole day left out (Apia, 2011-12-30), a minute after
/// midnight (St. John's until 2011), or never.
const ZONES: [&str; 11] = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kolkata",
];

fn zone(name: &str) -> LocalZone {
    TimeZone::get(name).unwrap().into()
}

fn window(start: &str, length: u32) -> Window {
    Window::new(start.parse().unwrap(), length)
}

/// Seconds since 1970 of a time as people in `zone` write it; of two such times the first.
fn at(zone: &str, text: &str) -> i64 {
    let time: DateTime = text.parse().unwrap();
    let zone = TimeZone::get(zone).unwrap();
    let time = zone.to_ambiguous_zoned(time).earlier().unwrap();
    time.timestamp().as_second()
}

/// The rule told again, by dates: on some date at most so many days ago the window opened at this hour, and by the clock
/// on the wall its length is not over yet.
fn model(start: WindowStart, length: u32, zone: &str, unix: i64) -> bool {
    let zoned = Timestamp::from_second(unix).unwrap();
    let local = zoned.to_zoned(TimeZone::get(zone).unwrap()).datetime();
    (0..=8).any(|days| {
        let date = local.date().checked_sub(days.days()).unwrap();
        let day = DAYS[usize::try_from(date.weekday().to_monday_zero_offset()).unwrap()];
        let time = civil::time(
            i8::try_from(start.minute / 60).unwrap(),
            i8::try_from(start.minute % 60).unwrap(),
            0,
            0,
        );
        let opens = date.to_datetime(time);
        let closes = opens.checked_add(Span::new().seconds(length)).unwrap();
        start.day.is_none_or(|wanted| wanted == day) && opens <= local && local < closes
    })
}

#[test]
fn a_weekly_window_opens_on_its_day_only() {
    let (w, z) = (window("Thu 04:00", 3600), zone("Europe/Berlin"));
    for (time, open) in [
        ("2026-11-26T03:59:59", false),
        ("2026-11-26T04:00", true),
        ("2026-11-26T04:59:59", true),
        ("2026-11-26T05:00", false),
        ("2026-11-27T04:30", false),
    ] {
        assert_eq!(w.is_open(at("Europe/Berlin", time), &z), open, "{time}");
    }
    let next = w.next(at("Europe/Berlin", "2026-11-26T05:00"), 0, &z);
    assert_eq!(next, Some(at("Europe/Berlin", "2026-12-03T04:00")));
    let inside = at("Europe/Berlin", "2026-11-26T04:10");
    assert_eq!(w.next(inside, 0, &z), Some(inside));
}

#[test]
fn windows_go_on_over_midnight_and_the_end_of_the_week() {
    let z = zone("America/New_York");
    let daily = window("23:30", 2 * 3600);
    let weekend = window("Sun 22:00", 5 * 3600);
    for (w, time, open) in [
        (daily, "2026-12-31T23:30", true),
        (daily, "2027-01-01T01:29:59", true),
        (daily, "2027-01-01T01:30", false),
        (weekend, "2027-01-03T21:59:59", false),
        (weekend, "2027-01-03T22:00", true),
        (weekend, "2027-01-04T02:59:59", true),
        (weekend, "2027-01-04T03:00", false),
        (weekend, "2027-01-04T23:00", false),
    ] {
        assert_eq!(w.is_open(at("America/New_York", time), &z), open, "{time}");
    }
}

#[test]
fn clocks_that_go_forward_shorten_the_window_or_leave_it_out() {
    let (name, z) = ("Europe/Berlin", zone("Europe/Berlin"));
    // 2026-03-29: after 01:59:59 comes 03:00.
    let half = window("02:30", 3600);
    let gap = at(name, "2026-03-29T01:59:59") + 1;
    assert!(!half.is_open(gap - 1, &z) && half.is_open(gap, &z));
    assert!(half.is_open(gap + 1799, &z) && !half.is_open(gap + 1800, &z));
    assert_eq!(half.next(gap - 600, 0, &z), Some(gap));
    let none = window("02:10", 1800);
    let next = none.next(gap - 600, 0, &z);
    assert_eq!(next, Some(at(name, "2026-03-30T02:10")));
    // Less than half an hour is left, which is too short for who wants to be gone by its end.
    let tomorrow = at(name, "2026-03-30T02:30");
    assert_eq!(half.next(gap + 60, 1800, &z), Some(tomorrow));
}

#[test]
fn clocks_that_go_back_open_it_twice() {
    let (name, z) = ("Europe/Berlin", zone("Europe/Berlin"));
    // 2026-10-25: after 02:59:59 comes 02:00.
    let w = window("Sun 02:30", 1200);
    let first = at(name, "2026-10-25T02:30");
    let opens = |from| w.next(from, 0, &z);
    assert_eq!(opens(first - 5000), Some(first));
    assert_eq!(opens(first + 1200), Some(first + 3600));
    assert_eq!(opens(first + 4800), Some(at(name, "2026-11-01T02:30")));
}

#[test]
fn a_window_as_long_as_its_period_is_always_open() {
    let z = zone("Pacific/Apia");
    for (start, length) in [
        ("04:00", 86_400),
        ("Thu 04:00", 7 * 86_400),
        ("23:59", 90_000),
    ] {
        let w = window(start, length);
        for unix in [0, 1_325_150_000, 1_325_239_200, i64::from(u32::MAX)] {
            assert!(w.is_open(unix, &z));
            assert_eq!(w.next(unix, 130, &z), Some(unix));
        }
    }
}

#[test]
fn half_a_window_is_none_and_an_unknown_time_outside_of_it() {
    let parse = |text: &str| Settings::parse(text.as_bytes(), b"", &mut |_| ());
    assert_eq!(Window::of(&parse("")), Ok(None));
    let start = "LOCKSMITHD_REBOOT_WINDOW_START=Thu 04:00";
    let length = "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h30m";
    for half in [start, length] {
        assert_eq!(Window::of(&parse(half)), Err(HalfAWindow));
        assert!(!parse(half).may_act_alone());
    }
    let whole = Window::of(&parse(&std::format!("{start}\n{length}")));
    assert_eq!(whole, Ok(Some(window("Thu 04:00", 5400))));
    let w = window("04:00", 86_400);
    for unix in [i64::MIN, i64::MAX] {
        assert!(!w.is_open(unix, &zone("UTC")));
        assert_eq!(w.next(unix, 0, &zone("UTC")), None);
    }
}

fn start() -> impl Strategy<Value = WindowStart> {
    (prop::option::of(0..7_usize), 0..1440_u16).prop_map(|(day, minute)| WindowStart {
        day: day.map(|day| DAYS[day]),
        minute,
    })
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        1..7200_u32,
        1..=7 * 86_400_u32,
        (1..600_u32).prop_map(|m| m * 60)
    ]
}

/// Times between 2010 and 2037, many of them near a change of the clocks.
fn time(zone: &str) -> impl Strategy<Value = i64> + use<> {
    let changes: std::vec::Vec<i64> = TimeZone::get(zone)
        .unwrap()
        .following(Timestamp::from_second(1_262_304_000).unwrap())
        .map(|change| change.timestamp().as_second())
        .take_while(|unix| *unix < 2_114_380_800)
        .collect();
    let near =
        (any::<prop::sample::Index>(), -100_000..100_000_i64).prop_map(move |(which, by)| {
            let change = changes.get(which.index(changes.len().max(1)));
            change.unwrap_or(&1_800_000_000) + by
        });
    prop_oneof![1_262_304_000..2_114_380_800_i64, near]
}

fn place() -> impl Strategy<Value = (&'static str, i64)> {
    prop::sample::select(&ZONES[..]).prop_flat_map(|name| (Just(name), time(name)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn open_is_what_the_clock_on_the_wall_says((name, unix) in place(), start in start(), length in length()) {
        let w = Window::new(start, length);
        prop_assert_eq!(w.is_open(unix, &zone(name)), model(start, length, name, unix));
    }

    #[test]
    fn next_is_the_first_time_that_it_is_open(
        (name, unix) in place(),
        start in start(),
        length in length(),
        margin in 0..400_i64,
        samples in prop::collection::vec(any::<prop::sample::Index>(), 20),
    ) {
        let (w, z) = (Window::new(start, length), zone(name));
        let next = w.next(unix, 0, &z).unwrap();
        prop_assert!(model(start, length, name, next));
        prop_assert!(next == unix || !model(start, length, name, next - 1));
        for sample in samples {
            let between = sample.index(usize::try_from(next - unix).unwrap().max(1));
            let before = unix + i64::try_from(between).unwrap();
            prop_assert!(before == next || !model(start, length, name, before));
        }
        // It stays open for the margin.
        let roomy = w.next(unix, margin, &z).unwrap();
        prop_assert!(roomy >= next);
        let margin = margin.min(i64::from(length) / 2);
        for second in [0, margin / 3, margin / 2, margin - 1] {
            prop_assert!(model(start, length, name, roomy + second.max(0)));
        }
    }
}
