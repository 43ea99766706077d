//! For benchmarks: picks among any number of endpoints, without as many servers.

use super::{Wish, pick};
use crate::{
    call::Avoid,
    channel::Channel,
    client::Ports,
    config::Config,
    connection::Connection,
    destination::Destination,
    snapshot::{Member, Phase, Snapshot},
};
use sinew_core::{Endpoint as Registered, FixedList, Policies, ServiceName, State};
use std::sync::Arc;
use tokio::{task::yield_now, time::Instant};

/// A destination of many connected endpoints, all of them over one connection, on which nothing is sent.
#[doc(hidden)]
#[derive(Debug)]
pub struct Crowd {
    destination: Destination,
}

impl Crowd {
    /// So many endpoints of the service, with its policy and otherwise the default settings.
    pub async fn new(service: &ServiceName, policies: Policies, endpoints: usize) -> Result<Self, h2::Error> {
        let config = Arc::new(Config::default());
        let destination = Destination::start(service, &Ports::real(Arc::new(FixedList::new())), &config, &Arc::new(policies));
        // The destination has nothing to follow: once it has said so, it leaves the snapshot to us.
        while destination.shared.snapshot.load().state == State::Unknown {
            yield_now().await;
        }
        // A client may send before it has heard anything, so this needs no server.
        let (ours, _theirs) = tokio::io::duplex(1 << 10);
        let (send, _) = h2::client::handshake(ours).await?;
        let connection = Arc::new(Connection::new(send, usize::MAX));
        let now = Instant::now();
        let member = |n: usize| {
            let mut registered = Registered::new(&format!("{service}-{n}"), "127.0.0.1", 1);
            // Weights differ, or those that go by weights would have nothing to do.
            registered.weight = (n % 3 + 1) as u16;
            let endpoint = destination.shared.endpoint(n as u64, &registered, now);
            endpoint.latency.begin(1_000.0, now);
            let (registered, endpoint, phase) = (Arc::new(registered), Arc::new(endpoint), Phase::Ready { growing: false });
            Arc::new(Member::new(registered, endpoint, (phase, false), vec![connection.clone()], &config.locality))
        };
        let members = (0..endpoints).map(member).collect();
        let snapshot = Snapshot::new(State::Known, members, &*destination.shared.policy, &config.locality, None);
        destination.shared.snapshot.store(Arc::new(snapshot));
        Ok(Self { destination })
    }

    /// Picks for a call whose header has this hash, and gives the endpoint back; whether there was one.
    pub fn pick(&self, key: u64) -> bool {
        pick(&self.destination.shared, Instant::now(), Wish { key: Some(key), avoid: Avoid::default(), breaker: None }).is_ok()
    }
}

/// Ends with the next snapshot of a channel's destination that is published from now on.
#[doc(hidden)]
pub fn next_snapshot(channel: &Channel) -> impl Future<Output = ()> + '_ {
    channel.destination().shared.changed.notified()
}
