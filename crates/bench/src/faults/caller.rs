//! Whose client calls the servers, and the steady load that it makes.

use super::{Args, DEADLINE, SERVERS, row::Outcome, watch::ready};
use crate::{
    call,
    echo::{EchoClient, Message, NAME, ONCE, POLICY, Transport},
    load,
    peers::{envoy, envoy::Envoy, grpcio},
    registry,
};
use clap::ValueEnum;
use serde::Serialize;
use sinew_client::{Client, Config, Ports};
use sinew_core::{Policies, ServiceName, SharedRng, policy::ServicePolicy};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

/// Whose client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Peer {
    /// `sinew_client::Channel`.
    Sinew,
    /// `tonic::transport::Channel::balance_list`.
    Tonic,
    /// A bare tonic channel to an Envoy beside it, which has the same policy.
    Envoy,
    /// gRPC's C core, by its Python package: round robin and the same retry policy.
    Grpcio,
}

impl Peer {
    /// Whether it can be run here, or why not.
    pub(super) fn there(self) -> anyhow::Result<()> {
        match self {
            Self::Sinew | Self::Tonic => Ok(()),
            Self::Envoy => envoy::program().map(drop),
            Self::Grpcio => grpcio::python().map(drop),
        }
    }
}

/// Whether calls may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    Idempotent,
    Once,
}

impl Calls {
    pub(super) fn policy(self) -> ServicePolicy {
        match self {
            Self::Idempotent => POLICY,
            Self::Once => ONCE,
        }
    }
}

/// How it calls.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) policy: ServicePolicy,
    pub(super) config: Config,
    /// Calls a second.
    pub(super) rate: u32,
    /// How long a caller waits.
    pub(super) patience: Duration,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn new(args: &Args, calls: Calls) -> Self {
        let (policy, config) = (calls.policy(), Config::default());
        Self { policy, config, rate: args.rate, patience: DEADLINE * 2, seed: args.seed }
    }
}

/// Calls under way, until they are told to end.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    source: Source,
    /// Sinew's.
    pub(super) client: Option<Client>,
    _envoy: Option<Envoy>,
}

enum Source {
    Here(AbortOnDropHandle<Outcome>),
    There(Box<grpcio::Caller>),
}

impl Load {
    /// Begins with calls once the client is connected.
    pub(super) async fn begin(peer: Peer, plan: Plan, servers: &[SocketAddr]) -> anyhow::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let (mut client, mut envoy) = (None, None);
        let source = match peer {
            Peer::Sinew => {
                let sinew = sinew(&plan, servers)?;
                let channel = sinew.channel(&ServiceName::new(NAME)?);
                testkit::wait_for("all to be ready", DEADLINE, async || match ready(&sinew) {
                    SERVERS => Ok(()),
                    ready => Err(format!("{ready} are")),
                })
                .await?;
                client = Some(sinew);
                Source::here(plan, &over, channel)
            }
            Peer::Tonic => Source::here(plan, &over, call::tonic(servers)?),
            Peer::Envoy => {
                let sidecar = envoy.insert(Envoy::start(&[servers.to_vec()], envoy::Side::Client, None).await?);
                Source::here(plan, &over, call::single(sidecar.address(0)?)?)
            }
            Peer::Grpcio => Source::There(Box::new(grpcio::Caller::start(servers, plan.rate, plan.patience).await?)),
        };
        Ok(Self { over, source, client, _envoy: envoy })
    }

    /// No further calls; what became of all of them once they have ended.
    pub(super) async fn end(self) -> anyhow::Result<Outcome> {
        self.over.store(true, Relaxed);
        match self.source {
            Source::Here(calls) => Ok(calls.await?),
            Source::There(caller) => {
                let (micros, failed) = caller.end(DEADLINE * 3).await?;
                Ok(Outcome { micros, failed })
            }
        }
    }
}

impl Source {
    fn here<T: Transport>(plan: Plan, over: &Arc<AtomicBool>, channel: T) -> Self {
        Self::Here(AbortOnDropHandle::new(tokio::spawn(calls(plan, over.clone(), EchoClient::new(channel)))))
    }
}

fn sinew(plan: &Plan, servers: &[SocketAddr]) -> anyhow::Result<Client> {
    let ports = Ports { rng: Arc::new(SharedRng::seeded(plan.seed)), ..Ports::real(registry::discover(None, servers)?) };
    Ok(Client::new(ports, plan.config.clone(), Arc::new(Policies::resolve(&[plan.policy])?))?)
}

async fn calls<T: Transport>(plan: Plan, over: Arc<AtomicBool>, client: EchoClient<T>) -> Outcome {
    let mut outcome = Outcome::default();
    let call = |n: u32, _| {
        let (mut client, patience) = (client.clone(), plan.patience);
        async move {
            let sent = Instant::now();
            match timeout(patience, client.say(Message::numbered(n.into()))).await {
                Ok(Ok(_)) => Ok(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX)),
                Ok(Err(status)) => Err(format!("{:?}: {}", status.code(), status.message())),
                Err(_) => Err(format!("no end within {patience:?}")),
            }
        }
    };
    let ended = |one: Result<_, tokio::task::JoinError>| outcome.count(one.map_err(|error| error.to_string()).flatten());
    load::steady(plan.rate, |_| !over.load(Relaxed), call, ended).await;
    outcome
}
