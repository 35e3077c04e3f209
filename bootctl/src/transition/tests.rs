use super::*;

fn attributes(p: u8, t: u8, s: u8) -> Attributes {
    Attributes {
        priority: Priority::new(p).unwrap(),
        tries: Tries::new(t).unwrap(),
        successful: s == 1,
    }
}

fn state(a: (u8, u8, u8), b: (u8, u8, u8)) -> BootState {
    BootState {
        a: attributes(a.0, a.1, a.2),
        b: attributes(b.0, b.1, b.2),
    }
}

/// All 512 × 512 states.
fn all_states() -> impl Iterator<Item = BootState> {
    let slot = |n: u64| Attributes::from_gpt(n << crate::attributes::PRIORITY_SHIFT);
    (0..512 * 512).map(move |n| BootState {
        a: slot(n / 512),
        b: slot(n % 512),
    })
}

const FLASHED: ((u8, u8, u8), (u8, u8, u8)) = ((1, 0, 1), (0, 0, 0));

#[test]
fn one_update_step_by_step() {
    let flashed = state(FLASHED.0, FLASHED.1);
    let invalid = mark_unbootable(flashed, Slot::A, Slot::B, Fallback::Required).unwrap();
    assert_eq!(invalid.state, flashed);
    let staged = activate(
        flashed,
        Slot::A,
        Slot::B,
        TryCount::DEFAULT,
        true,
        Fallback::Required,
    )
    .unwrap();
    assert_eq!(staged.state, state((1, 0, 1), (2, 3, 0)));
    assert_eq!(
        staged.steps.as_slice(),
        [
            Step::ConfirmedRecord(Slot::A),
            Step::Mirror(staged.state),
            Step::Authority(staged.state),
        ]
    );
    let spent = state((1, 0, 1), (2, 2, 0));
    let good = mark_successful(spent, Slot::B).unwrap();
    assert_eq!(good.state, state((1, 0, 1), (2, 0, 1)));
    assert_eq!(
        good.steps.as_slice(),
        [
            Step::Mirror(good.state),
            Step::Authority(good.state),
            Step::ConfirmedRecord(Slot::B),
        ]
    );
    let back = rollback(good.state, Slot::B, TryCount::DEFAULT).unwrap();
    assert_eq!(back.state, state((2, 3, 0), (1, 0, 1)));
    assert_eq!(back.steps.first(), Some(&Step::ConfirmedRecord(Slot::B)));
}

#[test]
fn refusals_carry_the_numbers() {
    let trial = state((1, 0, 1), (2, 2, 0));
    let not_confirmed = Refusal::ActiveNotConfirmed {
        slot: Slot::B,
        attributes: attributes(2, 2, 0),
    };
    assert_eq!(
        mark_unbootable(trial, Slot::B, Slot::A, Fallback::Required),
        Err(not_confirmed)
    );
    let text = not_confirmed.to_string();
    assert!(
        text.contains("slot b") && text.contains("P2 T2 S0"),
        "{text}"
    );
    let flashed = state(FLASHED.0, FLASHED.1);
    let active = Refusal::TargetIsActive { slot: Slot::A };
    assert_eq!(
        mark_unbootable(flashed, Slot::A, Slot::A, Fallback::Required),
        Err(active)
    );
    let tries = TryCount::DEFAULT;
    let unproven = activate(flashed, Slot::A, Slot::B, tries, false, Fallback::Required);
    assert_eq!(unproven, Err(Refusal::NoSlotRecord { slot: Slot::B }));
    let candidate = Refusal::NotCandidate {
        slot: Slot::B,
        attributes: Attributes::UNBOOTABLE,
    };
    assert_eq!(rollback(flashed, Slot::A, tries), Err(candidate));
    let zero = Refusal::PriorityZero {
        slot: Slot::B,
        attributes: Attributes::UNBOOTABLE,
    };
    assert_eq!(mark_successful(flashed, Slot::B), Err(zero));
}

#[test]
fn try_counts_are_one_digit() {
    for value in 0..=255 {
        assert_eq!(TryCount::new(value).is_some(), (1..=9).contains(&value));
    }
}

/// Invariants of every transition out of every state.
#[test]
fn all_states_all_transitions() {
    let tries = TryCount::new(9).unwrap();
    let mut allowed = [0_u32; 4];
    for before in all_states() {
        for active in Slot::ALL {
            let passive = active.other();
            let confirmed = before.get(active).is_confirmed();

            let invalid = mark_unbootable(before, active, passive, Fallback::Required);
            assert_eq!(invalid.is_ok(), confirmed);
            let staged = activate(before, active, passive, tries, true, Fallback::Required);
            assert_eq!(staged.is_ok(), confirmed);
            let good = mark_successful(before, active);
            assert_eq!(good.is_ok(), before.get(active).priority > Priority::NEVER);
            let back = rollback(before, active, tries);
            assert_eq!(back.is_ok(), before.get(passive).is_candidate());
            assert!(mark_unbootable(before, active, active, Fallback::Required).is_err());
            assert!(activate(before, active, active, tries, true, Fallback::Required).is_err());

            if let Ok(plan) = invalid {
                allowed[0] += 1;
                assert_eq!(plan.state.get(passive), Attributes::UNBOOTABLE);
                assert_eq!(plan.state.get(active), before.get(active));
                assert_eq!(plan.state.next(), Some(active));
                let [record, authority, mirror] = plan.steps.as_slice() else {
                    panic!("{plan:?}");
                };
                assert_eq!(*record, Step::ConfirmedRecord(active));
                assert_eq!(*authority, Step::Authority(plan.state));
                assert_eq!(*mirror, Step::Mirror(plan.state));
            }
            if let Ok(plan) = staged {
                allowed[1] += 1;
                assert_eq!(plan.state.next(), Some(passive));
                assert_eq!(plan.state.best_confirmed(), Some(active));
                keeps_tries_and_success(before, plan.state, active);
                authority_is_last(&plan);
            }
            if let Ok(plan) = good {
                allowed[2] += 1;
                let (old, new) = (before.get(active), plan.state.get(active));
                assert!(new.is_confirmed() && new.tries == Tries::NONE);
                assert_eq!(new.priority, old.priority);
                assert_eq!(plan.state.get(passive), before.get(passive));
                assert_eq!(
                    mark_successful(plan.state, active).unwrap().state,
                    plan.state
                );
                assert_eq!(plan.steps.last(), Some(&Step::ConfirmedRecord(active)));
            }
            if let Ok(plan) = back {
                allowed[3] += 1;
                assert_eq!(plan.state.next(), Some(passive));
                keeps_tries_and_success(before, plan.state, active);
                if !(before.get(passive).successful && confirmed) {
                    keeps_tries_and_success(before, plan.state, passive);
                }
                authority_is_last(&plan);
                // Invariant 5, and the record names a slot that is confirmed before and after.
                if before.best_confirmed().is_some() {
                    let record = plan.state.best_confirmed().unwrap();
                    assert!(before.get(record).successful);
                    assert_eq!(plan.steps.first(), Some(&Step::ConfirmedRecord(record)));
                }
            }
        }
    }
    assert!(allowed.iter().all(|&count| count > 100_000), "{allowed:?}");
}

fn keeps_tries_and_success(before: BootState, after: BootState, slot: Slot) {
    let (old, new) = (before.get(slot), after.get(slot));
    assert_eq!((old.tries, old.successful), (new.tries, new.successful));
}

fn authority_is_last(plan: &Plan) {
    let stores: std::vec::Vec<_> = plan
        .steps
        .iter()
        .filter(|step| !matches!(step, Step::ConfirmedRecord(_)))
        .collect();
    assert_eq!(
        stores,
        [&Step::Mirror(plan.state), &Step::Authority(plan.state)]
    );
    assert_eq!(plan.steps.last(), Some(&Step::Authority(plan.state)));
}

#[test]
fn a_rebuilt_environment_gives_no_tries_back() {
    for mirror in all_states() {
        for recorded in [None, Some(Slot::A), Some(Slot::B)] {
            let rebuilt = rebuild(mirror, recorded);
            let known = recorded.is_some() || mirror.best_confirmed().is_some();
            assert_eq!(rebuilt.is_some(), known);
            let Some(state) = rebuilt else { continue };
            for slot in Slot::ALL {
                let attributes = state.get(slot);
                assert_eq!(attributes.tries, Tries::NONE);
                assert!(attributes.priority <= Priority::HIGH);
                let vouched = mirror.get(slot).is_confirmed() || recorded == Some(slot);
                assert_eq!(attributes.is_confirmed(), vouched);
                if !vouched {
                    assert_eq!(attributes, Attributes::UNBOOTABLE);
                }
            }
            let agrees = recorded.is_none_or(|slot| mirror.get(slot).is_confirmed());
            let expected = if agrees {
                mirror.best_confirmed()
            } else {
                recorded
            };
            assert_eq!(state.next(), expected);
        }
    }
}

#[test]
fn a_mirror_follows_but_for_spent_tries() {
    let authority = state((1, 0, 1), (2, 1, 0));
    assert!(mirror_follows(authority, authority));
    assert!(mirror_follows(state((1, 0, 1), (2, 3, 0)), authority));
    for other in [
        state((1, 0, 1), (2, 0, 0)),
        state((1, 0, 1), (1, 1, 0)),
        state((1, 0, 1), (2, 1, 1)),
        state((2, 0, 1), (2, 1, 0)),
    ] {
        assert!(!mirror_follows(other, authority), "{other:?}");
    }
}

#[test]
fn forced_on_trial_installs_beside_an_unconfirmed_slot() {
    let trial = state((1, 0, 1), (2, 2, 0));
    let invalid = mark_unbootable(trial, Slot::B, Slot::A, Fallback::Waived).unwrap();
    assert_eq!(invalid.state, state((0, 0, 0), (2, 2, 0)));
    let tries = TryCount::DEFAULT;
    let staged = activate(
        invalid.state,
        Slot::B,
        Slot::A,
        tries,
        true,
        Fallback::Waived,
    )
    .unwrap();
    assert_eq!(staged.state, state((2, 3, 0), (1, 2, 0)));
    let active = mark_unbootable(trial, Slot::B, Slot::B, Fallback::Waived);
    assert_eq!(active, Err(Refusal::TargetIsActive { slot: Slot::B }));
}
