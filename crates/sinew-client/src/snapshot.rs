//! What calls see of a destination: endpoints, health, connections and policy as one value, replaced as one.

use crate::{
    balance::{Picker, Policy},
    connection::Connection,
    endpoint::Endpoint,
};
use sinew_core::{Endpoint as Registered, Health, State};
use std::sync::Arc;

/// A destination at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// How far the registry's answer can be trusted.
    pub(crate) state: State,
    /// Every endpoint, in order of id.
    pub(crate) members: Vec<Member>,
    /// Those that calls may be sent to.
    pub(crate) ready: Vec<Ready>,
    /// Something is being established for the first time: waiting may help.
    pub(crate) establishing: bool,
    pub(crate) picker: Arc<dyn Picker>,
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

impl Snapshot {
    /// Decides who is used. Endpoints whose checks fail, or that are ejected, are used only when there is nobody else, not even one that is
    /// still being connected: a registry may be wrong about everybody, and an attempt costs less than a certain no.
    ///
    /// The picker of the snapshot `before` is kept if it is still one for these endpoints.
    pub(crate) fn new(state: State, members: Vec<Member>, policy: &dyn Policy, before: Option<&Self>) -> Self {
        let establishing = members.iter().any(|m| matches!(m.phase, Phase::Connecting | Phase::Ready { growing: true }))
            || state == State::Unknown;
        let healthy = |m: &&Member| m.registered.health != Health::Critical && !m.ejected;
        let mut ready: Vec<_> = members.iter().filter(healthy).filter_map(Member::ready).collect();
        let nobody_to_come = !members.iter().filter(healthy).any(|m| m.phase == Phase::Connecting);
        if ready.is_empty() && nobody_to_come {
            ready = members.iter().filter_map(Member::ready).collect();
        }
        if ready.is_empty() {
            // Suspects may only be slow; certain failure is worse.
            ready = members.iter().filter(|m| m.phase == Phase::Suspect).map(Member::any).collect();
        }
        let picker = match before {
            Some(before) if alike(&before.ready, &ready) => before.picker.clone(),
            _ => policy.picker(&ready),
        };
        Self { state, members, ready, establishing, picker }
    }
}

/// Whether a picker for the one is one for the other.
fn alike(one: &[Ready], other: &[Ready]) -> bool {
    let same = |(one, other): (&Ready, &Ready)| one.id == other.id && one.weight == other.weight;
    one.len() == other.len() && one.iter().zip(other).all(same)
}

impl Member {
    fn ready(&self) -> Option<Ready> {
        matches!(self.phase, Phase::Ready { .. }).then(|| self.any())
    }

    fn any(&self) -> Ready {
        let (endpoint, connections) = (self.endpoint.clone(), self.connections.clone());
        let (id, weight) = (self.registered.id.clone(), u32::from(self.registered.weight.max(1)));
        Ready { endpoint, id, weight, connections }
    }
}
