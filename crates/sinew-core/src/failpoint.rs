//! Named places where a test may make a process fail.
//!
//! `failpoint!("order.saga.after_charge")` does nothing unless `SINEW_FAILPOINT` names it, and does not exist at all
//! in builds without `debug_assertions`. Several may be given: `a=kill,b=stop@2` (`@2`: only at the second visit).
//!
//! | action | what happens there |
//! |---|---|
//! | `kill` | the process ends as by `kill -9` |
//! | `stop` | the process freezes as by `kill -STOP`, until somebody thaws it |
//! | `panic` | the work under way is torn down, and the process goes on |
//! | `twice` | at places that ask [`doubled`]: what follows is done twice |

/// Makes the process fail here when a test asks for it; nothing in release builds.
#[macro_export]
macro_rules! failpoint {
    ($name:expr) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::hit($name);
    };
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        cell::RefCell,
        collections::BTreeMap,
        panic::resume_unwind,
        process::{Command, abort, exit, id},
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        Panic,
        Twice,
    }

    #[derive(Debug)]
    struct Point {
        action: Action,
        at: u32,
        visits: AtomicU32,
    }

    fn points() -> &'static BTreeMap<String, Point> {
        static POINTS: OnceLock<BTreeMap<String, Point>> = OnceLock::new();
        POINTS.get_or_init(|| {
            let spec = std::env::var("SINEW_FAILPOINT").unwrap_or_default();
            let given = spec.split(',').filter(|one| !one.is_empty());
            // A test whose fault never happens would prove nothing.
            let read = |one| {
                parse(one).unwrap_or_else(|| {
                    eprintln!("SINEW_FAILPOINT: {one:?} is none; write order.place.before_commit=kill (stop, panic, twice)");
                    exit(64)
                })
            };
            given.map(read).collect()
        })
    }

    fn parse(one: &str) -> Option<(String, Point)> {
        let (name, action) = one.split_once('=')?;
        let (action, at) = action.split_once('@').map_or((action, Some(1)), |(action, n)| (action, n.parse().ok()));
        let action = match action {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "panic" => Action::Panic,
            "twice" => Action::Twice,
            _ => return None,
        };
        Some((name.to_owned(), Point { action, at: at?, visits: AtomicU32::new(0) }))
    }

    /// Says whether a process dies at a place.
    type Visitor = Box<dyn Fn(&str) -> bool>;

    thread_local! {
        static VISITOR: RefCell<Option<Visitor>> = const { RefCell::new(None) };
    }

    /// The payload of an unwinding that stands for the death of a simulated process.
    #[derive(Debug, Clone, Copy)]
    pub struct Died;

    /// For simulations, whose processes share one thread: `dies` is asked at each place that the thread passes from now on,
    /// instead of the environment, and where it says so the task unwinds. Whoever asks lets the rest of that process die.
    pub fn visited_by(dies: impl Fn(&str) -> bool + 'static) {
        VISITOR.set(Some(Box::new(dies)));
    }

    /// What is to happen at this visit of the place. Tests wait for the line that it writes.
    fn due(name: &str, is: impl Fn(Action) -> bool) -> Option<Action> {
        let point = points().get(name).filter(|point| is(point.action))?;
        if point.visits.fetch_add(1, Ordering::Relaxed) + 1 != point.at {
            return None;
        }
        eprintln!("failpoint {name}: {:?}", point.action);
        Some(point.action)
    }

    /// Fails as asked, if this place was named.
    ///
    /// # Panics
    ///
    /// When asked to.
    pub fn hit(name: &str) {
        match VISITOR.with_borrow(|visitor| visitor.as_ref().map(|dies| dies(name))) {
            // Without the panic hook: nothing went wrong.
            Some(true) => resume_unwind(Box::new(Died)),
            Some(false) => return,
            None => {}
        }
        match due(name, |action| action != Action::Twice) {
            Some(Action::Kill) => {
                // No destructor runs and no buffer is flushed: like a crash. `abort` would write a core file.
                signal("-9");
                abort();
            }
            Some(Action::Stop) => signal("-STOP"),
            Some(Action::Panic) => panic!("failpoint {name}"),
            Some(Action::Twice) | None => {}
        }
    }

    /// Whether what follows is to be done twice.
    pub fn doubled(name: &str) -> bool {
        due(name, |action| action == Action::Twice).is_some()
    }

    fn signal(which: &str) {
        let _ = Command::new("kill").args([which, &id().to_string()]).status();
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn actions_are_read_and_nonsense_is_none() {
            let read = |one| parse(one).map(|(name, point)| (name, point.action, point.at));
            assert_eq!(read("a.b=kill"), Some(("a.b".to_owned(), Action::Kill, 1)));
            assert_eq!(read("a=stop@2"), Some(("a".to_owned(), Action::Stop, 2)));
            assert_eq!(read("a=twice"), Some(("a".to_owned(), Action::Twice, 1)));
            for nonsense in ["", "a", "a=", "a=die", "a=kill@", "a=kill@x"] {
                assert_eq!(read(nonsense), None, "{nonsense}");
            }
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::{Died, doubled, hit, visited_by};

/// Nothing is, in builds that ship.
#[cfg(not(debug_assertions))]
pub fn doubled(_name: &str) -> bool {
    false
}
