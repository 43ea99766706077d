//! Which of the registered endpoints this client uses.

use sinew_core::{Endpoint, Health};
use std::sync::Arc;
use xxhash_rust::xxh64::xxh64;

/// All, or of each priority those that come first in an order of its own (rendezvous hashing, gRFC A68), in order of id. When one
/// leaves, one other comes for it. Healthy ones come before those that fail their checks, unless too few are: then the few would be
/// run down by everybody, and the checks are as likely wrong.
pub(super) fn subset(all: &[Arc<Endpoint>], rule: Option<(usize, u64)>, panic_threshold: f64) -> Vec<&Arc<Endpoint>> {
    let mut used: Vec<_> = all.iter().collect();
    // Of several with one id, which are on different nodes, the last counts.
    used.dedup_by(|later, kept| {
        let same = later.id == kept.id;
        if same {
            *kept = later;
        }
        same
    });
    let Some((size, seed)) = rule.filter(|(size, _)| *size < used.len()) else { return used };
    let is_ill = |endpoint: &Endpoint| endpoint.health == Health::Critical;
    let healthy = used.iter().filter(|endpoint| !is_ill(endpoint)).count() as f64 / used.len() as f64;
    used.sort_by_cached_key(|e| (e.priority, healthy >= panic_threshold && is_ill(e), xxh64(e.id.as_bytes(), seed)));
    let (mut priority, mut taken) = (0, 0);
    used.retain(|endpoint| {
        taken = if endpoint.priority == priority { taken + 1 } else { 1 };
        priority = endpoint.priority;
        taken <= size
    });
    used.sort_by(|one, other| one.id.cmp(&other.id));
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many endpoints of each priority, of which so many fail their checks.
    fn endpoints(of_each: usize, ill: usize) -> Vec<Arc<Endpoint>> {
        let endpoint = |n: usize| {
            let mut endpoint = Endpoint::new(&format!("t-{n:03}"), "host", 1);
            endpoint.priority = (n % 2) as u8;
            endpoint.health = if n < 2 * ill { Health::Critical } else { Health::Passing };
            Arc::new(endpoint)
        };
        (0..2 * of_each).map(endpoint).collect()
    }

    #[test]
    fn each_priority_has_its_subset() {
        let all = endpoints(50, 0);
        let used = subset(&all, Some((5, 7)), 0.5);
        assert!(used.is_sorted_by_key(|endpoint| &endpoint.id));
        assert_eq!([0, 1].map(|priority| used.iter().filter(|e| e.priority == priority).count()), [5, 5]);
        assert_eq!(subset(&all, None, 0.5).len(), 100);
    }

    #[test]
    fn health_counts_until_too_few_are_healthy() {
        let ill = |ill| {
            let all = endpoints(50, ill);
            subset(&all, Some((5, 7)), 0.5).iter().filter(|endpoint| endpoint.health == Health::Critical).count()
        };
        assert_eq!((ill(0), ill(25)), (0, 0));
        assert!(ill(48) > 0, "ten of the four that are healthy cannot be");
        assert!(ill(40) > 0, "a fifth is healthy, and is not to be run down");
    }
}
