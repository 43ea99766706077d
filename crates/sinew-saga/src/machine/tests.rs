//! The decisions, proved over random histories.

use super::{Change, Circumstances, Decision, Event, Phase, Reason, State, decide};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

const STEPS: usize = 3;

fn at(second: i64, cancelled: bool) -> Circumstances {
    let now = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(second);
    Circumstances {
        now,
        steps: STEPS,
        patience: TimeDelta::seconds(10),
        expires: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(60),
        cancelled: cancelled.then(|| Reason::new("CANCELLED", "")),
    }
}

fn refused() -> Event {
    Event::Refused(Reason::new("DECLINED", ""))
}

fn unknown() -> Event {
    Event::Unknown(Reason::new("UNAVAILABLE", ""))
}

/// Applies events at second 0 and answers the last decision.
fn after(events: &[Event], cancelled: bool) -> Decision {
    let mut decision = Decision { state: State::new(at(0, false).now), change: None };
    for event in events {
        decision = decide(&decision.state, event, &at(0, cancelled));
    }
    decision
}

#[test]
fn all_steps_done_is_completed() {
    let decision = after(&[Event::Done, Event::Done, Event::Done], false);
    assert_eq!((decision.state.phase, decision.change), (Phase::Completed, Some(Change::Completed)));
}

#[test]
fn a_refused_first_step_has_nothing_to_undo() {
    let decision = after(&[refused()], false);
    assert_eq!(decision.state.phase, Phase::Failed);
    assert!(matches!(decision.change, Some(Change::Failed(reason)) if reason.code == "DECLINED"));
}

#[test]
fn a_refused_step_is_not_undone_but_those_before_it_are() {
    let decision = after(&[Event::Done, refused()], false);
    assert_eq!((decision.state.phase, decision.state.step), (Phase::Compensating, 0));
}

#[test]
fn a_refusal_after_an_unknown_attempt_is_undone_too() {
    let decision = after(&[Event::Done, unknown(), refused()], false);
    assert_eq!((decision.state.phase, decision.state.step), (Phase::Compensating, 1));
}

#[test]
fn unknown_outcomes_are_tried_again_until_patience_ends() {
    let state = after(&[Event::Done], false).state;
    let early = decide(&state, &unknown(), &at(9, false));
    assert_eq!((early.state.attempt, early.change.is_none()), (1, true));
    let late = decide(&early.state, &unknown(), &at(10, false));
    assert_eq!((late.state.phase, late.state.step), (Phase::Compensating, 1));
    assert_eq!(late.state.reason.map(|reason| reason.code).as_deref(), Some("UNAVAILABLE"));
}

#[test]
fn a_saga_that_takes_too_long_turns_back_unless_its_last_step_is_done() {
    let state = after(&[Event::Done], false).state;
    let late = decide(&state, &Event::Done, &at(60, false));
    assert_eq!(late.state.reason.map(|reason| reason.code).as_deref(), Some(Reason::TIMED_OUT));
    let last = after(&[Event::Done, Event::Done], false).state;
    assert_eq!(decide(&last, &Event::Done, &at(60, false)).state.phase, Phase::Completed);
    assert_eq!(decide(&last, &Event::Look, &at(60, false)).state.phase, Phase::Compensating);
}

#[test]
fn a_cancel_beats_completion_and_every_other_reason() {
    for event in [Event::Done, refused(), unknown(), Event::Look] {
        let last = after(&[Event::Done, Event::Done], false).state;
        let decision = decide(&last, &event, &at(99, true));
        assert_eq!(decision.state.phase, Phase::Compensating, "{event:?}");
        assert_eq!(decision.state.reason.map(|reason| reason.code).as_deref(), Some("CANCELLED"), "{event:?}");
    }
}

#[test]
fn a_refused_undo_waits_for_an_operator() {
    let parked = after(&[Event::Done, refused(), refused()], false);
    assert!(parked.state.parked && matches!(parked.change, Some(Change::Parked(0, _))));
    for event in [Event::Done, refused(), unknown(), Event::Look] {
        assert_eq!(decide(&parked.state, &event, &at(1, false)), Decision { state: parked.state.clone(), change: None });
    }
    let resumed = decide(&parked.state, &Event::Resume, &at(1, false)).state;
    assert!(!resumed.parked && resumed.step == 0 && resumed.phase == Phase::Compensating);
    assert_eq!(decide(&parked.state, &Event::Skip, &at(1, false)).state.phase, Phase::Failed);
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Done),
        1 => Just(refused()),
        3 => Just(unknown()),
        1 => Just(Event::Look),
        1 => Just(Event::Resume),
        1 => Just(Event::Skip),
    ]
}

proptest! {
    /// Whatever happens: phases only go forward in their order, each step that may have had an effect is undone once, from
    /// the last to the first, and nothing else is.
    #[test]
    fn every_effect_is_kept_or_undone_in_reverse(
        events in prop::collection::vec((event(), 0i64..4, prop::bool::weighted(0.03)), 1..60),
    ) {
        let mut state = State::new(at(0, false).now);
        let (mut effects, mut undone, mut second, mut cancelled) = (Vec::new(), Vec::new(), 0, false);
        for (event, seconds, cancel) in events {
            second += seconds;
            // The store accepts a cancel only on the way forward, and keeps it.
            cancelled |= cancel && state.phase.is_forward();
            let before = state.clone();
            let decision = decide(&before, &event, &at(second, cancelled));
            if before.phase.is_forward() && matches!(event, Event::Done | Event::Unknown(_)) && effects.last() != Some(&before.step) {
                effects.push(before.step);
            }
            let skipped = event == Event::Skip && before.parked;
            if before.phase == Phase::Compensating && ((event == Event::Done && !before.parked) || skipped) {
                undone.push(before.step);
            }
            prop_assert!(decision.state.phase >= before.phase);
            prop_assert!(!before.phase.is_terminal() || (decision.state == before && decision.change.is_none()));
            prop_assert!(decision.change.is_some() == ((decision.state.phase, decision.state.step, decision.state.parked)
                != (before.phase, before.step, before.parked)) || event == Event::Resume);
            prop_assert!(!(cancelled && decision.state.phase == Phase::Completed && before.phase != Phase::Completed));
            state = decision.state;
        }
        let expected: Vec<_> = effects.iter().rev().copied().collect();
        match state.phase {
            Phase::Failed => prop_assert_eq!(undone, expected),
            Phase::Compensating => prop_assert!(expected.starts_with(&undone)),
            Phase::Completed => prop_assert_eq!(effects, vec![0, 1, 2]),
            Phase::Started | Phase::Processing => prop_assert!(undone.is_empty()),
        }
    }

    /// A participant that recovers lets every saga end.
    #[test]
    fn success_always_ends_it(events in prop::collection::vec(event(), 0..40), cancel in any::<bool>()) {
        let mut state = after(&events, false).state;
        for _ in 0..2 * STEPS + 1 {
            let event = if state.parked { Event::Skip } else { Event::Done };
            state = decide(&state, &event, &at(0, cancel)).state;
        }
        prop_assert!(state.phase.is_terminal());
    }
}
