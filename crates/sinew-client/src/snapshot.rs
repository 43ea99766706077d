//! What calls see of a destination: endpoints, health, connections and policy as one value, replaced as one.

use crate::{
    balance::{Picker, Policy},
    config::LocalityConfig,
    connection::Connection,
    endpoint::Endpoint,
};
use sinew_core::{Endpoint as Registered, Health, State};
use std::{collections::BTreeMap, sync::Arc};

/// A destination at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// How far the registry's answer can be trusted.
    pub(crate) state: State,
    /// Every endpoint, in order of id.
    pub(crate) members: Vec<Member>,
    /// Those that calls may be sent to, nearest first; none of them empty.
    pub(crate) levels: Vec<Level>,
    /// Something is being established for the first time: waiting may help.
    pub(crate) establishing: bool,
}

/// One endpoint, usable or not.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) registered: Arc<Registered>,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) phase: Phase,
    /// Left out for now, as an outlier.
    pub(crate) ejected: bool,
    /// Open connections, suspects included.
    pub(crate) connections: Vec<Arc<Connection>>,
}

/// Where an endpoint's connections stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The first attempt is under way, or a new one after a connection that had worked.
    Connecting,
    /// At least one takes calls.
    Ready {
        /// Another one is on its way.
        growing: bool,
    },
    /// Connected, but the server does not answer PINGs.
    Suspect,
    /// The latest attempt failed.
    Failed(Arc<str>),
}

/// An endpoint that calls may be sent to.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) endpoint: Arc<Endpoint>,
    /// The id it is registered by: the same after a restart.
    pub(crate) id: Arc<str>,
    /// At least 1.
    pub(crate) weight: u32,
    /// At least one, none suspect.
    pub(crate) connections: Vec<Arc<Connection>>,
}

/// Endpoints that are as near, or as good, as each other.
#[derive(Debug)]
pub(crate) struct Level {
    /// Never empty.
    pub(crate) ready: Vec<Ready>,
    pub(crate) picker: Arc<dyn Picker>,
    /// A call whose random number of 32 bits is below this begins here, unless a level before this has it.
    pub(crate) below: u64,
}

impl Snapshot {
    /// Decides who is used.
    ///
    /// Endpoints whose checks fail, or that are ejected, are left out while enough others are well; below the panic threshold
    /// health is ignored, since a registry may be wrong about everybody, and an attempt costs less than a certain no. The
    /// zone's own endpoints come first ([`levels`]).
    ///
    /// Pickers of the snapshot `before` are kept as long as they are for the same endpoints.
    pub(crate) fn new(
        state: State,
        members: Vec<Member>,
        policy: &dyn Policy,
        rules: &LocalityConfig,
        before: Option<&Self>,
    ) -> Self {
        let establishing = members.iter().any(|m| matches!(m.phase, Phase::Connecting | Phase::Ready { growing: true }))
            || state == State::Unknown;
        let mut levels = levels(&members, rules);
        let nobody_to_come = !members.iter().any(|m| m.is_well() && m.phase == Phase::Connecting);
        if levels.is_empty() && nobody_to_come {
            levels = vec![(members.iter().filter_map(Member::ready).collect(), 1.0)];
        }
        if levels.iter().all(|(ready, _)| ready.is_empty()) {
            // Suspects may only be slow; certain failure is worse.
            levels = vec![(members.iter().filter(|m| m.phase == Phase::Suspect).map(Member::any).collect(), 1.0)];
        }
        let mut sum = 0.0;
        let mut level = |(n, (ready, share)): (usize, (Vec<Ready>, f64))| {
            sum += share;
            let known = before.and_then(|before| before.levels.get(n)).filter(|level| alike(&level.ready, &ready));
            let picker = known.map_or_else(|| policy.picker(&ready), |level| level.picker.clone());
            Level { ready, picker, below: (sum * 2f64.powi(32)).round() as u64 }
        };
        let levels = levels.into_iter().filter(|(ready, _)| !ready.is_empty()).enumerate().map(&mut level).collect();
        Self { state, members, levels, establishing }
    }

    /// Whom calls may be sent to.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Ready> + Clone {
        self.levels.iter().flat_map(|level| &level.ready)
    }
}

/// A level may lose so much of itself before calls go elsewhere: Envoy's overprovisioning factor.
const OVERPROVISIONED: f64 = 1.4;

/// The endpoints of each level, nearest first, and what share of the calls begins there.
///
/// Endpoints of a lower priority number come before those of a higher one; among those of one, the caller's own zone comes before
/// everybody else. Without a zone and with one priority there is one level. A level takes as many calls as it has healthy endpoints, 1.4-fold: up to 28 % of them may be missing
/// before some of its calls go to the next. When all levels together are not enough, those that are below the panic threshold
/// use all endpoints they have, and the levels share what there is (Envoy's priority levels).
fn levels(members: &[Member], rules: &LocalityConfig) -> Vec<(Vec<Ready>, f64)> {
    let is_near = |m: &&Member| rules.zone.is_none() || m.registered.zone == rules.zone;
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for member in members {
        groups.entry((member.registered.priority, !is_near(&member))).or_default().push(member);
    }
    let mut groups: Vec<_> = groups.into_values().map(|all| Group { ready: ready(&all, Member::is_well), all }).collect();
    let available = |groups: &[Group<'_>]| groups.iter().map(Group::available).sum::<f64>();
    if available(&groups) < 1.0 {
        for group in groups.iter_mut().filter(|group| group.well() < rules.panic_threshold) {
            group.ready = ready(&group.all, |_| true);
        }
    }
    let sum = available(&groups).min(1.0);
    let mut left = 1.0f64;
    let mut take = |group: Group<'_>| {
        let share = (group.available() / sum).min(left);
        left -= share;
        (group.ready, share)
    };
    groups.into_iter().filter(|group| !group.ready.is_empty()).map(&mut take).collect()
}

/// The endpoints of a level, and those of them that calls may be sent to.
struct Group<'a> {
    all: Vec<&'a Member>,
    ready: Vec<Ready>,
}

impl Group<'_> {
    /// The share of healthy ones, connected or not.
    fn well(&self) -> f64 {
        self.all.iter().filter(|m| m.is_well()).count() as f64 / self.all.len() as f64
    }

    /// What share of all calls it can take.
    fn available(&self) -> f64 {
        (OVERPROVISIONED * self.ready.len() as f64 / self.all.len() as f64).min(1.0)
    }
}

fn ready(members: &[&Member], wanted: impl Fn(&Member) -> bool) -> Vec<Ready> {
    members.iter().filter(|m| wanted(m)).filter_map(|m| m.ready()).collect()
}

/// Whether a picker for the one is one for the other.
fn alike(one: &[Ready], other: &[Ready]) -> bool {
    let same = |(one, other): (&Ready, &Ready)| one.id == other.id && one.weight == other.weight;
    one.len() == other.len() && one.iter().zip(other).all(same)
}

impl Member {
    /// Whether nothing is known against it.
    fn is_well(&self) -> bool {
        self.registered.health != Health::Critical && !self.ejected
    }

    fn ready(&self) -> Option<Ready> {
        matches!(self.phase, Phase::Ready { .. }).then(|| self.any())
    }

    fn any(&self) -> Ready {
        let (endpoint, connections) = (self.endpoint.clone(), self.connections.clone());
        let (id, weight) = (self.registered.id.clone(), u32::from(self.registered.weight.max(1)));
        Ready { endpoint, id, weight, connections }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
