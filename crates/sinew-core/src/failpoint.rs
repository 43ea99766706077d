//! Named places where a test may end the process.
//!
//! `failpoint!("order.saga.after_charge")` does nothing unless `SINEW_FAILPOINT` names it, and does not exist at all
//! in builds without `debug_assertions`. Several may be given: `a=kill,b=kill@2` (`@2`: only at the second visit).

/// Ends the process here when a test asks for it; nothing in release builds.
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
        collections::BTreeMap,
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    struct Point {
        at: u32,
        visits: AtomicU32,
    }

    fn points() -> &'static BTreeMap<String, Point> {
        static POINTS: OnceLock<BTreeMap<String, Point>> = OnceLock::new();
        POINTS.get_or_init(|| {
            let spec = std::env::var("SINEW_FAILPOINT").unwrap_or_default();
            spec.split(',').filter_map(parse).collect()
        })
    }

    fn parse(one: &str) -> Option<(String, Point)> {
        let (name, action) = one.split_once('=')?;
        let at = match action.split_once('@') {
            None if action == "kill" => 1,
            Some(("kill", n)) => n.parse().ok()?,
            _ => return None,
        };
        Some((name.to_owned(), Point { at, visits: AtomicU32::new(0) }))
    }

    /// Ends the process as `kill -9` would, if this place was named.
    pub fn hit(name: &str) {
        let Some(point) = points().get(name) else { return };
        if point.visits.fetch_add(1, Ordering::Relaxed) + 1 == point.at {
            eprintln!("failpoint {name}: ending the process");
            // No destructor runs and no buffer is flushed: like a crash. `abort` would write a core file.
            let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            std::process::abort();
        }
    }
}

#[cfg(debug_assertions)]
pub use armed::hit;
