//! The limit before a simulated server: workers, one queue, calls that come at random, all in made-up time.

use super::{Adaptive, AdaptiveConcurrency, limit::packed};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// The fixed limit beside it.
const MOST: usize = 10_000;

/// Calls with exponential times between arrivals. What they take is Erlang-4, whose standard deviation is half its mean, or of a
/// Calls with exponential times between arrivals. What they take is [`Times`].
struct Server {
    adaptive: Adaptive,
    seed: u64,
    now: f64,
    next_arrival: f64,
    /// Of the limit, as a low class has it.
    share: f64,
    workers: usize,
    busy: usize,
    /// Calls per second.
    offered: f64,
    /// By method: its share of the calls, what its work takes, and how long it waits for others without a worker (seconds).
    methods: Vec<(f64, f64, f64)>,
    times: Times,
    /// Callers give up after so many seconds.
    patience: f64,
    queue: VecDeque<(usize, f64)>,
    ends: BinaryHeap<Reverse<End>>,
    under_way: usize,
    seen: Seen,
}

/// When a call ends, in ns, its method, when it began, whether it holds a worker, and whether its caller gives up then.
type End = (u64, usize, u64, bool, bool);

/// How what calls take is spread.
#[derive(Debug, Clone, Copy)]
enum Times {
    /// Not at all: where callers give up, either all are in time or none.
    Even,
    /// Erlang-4, whose standard deviation is half its mean.
    Erlang,
    /// One in ten takes 24 times as long as the others.
    Heavy,
}

#[derive(Debug, Default)]
struct Seen {
    served: usize,
    refused: usize,
    given_up: usize,
    latencies: Vec<f64>,
}

impl Seen {
    fn quantile(&mut self, q: f64) -> f64 {
        self.latencies.sort_by(f64::total_cmp);
        self.latencies[((self.latencies.len() - 1) as f64 * q) as usize]
    }
}

impl Server {
    fn new(workers: usize, offered: f64, methods: &[(f64, f64, f64)]) -> Self {
        Self {
            adaptive: Adaptive::new(AdaptiveConcurrency::default(), MOST, methods.len(), Arc::default()),
            seed: 42,
            now: 0.0,
            next_arrival: 0.0,
            share: 1.0,
            workers,
            busy: 0,
            offered,
            methods: methods.to_vec(),
            times: Times::Erlang,
            patience: f64::MAX,
            queue: VecDeque::new(),
            ends: BinaryHeap::new(),
            under_way: 0,
            seen: Seen::default(),
        }
    }

    /// SplitMix64, between 0 and 1.
    fn random(&mut self) -> f64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random()).ln()
    }

    fn service(&mut self, mean: f64) -> f64 {
        match self.times {
            Times::Even => mean,
            Times::Erlang => (0..4).map(|_| self.exponential(mean / 4.0)).sum(),
            Times::Heavy => {
                let share = if self.random() < 0.9 { 0.3 } else { 7.3 };
                self.exponential(mean * share)
            }
        }
    }

    fn work(&mut self) {
        while self.busy < self.workers {
            let Some((method, began)) = self.queue.pop_front() else { return };
            self.busy += 1;
            let took = self.service(self.methods[method].1);
            self.end(took, method, began, true);
        }
    }

    fn end(&mut self, after: f64, method: usize, began: f64, worker: bool) {
        let (end, patience) = (self.now + after, began + self.patience);
        self.ends.push(Reverse(((end.min(patience) * 1e9) as u64, method, (began * 1e9) as u64, worker, end > patience)));
    }

    fn arrive(&mut self) {
        if self.under_way as f64 >= (self.adaptive.limit() as f64 * self.share).ceil() {
            self.adaptive.refused(Duration::from_secs_f64(self.now));
            self.seen.refused += 1;
            return;
        }
        self.under_way += 1;
        self.adaptive.admitted(self.under_way);
        let mut choice = self.random();
        let method = self.methods.iter().position(|(share, ..)| {
            choice -= share;
            choice < 0.0
        });
        let method = method.unwrap_or(0);
        let waits = self.methods[method].2;
        if waits > 0.0 {
            let took = self.service(waits);
            self.end(took, method, self.now, false);
        } else {
            self.queue.push_back((method, self.now));
            self.work();
        }
    }

    fn give_up(&mut self, method: usize, began: f64) {
        self.under_way -= 1;
        self.seen.given_up += 1;
        let [began, now] = [began, self.now].map(Duration::from_secs_f64);
        self.adaptive.given_up(method, began, now, self.under_way);
    }

    /// Lets time pass; what was seen meanwhile.
    fn run(&mut self, seconds: f64) -> Seen {
        let until = self.now + seconds;
        loop {
            let end = self.ends.peek().map_or(f64::MAX, |Reverse((at, ..))| *at as f64 / 1e9);
            let gone = self.queue.front().map_or(f64::MAX, |(_, began)| began + self.patience);
            if end.min(gone).min(self.next_arrival) > until {
                self.now = until;
                return std::mem::take(&mut self.seen);
            }
            if gone < end.min(self.next_arrival) {
                self.now = gone;
                let Some((method, began)) = self.queue.pop_front() else { continue };
                self.give_up(method, began);
            } else if end <= self.next_arrival {
                let Some(Reverse((at, method, began, worker, given_up))) = self.ends.pop() else { continue };
                self.now = end;
                self.busy -= usize::from(worker);
                if given_up {
                    self.give_up(method, began as f64 / 1e9);
                } else {
                    self.under_way -= 1;
                    self.seen.served += 1;
                    self.seen.latencies.push((at - began) as f64 / 1e9);
                    self.adaptive.succeeded(method, Duration::from_nanos(began), Duration::from_nanos(at), self.under_way);
                }
                self.work();
            } else {
                self.now = self.next_arrival;
                let wait = self.exponential(1.0 / self.offered);
                self.next_arrival += wait;
                self.arrive();
            }
        }
    }
}

/// Several sizes: workers and what a call takes.
const SIZES: [(usize, f64); 4] = [(8, 0.01), (16, 0.004), (64, 0.02), (200, 0.1)];

#[test]
fn under_three_times_the_load_nearly_all_work_is_done_and_nobody_waits_long() {
    for (workers, work) in SIZES {
        let capacity = workers as f64 / work;
        let mut server = Server::new(workers, capacity / 2.0, &[(1.0, work, 0.0)]);
        server.run(10.0);
        server.offered = capacity * 3.0;
        let mut onset = server.run(15.0);
        let (worst, served) = (onset.quantile(1.0), onset.served as f64 / 15.0 / capacity);
        assert!(worst <= 3.0 + work * 10.0 && served >= 0.9, "{workers} workers: {worst:.3} s at first, {served:.3} of capacity");
        let mut seen = server.run(40.0);
        let (goodput, p99) = (seen.served as f64 / 40.0 / capacity, seen.quantile(0.99));
        assert!(goodput >= 0.9, "{workers} workers: {goodput:.3} of capacity");
        assert!(p99 <= work * 6.0, "{workers} workers: p99 {p99:.4} s of {work} s");
    }
}

/// Then hardly any call succeeds, and those that do are the quick ones.
#[test]
fn callers_who_give_up_are_noticed() {
    for (workers, work, patience) in [(4, 0.01, 0.25), (8, 0.01, 0.25), (64, 0.02, 0.25), (200, 0.1, 1.0)] {
        for times in [Times::Even, Times::Erlang] {
            let capacity = workers as f64 / work;
            let mut server = Server::new(workers, capacity / 2.0, &[(1.0, work, 0.0)]);
            (server.times, server.patience) = (times, patience);
            server.run(10.0);
            server.offered = capacity * 3.0;
            server.run(15.0);
            let seen = server.run(40.0);
            let goodput = seen.served as f64 / 40.0 / capacity;
            assert!(goodput >= 0.9, "{workers} workers, {times:?}: {goodput:.3} of capacity");
        }
    }
}

#[test]
fn a_dependency_too_slow_for_most_callers_still_serves_the_others() {
    let mut server = Server::new(1, 2_000.0, &[(1.0, 0.0, 0.01)]);
    server.patience = 0.05;
    server.run(20.0);
    // A seventh is done in time, however many are let in.
    server.methods[0].2 = 0.1;
    let change = server.run(30.0);
    assert!(change.refused * 20 <= change.served + change.given_up, "{} refused", change.refused);
    let seen = server.run(60.0);
    assert_eq!((seen.refused, server.adaptive.limit()), (0, MOST), "{} served", seen.served);
    // None is: whether they are refused or wait in vain is the same, and must be over when it is.
    server.methods[0].2 = 2.0;
    server.run(60.0);
    server.methods[0].2 = 0.01;
    let recovery = server.run(5.0);
    assert!(recovery.served >= 9_000, "{} of 10,000 served", recovery.served);
    server.run(15.0);
    assert_eq!((server.run(10.0).refused, server.adaptive.limit()), (0, MOST));
}

#[test]
fn a_class_with_a_share_of_the_limit_gets_its_work_done_too() {
    for share in [0.5, 0.9] {
        let mut server = Server::new(64, 1_600.0, &[(1.0, 0.02, 0.0)]);
        server.share = share;
        server.run(10.0);
        server.offered = 9_600.0;
        server.run(15.0);
        let mut seen = server.run(30.0);
        let (goodput, p99) = (seen.served as f64 / 30.0 / 3_200.0, seen.quantile(0.99));
        assert!(goodput >= 0.9 && p99 <= 0.12, "share {share}: {goodput:.3} of capacity, p99 {p99:.4} s");
    }
}

#[test]
fn the_limit_follows_capacity_down_and_up_again() {
    for (workers, work) in SIZES {
        let capacity = workers as f64 / work;
        let mut server = Server::new(workers, capacity / 2.0, &[(1.0, work, 0.0)]);
        server.run(10.0);
        server.offered = capacity * 1.5;
        server.run(20.0);
        for (share, name) in [(0.25, "a quarter"), (1.0, "all again"), (0.5, "half")] {
            server.workers = ((workers as f64 * share) as usize).max(1);
            server.run(10.0);
            let mut seen = server.run(20.0);
            let (goodput, p99) = (seen.served as f64 / 20.0 / (capacity * share), seen.quantile(0.99));
            assert!(goodput >= 0.9, "{workers} workers, {name}: {goodput:.3} of capacity");
            assert!(p99 <= work * 12.0, "{workers} workers, {name}: p99 {p99:.4} s of {work} s");
        }
    }
}

#[test]
fn steady_load_that_can_be_borne_is_never_refused() {
    for (workers, work) in SIZES {
        let capacity = workers as f64 / work;
        for (share, times) in
            [(0.01, Times::Erlang), (0.3, Times::Erlang), (0.7, Times::Erlang), (0.3, Times::Heavy), (0.7, Times::Heavy)]
        {
            for seed in 0..6 {
                let mut server = Server::new(workers, capacity * share, &[(0.7, work * 0.2, 0.0), (0.3, work * 2.0, 0.0)]);
                (server.seed, server.times) = (seed, times);
                let seen = server.run(20.0);
                let (limit, served) = (server.adaptive.limit(), seen.served);
                assert_eq!((seen.refused, limit), (0, MOST), "seed {seed}, {workers} workers at {share}, served {served}");
            }
        }
    }
}

#[test]
fn other_work_is_not_taken_for_load() {
    // Quick calls, then slow ones: as many workers are busy.
    let mut server = Server::new(200, 2_000.0, &[(1.0, 0.001, 0.0), (0.0, 0.05, 0.0)]);
    server.run(20.0);
    (server.methods[0].0, server.methods[1].0) = (0.2, 0.8);
    let seen = server.run(60.0);
    assert_eq!(seen.refused, 0, "served {}", seen.served);
}

#[test]
fn a_dependency_that_gets_slow_leaves_no_limit_behind() {
    for times in [Times::Erlang, Times::Heavy] {
        // Nothing is worked on here: calls wait for somebody else, without any bound of our own.
        let mut server = Server::new(1, 2_000.0, &[(1.0, 0.0, 0.01)]);
        server.times = times;
        server.run(20.0);
        for wait in [0.1, 2.0, 0.01] {
            server.methods[0].2 = wait;
            let change = server.run(30.0);
            let (served, refused) = (change.served, change.refused);
            assert!(refused * 2 <= served, "{wait} s: {refused} refused, {served} served");
            let seen = server.run(60.0);
            assert_eq!((seen.refused, server.adaptive.limit()), (0, MOST), "{wait} s");
        }
    }
}

#[test]
fn one_that_starts_under_overload_finds_down() {
    let (workers, work) = (8, 0.01);
    let mut server = Server::new(workers, 2_400.0, &[(1.0, work, 0.0)]);
    server.run(30.0);
    let mut seen = server.run(60.0);
    let (goodput, p99) = (seen.served as f64 / 60.0 / 800.0, seen.quantile(0.99));
    assert!(goodput >= 0.9 && p99 <= work * 6.0, "{goodput:.3} of capacity, p99 {p99:.4} s");
}

#[test]
fn the_limit_is_lifted_when_the_load_is_gone() {
    let mut server = Server::new(8, 400.0, &[(1.0, 0.01, 0.0)]);
    server.run(10.0);
    server.offered = 2_400.0;
    server.run(20.0);
    assert!(server.adaptive.limit() < 100);
    server.offered = 200.0;
    server.run(30.0);
    assert_eq!(server.adaptive.limit(), MOST);
}

/// Long polls, or a dependency that hangs: a probe must not keep everybody out for as long as they last.
#[test]
fn an_experiment_that_no_calls_end_is_given_up() {
    let mut server = Server::new(8, 2_400.0, &[(1.0, 0.01, 0.0)]);
    server.run(20.0);
    let limit = server.adaptive.limit();
    assert!(limit < 100, "{limit}");
    let probed = (0..20_000).any(|_| {
        server.run(0.01);
        server.adaptive.limit() * 3 < limit
    });
    assert!(probed, "no probe within 200 s");
    server.methods[0].1 = 600.0;
    server.run(25.0);
    assert!(server.adaptive.limit() * 3 >= limit, "still {} of {limit}", server.adaptive.limit());
}

#[test]
fn times_are_added_as_logarithms() {
    for nanos in [1, 2, 3, 1_000, 1_000_000, 123_456_789, u64::MAX] {
        let word = packed(Duration::from_nanos(nanos));
        let log = (word & ((1 << 40) - 1)) as f64 / 256.0;
        assert_eq!(word >> 40, 1);
        let exact = (nanos as f64).log2();
        assert!(log <= exact && exact - log < 0.1, "{nanos}: {log} for {exact}");
    }
}

#[test]
fn a_window_with_too_few_calls_goes_on() {
    let adaptive = Adaptive::new(AdaptiveConcurrency::default(), MOST, 1, Arc::default());
    let at = Duration::from_millis;
    adaptive.succeeded(0, at(140), at(150), 1);
    adaptive.given_up(0, at(140), at(170), 1);
    assert_eq!(adaptive.counted(), 2);
}
