//! What calls see of a destination: endpoints, health, connections and policy as one value, replaced as one.

use crate::{
    balance::{Picker, Policy},
    config::LocalityConfig,
    connection::Connection,
    endpoint::Endpoint,
};
use sinew_core::{Endpoint as Registered, Health, State};
use std::sync::Arc;

/// A destination at one moment.
///
/// Members and those of them that calls may be sent to are shared with the snapshot before: with ten thousand endpoints, a
/// change of one makes one of each, and copies pointers to the others.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// How far the registry's answer can be trusted.
    pub(crate) state: State,
    /// Every endpoint, in order of id.
    pub(crate) members: Vec<Arc<Member>>,
    /// Those that calls may be sent to, nearest first; none of them empty.
    pub(crate) levels: Vec<Level>,
    /// Something is being established for the first time: waiting may help.
    pub(crate) establishing: bool,
    /// How many are connected.
    pub(crate) connected: usize,
}

/// One endpoint, usable or not.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) registered: Arc<Registered>,
    pub(crate) phase: Phase,
    /// Left out for now, as an outlier.
    pub(crate) ejected: bool,
    /// Among whom it is: lower ones come first.
    level: (u8, bool),
    /// What calls need of it; its connections are open ones, suspects included.
    pub(crate) ready: Arc<Ready>,
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
    /// Open ones: none suspect, unless all are.
    pub(crate) connections: Vec<Arc<Connection>>,
}

/// Endpoints that are as near, or as good, as each other.
#[derive(Debug)]
pub(crate) struct Level {
    /// Never empty.
    pub(crate) ready: Vec<Arc<Ready>>,
    pub(crate) picker: Arc<dyn Picker>,
    /// That of its endpoints.
    pub(crate) priority: u8,
    /// A call whose random number of 32 bits is below this begins here, unless a level before this has it.
    pub(crate) below: u64,
}

impl Snapshot {
    /// Decides who is used.
    ///
    /// Endpoints whose checks fail, or that are ejected, are left out while enough others are well; below the panic threshold
    /// health is ignored, since a registry may be wrong about everybody, and an attempt costs less than a certain no. The
    /// zone's own endpoints come first ([`sort`]).
    ///
    /// Pickers of the snapshot `before` are kept as long as they are for the same endpoints.
    pub(crate) fn new(
        state: State,
        members: Vec<Arc<Member>>,
        policy: &dyn Policy,
        rules: &LocalityConfig,
        before: Option<&Self>,
    ) -> Self {
        let Sorted { mut levels, establishing, connected, nobody_to_come } = sort(&members, rules.panic_threshold);
        let everybody = |wanted: fn(&Phase) -> bool| {
            vec![(0, members.iter().filter(|m| wanted(&m.phase)).map(|m| m.ready.clone()).collect::<Vec<_>>(), 1.0)]
        };
        if levels.is_empty() && nobody_to_come {
            levels = everybody(|phase| matches!(phase, Phase::Ready { .. }));
        }
        if levels.iter().all(|(_, ready, _)| ready.is_empty()) {
            // Suspects may only be slow; certain failure is worse.
            levels = everybody(|phase| *phase == Phase::Suspect);
        }
        let mut sum = 0.0;
        let mut level = |(n, (priority, ready, share)): (usize, (u8, Vec<Arc<Ready>>, f64))| {
            sum += share;
            let known = before.and_then(|before| before.levels.get(n)).filter(|level| alike(&level.ready, &ready));
            let picker = known.map_or_else(|| policy.picker(&ready), |level| level.picker.clone());
            Level { ready, picker, priority, below: (sum * 2f64.powi(32)).round() as u64 }
        };
        let levels = levels.into_iter().filter(|(_, ready, _)| !ready.is_empty()).enumerate().map(&mut level).collect();
        let establishing = establishing || state == State::Unknown;
        Self { state, members, levels, establishing, connected }
    }

    /// Whom calls may be sent to.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Arc<Ready>> + Clone {
        self.levels.iter().flat_map(|level| &level.ready)
    }
}

/// A level may lose so much of itself before calls go elsewhere: Envoy's overprovisioning factor.
const OVERPROVISIONED: f64 = 1.4;

/// What one look at all members finds.
struct Sorted {
    /// The priority and the endpoints of each level, nearest first, and what share of the calls begins there.
    levels: Vec<(u8, Vec<Arc<Ready>>, f64)>,
    establishing: bool,
    connected: usize,
    /// No endpoint that nothing is known against is still being connected.
    nobody_to_come: bool,
}

/// Sorts the members into levels.
///
/// Endpoints of a lower priority number come before those of a higher one; among those of one, the caller's own zone comes before
/// everybody else. Without a zone and with one priority there is one level. A level takes as many calls as it has healthy endpoints,
/// 1.4-fold: up to 28 % of them may be missing before some of its calls go to the next. When all levels together are not enough,
/// those that are below the panic threshold use all endpoints they have, and the levels share what there is (Envoy's priority
/// levels). An endpoint that is being connected for the first time counts as there: it is in milliseconds, or failed. While a lower
/// priority number has nobody but such, a higher one does not begin.
fn sort(members: &[Arc<Member>], panic_threshold: f64) -> Sorted {
    let (mut groups, mut establishing, mut connected, mut nobody_to_come) = (Vec::<Group>::new(), false, 0, true);
    for member in members {
        let is_ready = matches!(member.phase, Phase::Ready { .. });
        connected += usize::from(is_ready);
        establishing |= matches!(member.phase, Phase::Connecting | Phase::Ready { growing: true });
        let is_well = member.is_well();
        nobody_to_come &= !(is_well && member.phase == Phase::Connecting);
        let at = groups.iter().position(|group| group.level >= member.level).unwrap_or(groups.len());
        if groups.get(at).is_none_or(|group| group.level != member.level) {
            groups.insert(at, Group::new(member.level));
        }
        if let Some(group) = groups.get_mut(at) {
            group.add(member, is_well, is_ready);
            group.coming += usize::from(is_well && member.phase == Phase::Connecting);
        }
    }
    let available = |groups: &[Group]| groups.iter().map(Group::available).sum::<f64>();
    if available(&groups) < 1.0 {
        for group in groups.iter_mut().filter(|group| group.well() < panic_threshold) {
            group.ready.append(&mut group.unwell);
            // Tables of hashes depend on the order.
            group.ready.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        }
    }
    let first = groups.iter().find(|group| !group.ready.is_empty()).map(|group| group.level.0);
    if groups.iter().any(|group| group.coming > 0 && first.is_some_and(|first| group.level.0 < first)) {
        groups.clear();
    }
    let sum = available(&groups).min(1.0);
    let mut left = 1.0f64;
    let mut take = |group: Group| {
        let share = (group.available() / sum).min(left);
        left -= share;
        (group.level.0, group.ready, share)
    };
    let levels = groups.into_iter().filter(|group| !group.ready.is_empty()).map(&mut take).collect();
    Sorted { levels, establishing, connected, nobody_to_come }
}

/// The endpoints of a level.
struct Group {
    level: (u8, bool),
    all: usize,
    /// Healthy ones, connected or not, and those of them that are being connected.
    well: usize,
    coming: usize,
    /// Those that calls may be sent to, and those that are connected but not healthy.
    ready: Vec<Arc<Ready>>,
    unwell: Vec<Arc<Ready>>,
}

impl Group {
    fn new(level: (u8, bool)) -> Self {
        Self { level, all: 0, well: 0, coming: 0, ready: Vec::new(), unwell: Vec::new() }
    }

    fn add(&mut self, member: &Member, is_well: bool, is_ready: bool) {
        self.all += 1;
        self.well += usize::from(is_well);
        match (is_well, is_ready) {
            (_, false) => {}
            (true, true) => self.ready.push(member.ready.clone()),
            (false, true) => self.unwell.push(member.ready.clone()),
        }
    }

    /// The share of healthy ones.
    fn well(&self) -> f64 {
        self.well as f64 / self.all as f64
    }

    /// What share of all calls it can take; none before somebody is there.
    fn available(&self) -> f64 {
        let there = if self.ready.is_empty() { 0 } else { self.ready.len() + self.coming };
        (OVERPROVISIONED * there as f64 / self.all as f64).min(1.0)
    }
}

/// Whether a picker for the one is one for the other.
fn alike(one: &[Arc<Ready>], other: &[Arc<Ready>]) -> bool {
    let same =
        |(one, other): (&Arc<Ready>, &Arc<Ready>)| Arc::ptr_eq(one, other) || one.id == other.id && one.weight == other.weight;
    one.len() == other.len() && one.iter().zip(other).all(same)
}

impl Member {
    /// One that is connected by these, if by any.
    pub(crate) fn new(
        registered: Arc<Registered>,
        endpoint: Arc<Endpoint>,
        (phase, ejected): (Phase, bool),
        connections: Vec<Arc<Connection>>,
        rules: &LocalityConfig,
    ) -> Self {
        let is_near = rules.zone.is_none() || registered.zone == rules.zone;
        let ready = Ready { endpoint, id: registered.id.clone(), weight: u32::from(registered.weight.max(1)), connections };
        Self { level: (registered.priority, !is_near), registered, phase, ejected, ready: Arc::new(ready) }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.ready.endpoint
    }

    /// Whether nothing is known against it.
    fn is_well(&self) -> bool {
        self.registered.health != Health::Critical && !self.ejected
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
