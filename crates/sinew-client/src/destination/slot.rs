//! One registered endpoint, its connections, and what the snapshot has of it.

use crate::{
    config::{ConnectionConfig, LocalityConfig},
    connection::Connection,
    endpoint::Endpoint,
    snapshot::{Member, Phase},
};
use sinew_core::Endpoint as Registered;
use std::{sync::Arc, time::Duration};
use tokio::{task::AbortHandle, time::Instant};

/// One registered endpoint and its connections.
pub(super) struct Slot {
    pub(super) registered: Arc<Registered>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) conns: Vec<Conn>,
    /// What the snapshot has of it.
    pub(super) member: Arc<Member>,
    pub(super) ejected: bool,
    /// Failed attempts in a row, and why the latest failed.
    pub(super) failures: u32,
    pub(super) error: Arc<str>,
}

pub(super) struct Conn {
    pub(super) number: u64,
    pub(super) task: AbortHandle,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    /// Backing off until the next attempt.
    Waiting,
    Dialing,
    Open {
        connection: Arc<Connection>,
        suspect: bool,
        since: Instant,
    },
}

// === impl Stage ===

impl Stage {
    /// How long to wait before a connection that has worked is replaced: not at all, unless it hardly lived. A server
    /// that accepts, greets and leaves would otherwise be dialled as fast as the network allows.
    pub(super) fn wait(&self, config: &ConnectionConfig) -> Duration {
        match self {
            Self::Open { since, .. } if since.elapsed() < config.backoff_min => config.backoff_min,
            _ => Duration::ZERO,
        }
    }
}

// === impl Slot ===

impl Slot {
    pub(super) fn new(registered: Arc<Registered>, endpoint: Arc<Endpoint>, locality: &LocalityConfig) -> Self {
        let (phase, ejected) = (Phase::Connecting, false);
        let member = Member::new(registered.clone(), endpoint.clone(), (phase, ejected), Vec::new(), locality);
        // Most never have a second connection.
        Self {
            registered,
            endpoint,
            conns: Vec::with_capacity(1),
            member: Arc::new(member),
            ejected,
            failures: 0,
            error: "".into(),
        }
    }

    /// No new calls; those under way finish.
    pub(super) fn drain(&self) {
        for conn in &self.conns {
            match &conn.stage {
                Stage::Open { connection, .. } => connection.retire(),
                Stage::Waiting | Stage::Dialing => conn.task.abort(),
            }
        }
    }

    /// Makes anew what the snapshot has of it.
    pub(super) fn tell(&mut self, locality: &LocalityConfig) {
        let open = |wanted: bool| {
            self.conns.iter().filter_map(move |c| match &c.stage {
                Stage::Open { connection, suspect, .. } if *suspect == wanted => Some(connection.clone()),
                _ => None,
            })
        };
        let (mut connections, suspects): (Vec<_>, Vec<_>) = (open(false).collect(), open(true).collect());
        let phase = if !connections.is_empty() {
            Phase::Ready { growing: self.conns.iter().any(|c| matches!(c.stage, Stage::Dialing)) }
        } else if !suspects.is_empty() {
            connections = suspects;
            Phase::Suspect
        } else if self.failures == 0 {
            Phase::Connecting
        } else {
            Phase::Failed(self.error.clone())
        };
        let (registered, endpoint) = (self.registered.clone(), self.endpoint.clone());
        self.member = Arc::new(Member::new(registered, endpoint, (phase, self.ejected), connections, locality));
    }
}
