//! Who is used, and for what share of the calls.

use super::{Level, Member, Phase, Snapshot};
use crate::{balance::policy, config::LocalityConfig, endpoint::Endpoint};
use sinew_core::{Endpoint as Registered, Health, State};
use std::sync::Arc;

/// Per level: how many are used, and what percentage of the calls begins there; by priority, without zones.
fn by_priority(all: &[&str]) -> Vec<(usize, u64)> {
    let levels = (0..).zip(all).flat_map(|(priority, of_it)| of_it.chars().map(move |what| (priority, "", what)));
    shares(levels, &LocalityConfig::default())
}

/// One endpoint: its priority and zone, and whether it is well (`+`), fails its check (`!`), is ejected (`x`), connecting (`.`),
/// or not connected (`-`).
type Told<'a> = (u8, &'a str, char);

fn members<'a>(all: impl Iterator<Item = Told<'a>>, rules: &LocalityConfig) -> Vec<Arc<Member>> {
    let member = |(n, (priority, zone, what)): (usize, Told<'a>)| {
        let mut registered = Registered::new(&format!("{n}"), "host", 1);
        (registered.priority, registered.zone) = (priority, Some(zone.into()));
        registered.health = if what == '!' { Health::Critical } else { Health::Passing };
        let phase = match what {
            '.' => Phase::Connecting,
            '-' => Phase::Failed("gone".into()),
            _ => Phase::Ready { growing: false },
        };
        let endpoint = Arc::new(Endpoint::of_test(&registered.id));
        Arc::new(Member::new(Arc::new(registered), endpoint, (phase, what == 'x'), Vec::new(), rules))
    };
    all.enumerate().map(member).collect()
}

/// Per level: how many are used, and what percentage of the calls begins there.
fn used(near: &str, far: &str) -> Vec<(usize, u64)> {
    let rules = LocalityConfig { zone: Some("near".into()), ..LocalityConfig::default() };
    let zones = near.chars().map(|what| (0, "near", what)).chain(far.chars().map(|what| (0, "far", what)));
    shares(zones, &rules)
}

fn shares<'a>(all: impl Iterator<Item = Told<'a>>, rules: &LocalityConfig) -> Vec<(usize, u64)> {
    let snapshot = Snapshot::new(State::Known, members(all, rules), &*policy(None), rules, None);
    let mut before = 0;
    let share = |level: &Level| {
        let share = (level.below - before) as f64 / 2f64.powi(32);
        before = level.below;
        (level.ready.len(), (share * 100.0).round() as u64)
    };
    snapshot.levels.iter().map(share).collect()
}

#[test]
fn calls_stay_near_while_enough_is_well_there() {
    assert_eq!(used("++++", "++++"), [(4, 100), (4, 0)]);
    assert_eq!(used("+++!", "++++"), [(3, 100), (4, 0)], "1.4 times three of four is more than all");
    assert_eq!(used("++!!", "++++"), [(2, 70), (4, 30)]);
    assert_eq!(used("+---", "++++"), [(1, 35), (4, 65)]);
    assert_eq!(used("----", "++++"), [(4, 100)]);
    assert_eq!(used("++++", ""), [(4, 100)]);
    assert_eq!(used("", "++++"), [(4, 100)]);
}

#[test]
fn what_is_not_well_is_left_out_until_too_little_is() {
    assert_eq!(used("+++!", ""), [(3, 100)]);
    assert_eq!(used("++x!", ""), [(2, 100)], "half is not below the threshold");
    assert_eq!(used("+x!!", ""), [(4, 100)], "a quarter is");
    assert_eq!(used("!!!!", ""), [(4, 100)]);
    assert_eq!(used("+!!!", "++++"), [(1, 35), (4, 65)], "together there is enough: nobody panics");
    assert_eq!(used("+!!!", "+!!!"), [(4, 100), (4, 0)], "together there is not");
}

#[test]
fn when_there_is_too_little_of_both_they_share() {
    assert_eq!(used("++--", "----"), [(2, 100)]);
    assert_eq!(used("+---", "+---"), [(1, 50), (1, 50)]);
}

#[test]
fn one_that_is_still_being_connected_is_waited_for() {
    assert_eq!(used("!.", ""), [], "it is likely a better choice than one whose check fails");
    assert_eq!(used("!-", ""), [(1, 100)]);
}

#[test]
fn a_higher_priority_stands_by() {
    assert_eq!(by_priority(&["++", "++", "+"]), [(2, 100), (2, 0), (1, 0)]);
    assert_eq!(by_priority(&["+-", "++", "+"]), [(1, 70), (2, 30), (1, 0)]);
    assert_eq!(by_priority(&["+---", "+---", "++"]), [(1, 35), (1, 35), (2, 30)]);
    assert_eq!(by_priority(&["--", "!!", "+"]), [(1, 100)]);
    assert_eq!(by_priority(&["!!", "!!", "!"]), [(2, 100), (2, 0), (1, 0)], "nobody is well, so health says nothing");
}

#[test]
fn a_higher_priority_does_not_begin_while_a_lower_one_is_only_coming() {
    assert_eq!(by_priority(&[".", "+"]), []);
    assert_eq!(by_priority(&["-", "+"]), [(1, 100)]);
    assert_eq!(by_priority(&["+...", "++"]), [(1, 100), (2, 0)], "those that come count as there");
    assert_eq!(used("+...", "++++"), [(1, 100), (4, 0)]);
    assert_eq!(used("....", "++++"), [(4, 100)], "another zone is not worth waiting for");
}
