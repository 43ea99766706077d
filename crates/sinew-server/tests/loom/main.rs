//! The server's atomics in every order that threads may run in.
//!
//! loom runs a model again and again, once for each order of its threads' steps (and each value that a load may see), and fails
//! at the first that breaks a promise. The modules are the server's own files, compiled with loom's atomics and lock.

#![allow(clippy::expect_used, dead_code, reason = "made for the server; a test that cannot go on ends")]

mod sync {
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
}
#[path = "../../src/adaptive"]
mod adaptive {
    pub(crate) use sinew_server::AdaptiveConcurrency;
    mod gradient;
    pub(crate) mod limit;
    mod window;
}
#[path = "../../src/under_way.rs"]
mod under_way;

use adaptive::{AdaptiveConcurrency, limit::Adaptive};
use loom::{
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};
use std::{
    sync::{Arc as StdArc, atomic::AtomicI64},
    time::Duration,
};
use under_way::UnderWay;

const MS: Duration = Duration::from_millis(1);
const MOST: usize = 1_000;

fn adaptive(most: usize) -> (Adaptive, StdArc<AtomicI64>) {
    let gauge = StdArc::default();
    (Adaptive::new(AdaptiveConcurrency::default(), most, 1, StdArc::clone(&gauge)), gauge)
}

/// What each of two threads says.
fn both<T: 'static>(one: impl FnOnce() -> T + 'static, other: impl FnOnce() -> T + 'static) -> (T, T) {
    let (one, other) = (thread::spawn(one), thread::spawn(other));
    (one.join().expect("it ends"), other.join().expect("it ends"))
}

#[test]
fn the_limit_is_never_passed_and_no_place_lost() {
    loom::model(|| {
        let (under_way, inside) = (Arc::new(UnderWay::default()), Arc::new(AtomicUsize::new(0)));
        let adaptive = Arc::new(adaptive(1).0);
        let call = || {
            let (under_way, inside, adaptive) = (under_way.clone(), inside.clone(), adaptive.clone());
            move || {
                let limit = adaptive.limit();
                let Ok(count) = under_way.enter(|count| if count <= limit { Ok(()) } else { Err(()) }) else { return false };
                adaptive.admitted(count);
                assert_eq!(inside.fetch_add(1, Relaxed), 0, "two are in, and one may be");
                inside.fetch_sub(1, Relaxed);
                under_way.leave();
                true
            }
        };
        let entered = both(call(), call());
        assert!(entered.0 || entered.1, "nobody was let in");
        assert_eq!(under_way.count(), 0, "a place was lost");
    });
}

#[test]
fn whoever_closes_a_window_no_call_is_lost() {
    loom::model(|| {
        let adaptive = Arc::new(adaptive(MOST).0);
        let end = |adaptive: Arc<Adaptive>| move || adaptive.succeeded(0, 150 * MS, 151 * MS, 1);
        both(end(adaptive.clone()), end(adaptive.clone()));
        assert_eq!(adaptive.counted(), 2);
    });
}

/// A hundred calls of this length are under way. The last one ends now, and with it the window: who looks in vain does so again
/// after a tenth of one.
fn wave(adaptive: &Adaptive, took: Duration, now: Duration) {
    let end = |now| adaptive.succeeded(0, now - took, now, 100);
    (1..100).for_each(|_| end(now - 15 * MS));
    end(now);
}

#[test]
fn of_a_verdict_and_an_end_without_one_there_is_one() {
    let mut model = Builder::new();
    // What goes before has no other order: it costs steps, not runs.
    model.max_branches = 20_000;
    model.check(|| {
        let (adaptive, gauge) = adaptive(MOST);
        for (took, now) in [(MS, 200 * MS), (20 * MS, 700 * MS), (20 * MS, 1_300 * MS)] {
            wave(&adaptive, took, now);
        }
        assert!(adaptive.limit() < MOST, "an experiment is under way");
        let late = Duration::from_secs(120);
        (0..399).for_each(|_| adaptive.succeeded(0, 1_400 * MS, 1_420 * MS, 100));
        let adaptive = Arc::new(adaptive);
        let (end, refuse) = (adaptive.clone(), adaptive.clone());
        both(move || end.succeeded(0, late - 20 * MS, late, 100), move || refuse.refused(late));
        let (limit, shown) = (adaptive.limit(), gauge.load(Relaxed));
        assert!([70, MOST].contains(&limit), "{limit}");
        assert_eq!(shown, limit as i64);
    });
}
