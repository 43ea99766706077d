//! The breaker equals a model that is too simple to be wrong, whatever happens in whatever order.

use super::{Breaker, Permit, window::Window};
use crate::{
    config::{BreakerConfig, FailureRate},
    describe::BreakerState,
};
use proptest::prelude::*;
use sinew_core::classify::Verdict;
use std::time::Duration;
use tokio::time::Instant;

const CONFIG: BreakerConfig = BreakerConfig {
    failures: 5,
    rate: None,
    open_for: Duration::from_secs(30),
    all_open_for: Duration::from_secs(1),
    probes: 3,
    successes: 3,
};

/// Half of the calls of ten seconds, once there are eight; five in a row still open it, too.
const RATE: FailureRate = FailureRate { percent: 50, window: Duration::from_secs(10), minimum: 8 };

#[derive(Debug, Clone, Copy)]
enum Event {
    Acquire,
    /// Ends the call at this place among those under way.
    Settle(usize, Verdict),
    Pass(u64),
    Reconnect,
}

/// The same rules with a list of calls and no packing.
#[derive(Debug, Default)]
struct Model {
    now_ms: u64,
    generation: u64,
    phase: Phase,
    run: u32,
    successes: u32,
    rate: Option<FailureRate>,
    /// The calls that ended since it closed: in which second, and whether they failed.
    calls: Vec<(u64, bool)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Phase {
    #[default]
    Closed,
    OpenUntil(u64),
    HalfOpen,
}

impl Model {
    fn enter(&mut self, phase: Phase) {
        (self.phase, self.run, self.successes) = (phase, 0, 0);
        self.calls.clear();
        self.generation += 1;
    }

    fn acquire(&mut self, under_way: &[(u64, Permit)]) -> bool {
        if let Phase::OpenUntil(until) = self.phase
            && self.now_ms >= until
        {
            self.enter(Phase::HalfOpen);
        }
        let mine = under_way.iter().filter(|(generation, _)| *generation == self.generation).count();
        match self.phase {
            Phase::Closed => true,
            Phase::OpenUntil(_) => false,
            Phase::HalfOpen => mine < 3,
        }
    }

    fn settle(&mut self, generation: u64, verdict: Verdict) {
        if generation != self.generation {
            return;
        }
        let open = Phase::OpenUntil(self.now_ms + 30_000);
        let second = self.now_ms / 1_000;
        if self.phase == Phase::Closed && verdict != Verdict::Neutral {
            self.calls.push((second, verdict == Verdict::Failure));
        }
        match (self.phase, verdict) {
            (Phase::Closed, Verdict::Success) => self.run = 0,
            (Phase::Closed, Verdict::Failure) => {
                self.run += 1;
                let latest: Vec<_> = self.calls.iter().filter(|(at, _)| at + 10 > second).map(|(_, failed)| *failed).collect();
                let share = latest.iter().filter(|failed| **failed).count() as f64 / latest.len() as f64;
                let too_many = self.rate.is_some() && latest.len() >= 8 && share >= 0.5;
                if self.run == 5 || too_many {
                    self.enter(open);
                }
            }
            (Phase::HalfOpen, Verdict::Failure) => self.enter(open),
            (Phase::HalfOpen, Verdict::Success) => {
                self.successes += 1;
                if self.successes == 3 {
                    self.enter(Phase::Closed);
                }
            }
            _ => {}
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let verdict = prop_oneof![4 => Just(Verdict::Failure), 3 => Just(Verdict::Success), 1 => Just(Verdict::Neutral)];
    prop_oneof![
        8 => Just(Event::Acquire),
        8 => (0..8usize, verdict).prop_map(|(at, verdict)| Event::Settle(at, verdict)),
        1 => (0..40_000u64).prop_map(Event::Pass),
        1 => Just(Event::Reconnect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_equals_the_model(events in prop::collection::vec(event(), 1..200)) {
        follows(CONFIG, events)?;
    }

    #[test]
    fn one_that_looks_at_the_share_of_failures_equals_the_model_too(events in prop::collection::vec(event(), 1..200)) {
        follows(BreakerConfig { rate: Some(RATE), ..CONFIG }, events)?;
    }
}

/// What happens to the breaker happens to the model.
fn follows(config: BreakerConfig, events: Vec<Event>) -> Result<(), TestCaseError> {
    let zero = Instant::now();
    let (breaker, mut model) = (Breaker::new(config, zero), Model { rate: config.rate, ..Model::default() });
    let mut under_way: Vec<(u64, Permit)> = Vec::new();
    for event in events {
        let now = zero + Duration::from_millis(model.now_ms);
        match event {
            Event::Acquire => {
                let expected = model.acquire(&under_way);
                let got = breaker.acquire(now);
                prop_assert_eq!(got.is_ok(), expected, "{:?}", model);
                if let Ok(permit) = got {
                    under_way.push((model.generation, permit));
                }
            }
            Event::Settle(at, verdict) => {
                if !under_way.is_empty() {
                    let (generation, permit) = under_way.remove(at % under_way.len());
                    model.settle(generation, verdict);
                    breaker.settle(permit, verdict, || now);
                }
            }
            Event::Pass(ms) => model.now_ms += ms,
            Event::Reconnect => {
                if matches!(model.phase, Phase::OpenUntil(_)) {
                    model.enter(Phase::HalfOpen);
                }
                breaker.reconnected();
            }
        }
        let same = match (breaker.describe(), model.phase) {
            (BreakerState::Closed, Phase::Closed) | (BreakerState::HalfOpen, Phase::HalfOpen) => true,
            (BreakerState::Open { until }, Phase::OpenUntil(ms)) => until == zero + Duration::from_millis(ms),
            _ => false,
        };
        prop_assert!(same, "{:?} is not {:?}", breaker.describe(), model);
    }
    // Never wedged: once everything under way has ended and time has passed, a call gets through.
    for (_, permit) in under_way {
        breaker.settle(permit, Verdict::Neutral, || zero + Duration::from_millis(model.now_ms));
    }
    prop_assert!(breaker.acquire(zero + Duration::from_millis(model.now_ms + 30_000)).is_ok());
    Ok(())
}

#[test]
fn a_refusal_says_when_to_ask_again() {
    let zero = Instant::now();
    let breaker = Breaker::new(CONFIG, zero);
    let opened =
        (0..5).map(|_| breaker.settle(breaker.acquire(zero).expect("closed"), Verdict::Failure, || zero)).collect::<Vec<_>>();
    assert_eq!(opened, [false, false, false, false, true]);
    assert_eq!(breaker.acquire(zero).map_err(|r| r.until), Err(Some(zero + CONFIG.open_for)));
}

#[test]
fn a_share_of_failures_opens_it_that_no_run_would() {
    let zero = Instant::now();
    let breaker = Breaker::new(BreakerConfig { rate: Some(RATE), ..CONFIG }, zero);
    let call = |verdict| breaker.settle(breaker.acquire(zero).expect("closed"), verdict, || zero);
    let opened: Vec<_> = (0..8).map(|n| call(if n % 2 == 0 { Verdict::Success } else { Verdict::Failure })).collect();
    assert_eq!(opened, [false, false, false, false, false, false, false, true]);
}

#[test]
fn a_bucket_that_is_full_keeps_its_share() {
    let window = Window::new(Duration::from_secs(10));
    (0..200_000).for_each(|n| window.count(0, n % 4 == 0));
    let (calls, failures) = window.calls(0);
    assert!(calls > 30_000 && failures * 4 <= calls + 400 && failures * 4 + 400 >= calls, "{failures} of {calls}");
    assert_eq!(window.calls(9_999), (calls, failures));
    assert_eq!(window.calls(10_000), (0, 0));
}
