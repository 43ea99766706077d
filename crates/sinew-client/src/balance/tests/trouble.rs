//! Peak EWMA when an endpoint is slow, frozen, failing, new or recovering: 2,000 calls a second in made-up time.

use super::{Random, endpoint, hint, policy_of};
use crate::{latency::begin_at_the_median, snapshot::Ready};
use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What an endpoint does with a call that comes at this second.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// About half a millisecond.
    Well,
    /// So many milliseconds more.
    Slow(u64),
    /// Answers at once, with an error.
    Fail,
    /// Well, but for so many failures in a thousand.
    FailSome(u32),
    /// Nothing, until it does something else again.
    Freeze,
}

struct World {
    ready: Vec<Arc<Ready>>,
    random: Random,
    zero: Instant,
    /// Sent at this second, per endpoint.
    sent: Vec<Vec<u64>>,
    /// After this the caller gives up.
    patience: Duration,
}

impl World {
    fn new(endpoints: usize) -> Self {
        let ready = (0..endpoints).map(|n| endpoint(format!("shop-{n}"), 1)).collect();
        let zero = Instant::now();
        Self { ready, random: Random(3), zero, sent: Vec::new(), patience: Duration::from_secs(1) }
    }

    /// Lets so many seconds pass. `does` tells what each endpoint does at a second.
    fn run(&mut self, seconds: u64, does: impl Fn(usize, u64) -> Does) {
        let picker = policy_of(r#"{"sinew_peak_ewma":{}}"#).picker(&self.ready);
        // Ends of calls: when, whose, when begun, and whether it was given up.
        let mut ends: BinaryHeap<Reverse<(Instant, usize, Instant, bool)>> = BinaryHeap::new();
        let before = self.sent.len() as u64 * 2_000;
        for call in before..before + seconds * 2_000 {
            let now = self.zero + Duration::from_micros(500) * call as u32;
            let second = call / 2_000;
            if call % 2_000 == 0 {
                self.sent.push(vec![0; self.ready.len()]);
                self.look(second, &does);
            }
            while let Some(Reverse((at, who, began, given_up))) = ends.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
                ends.pop();
                let latency = &self.ready[who].endpoint.latency;
                if given_up {
                    latency.given_up(began, at);
                    continue;
                }
                latency.answered(began, at);
                match does(who, (began - self.zero).as_secs()) {
                    Does::Fail => latency.failed(began, at),
                    Does::FailSome(thousandths) if self.random.unit() * 1_000.0 < f64::from(thousandths) => {
                        latency.failed(began, at)
                    }
                    _ => latency.succeeded(),
                }
            }
            let who = picker.pick(&self.ready, hint(self.random.next(), 0, now));
            self.sent[second as usize][who] += 1;
            self.ready[who].endpoint.latency.began(now);
            let usual = Duration::from_secs_f64(-0.000_5 * (1.0 - self.random.unit()).ln());
            let (took, given_up) = match does(who, second) {
                Does::Well | Does::FailSome(_) => (usual, false),
                Does::Slow(ms) => (usual + Duration::from_millis(ms), false),
                Does::Fail => (Duration::from_micros(50), false),
                Does::Freeze => (self.patience, true),
            };
            let (took, given_up) = if took > self.patience { (self.patience, true) } else { (took, given_up) };
            ends.push(Reverse((now + took, who, now, given_up)));
        }
    }

    /// Notices who came back from a freeze, as an answered PING does.
    fn look(&self, second: u64, does: &impl Fn(usize, u64) -> Does) {
        let now = self.zero + Duration::from_secs(second);
        for (who, ready) in self.ready.iter().enumerate() {
            if second > 0 && does(who, second - 1) == Does::Freeze && does(who, second) != Does::Freeze {
                ready.endpoint.latency.forget(now);
            }
        }
        let all = self.ready.iter().map(|ready| &ready.endpoint.latency);
        begin_at_the_median(all.clone(), all, now);
    }

    /// The share of the last endpoint in these seconds.
    fn share(&self, seconds: std::ops::Range<usize>) -> f64 {
        let sent: Vec<_> = self.sent.get(seconds).unwrap_or_default().iter().collect();
        let of_last: u64 = sent.iter().filter_map(|second| second.last()).sum();
        of_last as f64 / sent.iter().map(|second| second.iter().sum::<u64>()).sum::<u64>() as f64
    }
}

/// The last of `n` does this at these seconds, and works well otherwise.
fn last(n: usize, what: Does, when: std::ops::Range<u64>) -> impl Fn(usize, u64) -> Does {
    move |who, second| if who + 1 == n && when.contains(&second) { what } else { Does::Well }
}

#[test]
fn all_well_all_have_a_fair_share() {
    let mut world = World::new(5);
    world.run(20, last(5, Does::Well, 0..0));
    let share = world.share(0..20);
    assert!((0.15..0.25).contains(&share), "{share}");
}

#[test]
fn one_that_is_200_ms_slower_gets_half_a_percent_at_most() {
    let mut world = World::new(5);
    world.run(30, last(5, Does::Slow(200), 0..30));
    let share = world.share(0..30);
    assert!(share <= 0.005, "{share}");
}

#[test]
fn one_that_takes_longer_than_its_callers_wait_gets_half_a_percent_at_most() {
    let mut world = World::new(5);
    world.patience = Duration::from_millis(100);
    world.run(30, last(5, Does::Slow(200), 0..30));
    let share = world.share(0..30);
    assert!(share <= 0.005, "{share}");
}

#[test]
fn one_that_fails_at_once_gets_five_percent_at_most() {
    let mut world = World::new(3);
    world.run(30, last(3, Does::Fail, 5..30));
    let share = world.share(5..30);
    assert!(share <= 0.05, "{share}");
}

#[test]
fn a_few_failures_everywhere_leave_the_shares_even() {
    let mut world = World::new(5);
    world.run(20, |_, _| Does::FailSome(1));
    for who in 0..5 {
        let all: u64 = world.sent.iter().map(|second| second[who]).sum();
        assert!((6_000..10_000).contains(&all), "{who} has {all} of 40,000");
    }
}

#[test]
fn one_that_freezes_is_left_at_once_and_back_within_two_seconds() {
    let mut world = World::new(3);
    world.run(12, last(3, Does::Freeze, 3..8));
    let (frozen, back) = (world.share(3..8), world.share(8..10));
    assert!(frozen <= 0.005, "while frozen: {frozen}");
    assert!(back >= 0.25, "in the two seconds after it goes on: {back}");
}

#[test]
fn one_that_has_recovered_is_found_out() {
    let mut world = World::new(5);
    world.run(30, last(5, Does::Slow(200), 0..10));
    let share = world.share(20..30);
    assert!(share >= 0.15, "ten seconds after it was slow last: {share}");
}

#[test]
fn one_that_is_new_is_neither_shunned_nor_run_down() {
    let mut world = World::new(4);
    world.run(5, last(4, Does::Well, 0..0));
    world.ready.push(endpoint("shop-new", 1));
    world.run(2, last(5, Does::Well, 0..0));
    let share = world.share(5..6);
    assert!((0.1..0.35).contains(&share), "in its first second: {share}");
}
