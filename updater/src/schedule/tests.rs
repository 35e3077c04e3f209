use proptest::prelude::*;

use super::*;

const OPEN: Facts = Facts {
    confirmed: true,
    busy: false,
    staged: false,
};

fn settings(text: &str) -> Settings {
    Settings::parse(text.as_bytes(), b"", &mut |_| ())
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Numbers that are all different enough (splitmix64).
fn dice(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[test]
fn the_first_check_is_neither_at_once_nor_late() {
    for extreme in [0, u64::MAX, 599_999, 600_001] {
        let schedule = Schedule::start(Moment(seconds(7)), &mut || extreme);
        let left = schedule.left(Moment(seconds(7)));
        assert!((FIRST.0..=FIRST.1).contains(&left), "{left:?}");
    }
}

#[test]
fn what_holds_a_device_from_polling() {
    let server = settings("SERVER=https://u.example");
    assert_eq!(Hold::of(&server, &OPEN), None);
    assert_eq!(Hold::of(&settings("PAYLOAD_DIR=/run/stick"), &OPEN), None);
    for off in ["", "SERVER=disabled"] {
        assert_eq!(Hold::of(&settings(off), &OPEN), Some(Hold::Off));
    }
    let bad = settings("SERVER=https://u.example\nTRIES=x");
    assert_eq!(Hold::of(&bad, &OPEN), Some(Hold::BadSettings));
    for (facts, hold) in [
        (
            Facts {
                confirmed: false,
                ..OPEN
            },
            Hold::OnTrial,
        ),
        (Facts { busy: true, ..OPEN }, Hold::Busy),
        (
            Facts {
                staged: true,
                ..OPEN
            },
            Hold::Staged,
        ),
    ] {
        assert_eq!(Hold::of(&server, &facts), Some(hold));
    }
}

#[test]
fn pauses_grow_with_failures_up_to_four_hours_and_an_answer_ends_them() {
    let settings = settings("POLL_INTERVAL=45m");
    let now = Moment(seconds(0));
    let mut schedule = Schedule::start(now, &mut || 0);
    // The earliest of the times that jitter allows.
    let mut earliest = || 0;
    let failed = Outcome::Failed { retry_after: None };
    for (failures, minutes) in [(1, 90), (2, 180), (3, 240), (4, 240)] {
        schedule.checked(now, &settings, failed, &mut earliest);
        let least = seconds(minutes * 60) * 7 / 8;
        assert_eq!((schedule.failures(), schedule.left(now)), (failures, least));
    }
    for _ in 0..100 {
        schedule.checked(now, &settings, failed, &mut earliest);
    }
    assert_eq!(schedule.left(now), seconds(240 * 60) * 7 / 8);
    schedule.checked(now, &settings, Outcome::Answered, &mut earliest);
    assert_eq!(
        (schedule.failures(), schedule.left(now)),
        (0, seconds(45 * 60) * 7 / 8)
    );
}

#[test]
fn a_server_can_ask_for_more_time_but_not_for_ever() {
    let settings = settings("POLL_INTERVAL=1m");
    let now = Moment(seconds(0));
    let mut schedule = Schedule::start(now, &mut || 0);
    for (asked, least) in [(1, 105), (7200, 7200), (u64::MAX, 24 * 3600)] {
        let retry_after = Some(seconds(asked));
        schedule.checked(now, &settings, Outcome::Answered, &mut || 0);
        schedule.checked(now, &settings, Outcome::Failed { retry_after }, &mut || 0);
        assert_eq!(schedule.left(now), seconds(least));
    }
}

#[test]
fn on_trial_nothing_is_asked_however_long_it_takes_and_then_at_once() {
    let mut schedule = Schedule::start(Moment::default(), &mut || 0);
    for day in 1..400 {
        let now = Moment(seconds(day * 86_400));
        let next = schedule.next(now, Some(Hold::OnTrial));
        assert_eq!(next, Next::Sleep(LOOK_AGAIN));
    }
    assert_eq!(
        schedule.next(Moment(seconds(400 * 86_400)), None),
        Next::Check
    );
}

/// What a run of the service sees: a step of its clock, forward or back, and what is the matter then.
#[derive(Clone, Debug)]
struct Step {
    clock: i64,
    hold: bool,
    fails: bool,
    asked: Option<u32>,
}

fn step() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![
        8 => 0..7200_i64,
        1 => -1_000_000_000..1_000_000_000_i64,
        1 => Just(0_i64),
    ];
    (
        clock,
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::option::weighted(0.1, any::<u32>()),
    )
        .prop_map(|(clock, hold, fails, asked)| Step {
            clock,
            hold,
            fails,
            asked,
        })
}

proptest! {
    /// Jitter stays within an eighth, both ends included.
    #[test]
    fn jitter_is_bounded(minutes in 1..10_080_u64, seed: u64) {
        let settings = settings(&std::format!("POLL_INTERVAL={minutes}m"));
        let now = Moment(seconds(seed >> 20));
        let mut random = dice(seed);
        let mut schedule = Schedule::start(now, &mut random);
        let (mut early, mut late) = (0, 0);
        for _ in 0..64 {
            schedule.checked(now, &settings, Outcome::Answered, &mut random);
            let left = schedule.left(now);
            let interval = seconds(minutes * 60);
            prop_assert!(left >= interval - interval / 8 && left <= interval + interval / 8);
            early += u32::from(left < interval);
            late += u32::from(left > interval);
        }
        prop_assert!(early > 8 && late > 8, "{early} early, {late} late");
    }

    /// Whatever the clock does, checks cost time on it: nobody is asked more often than the shortest pause allows. And
    /// when it runs on for as long as the longest pause, somebody is asked.
    #[test]
    fn a_clock_that_jumps_causes_neither_a_storm_nor_silence(
        minutes in prop_oneof![1..90_u64, 1..10_080_u64],
        seed: u64,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let settings = settings(&std::format!("POLL_INTERVAL={minutes}m"));
        let interval = seconds(minutes * 60);
        let shortest = FIRST.0.min(interval - interval / 8);
        let longest = PAUSE_MAX.max(interval) * 9 / 8;
        let longest = longest.max(ASKED_MAX * 9 / 8).max(FIRST.1);
        let mut random = dice(seed);
        let mut clock = Moment(seconds(1_000_000));
        let mut schedule = Schedule::start(clock, &mut random);
        // How far the clock ran forward in all, and since the last check without going back.
        let (mut forward, mut calm) = (Duration::ZERO, Duration::ZERO);
        let mut checks = 0_u32;
        for step in steps {
            let by = seconds(step.clock.unsigned_abs());
            if step.clock < 0 {
                clock = Moment(clock.0.saturating_sub(by));
                calm = Duration::ZERO;
            } else {
                clock = clock.after(by);
                forward += by;
                calm += by;
            }
            let hold = step.hold.then_some(Hold::OnTrial);
            match schedule.next(clock, hold) {
                Next::Check => {
                    prop_assert!(!step.hold);
                    checks += 1;
                    prop_assert!(forward >= shortest * checks, "{checks} checks in {forward:?}");
                    calm = Duration::ZERO;
                    let retry_after = step.asked.map(|s| seconds(s.into()));
                    let outcome = match step.fails {
                        true => Outcome::Failed { retry_after },
                        false => Outcome::Answered,
                    };
                    schedule.checked(clock, &settings, outcome, &mut random);
                    prop_assert!(schedule.left(clock) >= shortest);
                }
                Next::Sleep(time) => {
                    prop_assert!(!time.is_zero() && time <= longest, "{time:?}");
                    prop_assert!(step.hold || calm < longest, "nobody asked for {calm:?}");
                }
            }
        }
    }

    /// Whoever sleeps as it is told wakes up to a check.
    #[test]
    fn sleeping_leads_to_a_check(seed: u64, at in 0..u64::from(u32::MAX)) {
        let mut schedule = Schedule::start(Moment(seconds(at)), &mut dice(seed));
        let Next::Sleep(time) = schedule.next(Moment(seconds(at)), None) else {
            return Err(TestCaseError::fail("at once"));
        };
        prop_assert_eq!(schedule.next(Moment(seconds(at)).after(time), None), Next::Check);
    }
}
