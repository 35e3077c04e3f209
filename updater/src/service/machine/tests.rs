use super::*;

use proptest::prelude::*;

fn release(version: &str) -> NewRelease {
    NewRelease {
        version: version.into(),
        size: 4096,
    }
}

/// Every event there is, those with several kinds in each of them.
fn events() -> Vec<Event> {
    let failure = |exit| Failure::new(exit, "install payload: no luck");
    vec![
        Event::Started {
            staged: None,
            time: 1,
        },
        Event::Started {
            staged: Some(release("1")),
            time: 1,
        },
        Event::Start,
        Event::Accepted {
            release: release("2"),
            time: 2,
        },
        Event::Available {
            release: release("2"),
            time: 2,
        },
        Event::Progress {
            phase: Phase::Checking,
            done: 1,
            total: 2,
        },
        Event::Progress {
            phase: Phase::Writing,
            done: 9,
            total: 2,
        },
        Event::Progress {
            phase: Phase::Comparing,
            done: 0,
            total: 0,
        },
        Event::Finalizing,
        Event::Staged {
            release: release("2"),
        },
        Event::Nothing { time: 3 },
        Event::Failed {
            failure: failure(Exit::Verification),
            time: 4,
        },
        Event::Settled { staged: None },
        Event::Settled {
            staged: Some(release("2")),
        },
        Event::Cancel,
        Event::RollBack,
        Event::Reset,
    ]
}

/// What must hold for any status and any event.
fn step(before: &Status, event: &Event) -> Status {
    let mut after = before.clone();
    let result = after.on(event.clone());
    let context = || format!("{before:?} -- {event:?} -> {result:?} {after:?}");
    let (from, to) = (before.operation, after.operation);
    if result.is_err() {
        assert_eq!(*before, after, "{}", context());
    }
    // Work starts only out of a rest, and then somebody is told to do it.
    let starts = !from.is_busy() && to.is_busy();
    assert_eq!(starts, result == Ok(Some(Action::Work)), "{}", context());
    // The reboot is asked for only where the disk holds what would boot.
    if to == Operation::UpdatedNeedReboot && from != to {
        let known = matches!(
            event,
            Event::Staged { .. }
                | Event::Settled { staged: Some(_) }
                | Event::Started {
                    staged: Some(_),
                    ..
                }
        );
        assert!(known && after.release.is_some(), "{}", context());
    }
    if matches!(event, Event::Staged { .. }) && from != to {
        assert_eq!(from, Operation::Finalizing, "{}", context());
    }
    // An error is forgotten only by a success or by name.
    if before.last_error.is_some() && after.last_error.is_none() {
        let may = matches!(
            event,
            Event::Reset | Event::Staged { .. } | Event::Available { .. } | Event::Nothing { .. }
        );
        assert!(may, "{}", context());
    }
    // A failure of what was under way is never lost.
    if let Event::Failed { failure, .. } = event
        && from.is_busy()
    {
        let kept = after.last_error.as_ref().map(|error| error.text.as_str());
        assert_eq!(kept, Some(failure.text.as_str()), "{}", context());
        assert_eq!(to, Operation::ReportingErrorEvent, "{}", context());
    }
    // After a start, or when nobody works any more, nothing is under way.
    if matches!(event, Event::Started { .. } | Event::Settled { .. }) {
        assert!(!to.is_busy(), "{}", context());
    }
    assert!((0.0..=1.0).contains(&after.progress()), "{}", context());
    after
}

#[test]
fn all_sequences_of_four_events_keep_the_promises() {
    let events = events();
    let mut statuses = vec![Status::default()];
    let mut count = 0_u32;
    for _ in 0..4 {
        let mut next = Vec::new();
        for status in &statuses {
            for event in &events {
                next.push(step(status, event));
                count += 1;
            }
        }
        next.sort_by_key(|status| format!("{status:?}"));
        next.dedup();
        statuses = next;
    }
    let reached = |operation| statuses.iter().any(|s| s.operation == operation);
    for operation in Operation::ALL {
        let longer = [Operation::ReportingErrorEvent, Operation::Finalizing];
        assert!(
            reached(operation) || longer.contains(&operation),
            "{operation}"
        );
    }
    assert!(count > 500, "{count}");
}

#[test]
fn from_every_status_every_event_keeps_the_promises() {
    for operation in Operation::ALL {
        for known in [None, Some(release("2"))] {
            for error in [None, Some("old: news")] {
                let status = Status {
                    operation,
                    release: known.clone(),
                    last_error: error.map(|text| LastError {
                        exit: 1,
                        text: text.into(),
                        time: 0,
                    }),
                    ..Status::default()
                };
                for event in events() {
                    step(&status, &event);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn long_sequences_keep_the_promises(
        choice in proptest::collection::vec(0_usize..17, 0..200)
    ) {
        let events = events();
        let mut status = Status::default();
        for at in choice {
            status = step(&status, &events[at]);
        }
    }
}

#[test]
fn an_update_goes_through_flatcars_operations() {
    let mut status = Status::default();
    let mut seen = Vec::new();
    let progress = |phase| Event::Progress {
        phase,
        done: 1,
        total: 2,
    };
    for event in [
        Event::Start,
        Event::Accepted {
            release: release("2"),
            time: 5,
        },
        progress(Phase::Checking),
        progress(Phase::Writing),
        progress(Phase::Comparing),
        Event::Finalizing,
        Event::Staged {
            release: release("2"),
        },
        Event::Settled {
            staged: Some(release("2")),
        },
    ] {
        status.on(event).unwrap();
        seen.push(status.operation);
    }
    use Operation::*;
    assert_eq!(
        seen,
        [
            CheckingForUpdate,
            Downloading,
            Verifying,
            Downloading,
            Verifying,
            Finalizing,
            UpdatedNeedReboot,
            UpdatedNeedReboot
        ]
    );
    assert_eq!(
        (status.last_checked, status.last_error.is_none()),
        (5, true)
    );
}

#[test]
fn what_was_interrupted_is_told_after_a_restart() {
    for operation in Operation::ALL {
        let mut status = Status {
            operation,
            ..Status::default()
        };
        status
            .on(Event::Started {
                staged: None,
                time: 9,
            })
            .unwrap();
        let told = operation.is_busy() && operation != Operation::ReportingErrorEvent;
        let error = status.last_error.map(|error| (error.exit, error.text));
        let text = format!("install payload: interrupted while {}", operation.doing());
        assert_eq!(error, told.then_some((1, text)));
        let kept = operation == Operation::UpdateAvailable;
        let rest = if kept { operation } else { Operation::Idle };
        assert_eq!(status.operation, rest);
    }
    // It was activated just before the program ended.
    let mut status = Status {
        operation: Operation::Finalizing,
        ..Status::default()
    };
    let staged = Some(release("2"));
    status.on(Event::Started { staged, time: 9 }).unwrap();
    assert_eq!(status.operation, Operation::UpdatedNeedReboot);
    assert_eq!(status.last_error, None);
}

#[test]
fn a_cancel_says_what_it_can_not_do() {
    let cancel = |operation| {
        let mut status = Status {
            operation,
            ..Status::default()
        };
        status.on(Event::Cancel)
    };
    use Operation::*;
    for operation in [CheckingForUpdate, Downloading, Verifying] {
        assert_eq!(cancel(operation), Ok(Some(Action::Stop)));
    }
    assert_eq!(cancel(UpdatedNeedReboot), Ok(Some(Action::Unstage)));
    assert_eq!(cancel(Finalizing), Err(Refusal::TooLate));
    for operation in [Idle, UpdateAvailable, ReportingErrorEvent] {
        let refusal = cancel(operation).unwrap_err();
        assert_eq!(refusal, Refusal::NothingToCancel);
        assert_eq!(Failure::from(refusal).exit, Exit::NoUpdate);
    }
}
