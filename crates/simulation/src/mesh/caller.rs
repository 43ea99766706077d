//! A caller's process: the mesh's own client, which calls all the time.

use super::{
    directory::{Directory, followed},
    echo::{self, Kind, Say},
    fault::TROUBLE,
    settings::{self, TIMEOUT},
    world::{CALLERS, Call, End, How, Rest, World, now},
};
use crate::{network::Simulated, stage::SimulatedClock};
use sinew_client::{BreakerState, Channel, Client, ConnectionState, Ports};
use sinew_core::{
    Rng, ServiceName, SharedRng,
    stats::{CallKey, CallStats, Registry, Side},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::Request;

/// Servers have so long to be found before the first call.
const AFTER: Duration = Duration::from_millis(500);
/// Between two calls there are up to so many milliseconds.
const PAUSE: u64 = 60;
/// A call, and each part of a stream, is worked on for up to so many.
const WORK: u64 = 40;

/// Calls until the run is over, then looks at what is left.
pub(super) async fn process(world: Arc<World>, caller: usize, seed: u64) -> anyhow::Result<()> {
    let rng = SharedRng::seeded(world.rng.next_u64());
    let directory = Arc::new(Directory::new(world.clone(), caller));
    let _following = followed(&directory);
    let (service, policies) = settings::policies(seed, caller, &rng)?;
    let ports = Ports {
        discover: directory,
        connector: Some(Arc::new(Simulated)),
        rng: Arc::new(SharedRng::seeded(rng.next_u64())),
        clock: Arc::new(SimulatedClock),
    };
    let client = Client::new(ports, settings::client(), Arc::new(policies))?;
    let channel = client.channel(&service);
    let meters = Arc::new(Meters::of(&service));

    sleep(AFTER).await;
    let mut calls = JoinSet::new();
    let mut id = caller as u64;
    while !world.over.is_cancelled() {
        calls.spawn_local(one(Script::draw(&rng, id, caller), world.clone(), channel.clone(), meters.clone()));
        // Ids differ between callers.
        id += CALLERS.len() as u64;
        sleep(Duration::from_millis(1 + rng.below(PAUSE))).await;
        while let Some(ended) = calls.try_join_next() {
            ended?;
        }
    }
    while let Some(ended) = calls.join_next().await {
        ended?;
    }
    let rest = meters.rest(&client);
    world.ledger().rests.insert(caller, rest);
    // What the servers were told to stop, they stop.
    sleep(TIMEOUT).await;
    Ok(())
}

/// A call that is to be made.
struct Script {
    id: u64,
    caller: usize,
    kind: Kind,
    work: u64,
    timeout: Duration,
    /// When the caller loses interest.
    patience: Option<Duration>,
}

impl Script {
    /// Half of them may be repeated. Until trouble ends one in four has less time than it should: a server is blamed for that,
    /// and would be thought to fail. One in ten is no longer wanted soon after.
    fn draw(rng: &dyn Rng, id: u64, caller: usize) -> Self {
        let kind = [Kind::Get, Kind::Get, Kind::Put, Kind::Tail][rng.below(4) as usize];
        let hasty = rng.below(4) == 0 && now() < TROUBLE;
        let timeout = if hasty { Duration::from_millis(50 + rng.below(600)) } else { TIMEOUT };
        let patience = (rng.below(10) == 0).then(|| Duration::from_millis(rng.below(40)));
        Self { id, caller, kind, work: 1 + rng.below(WORK), timeout, patience }
    }
}

async fn one(script: Script, world: Arc<World>, channel: Channel, meters: Arc<Meters>) {
    let Script { id, caller, kind, work, timeout: time, patience } = script;
    let call = Call { id, caller, kind, begun: now(), timeout: time, end: None };
    let at = {
        let mut ledger = world.ledger();
        ledger.retries[caller].push((call.begun, meters.retries()));
        ledger.calls.push(call);
        ledger.calls.len() - 1
    };
    let refused = meters.refused.load(Relaxed);
    let mut request = Request::new(Say { call: id, work });
    if time < TIMEOUT {
        request.set_timeout(time);
    }
    let answer = echo::call(channel, kind, request);
    let how = match patience {
        Some(patience) => match timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => return ended(&world, at, End { at: now(), how: How::GivenUp, refused: 0 }),
        },
        None => answer.await,
    };
    let how = match how {
        Ok(by) => How::Answered(by),
        Err(status) => How::Failed(status.code(), status.message().to_owned()),
    };
    ended(&world, at, End { at: now(), how, refused: meters.refused.load(Relaxed) - refused });
}

fn ended(world: &World, at: usize, end: End) {
    let mut ledger = world.ledger();
    let Some(call) = ledger.calls.get_mut(at) else { return };
    let (id, kind, took) = (call.id, call.kind, end.at.saturating_sub(call.begun).as_millis());
    let line = match &end.how {
        How::Answered(by) => format!("{id} {kind:?} by {by} in {took}"),
        How::GivenUp => format!("{id} {kind:?} given up after {took}"),
        How::Failed(code, message) => format!("{id} {kind:?} {code:?} after {took}: {message}"),
    };
    let when = end.at;
    call.end = Some(end);
    ledger.told.push(format!("{:>6} {line}", when.as_millis()));
}

/// The statistics that one caller's client keeps.
struct Meters {
    series: Vec<(Side, Arc<CallStats>)>,
    refused: Arc<AtomicU64>,
    retries: Arc<AtomicU64>,
    retries_before: u64,
    /// A series lives as long as the process, and a run may be made again.
    before: (i64, i64),
}

impl Meters {
    fn of(service: &ServiceName) -> Self {
        let registry = Registry::global();
        let name: Arc<str> = service.as_str().into();
        let key = |side, kind: Kind| CallKey { side, service: name.clone(), method: kind.path().into() };
        let all = [Side::Client, Side::Attempt].into_iter().flat_map(|side| Kind::ALL.map(|kind| (side, kind)));
        let series: Vec<_> = all.map(|(side, kind)| (side, registry.calls(key(side, kind)))).collect();
        let counter = |name| registry.counter(name, vec![("service", service.to_string())]);
        let (refused, retries) = (counter("client_retries_refused_total"), counter("client_retries_total"));
        let before = (under_way(&series, Side::Client), under_way(&series, Side::Attempt));
        Self { series, refused, retries_before: retries.load(Relaxed), retries, before }
    }

    /// How many there were in this run.
    fn retries(&self) -> u64 {
        self.retries.load(Relaxed) - self.retries_before
    }

    /// What the client has under way while no call is made.
    fn rest(&self, client: &Client) -> Rest {
        let endpoints: Vec<_> = client.describe().into_iter().flat_map(|destination| destination.endpoints).collect();
        let odd = endpoints.iter().filter(|e| e.connection != ConnectionState::Ready || e.breaker != BreakerState::Closed);
        Rest {
            described: endpoints.iter().map(|e| e.in_flight).sum(),
            calls: under_way(&self.series, Side::Client) - self.before.0,
            attempts: under_way(&self.series, Side::Attempt) - self.before.1,
            endpoints: odd
                .map(|e| format!("{} is {:?}, its breaker {:?}", e.id, e.connection, e.breaker))
                .collect::<Vec<_>>()
                .join("; "),
        }
    }
}

fn under_way(series: &[(Side, Arc<CallStats>)], of: Side) -> i64 {
    let read = |gauge: &AtomicI64| gauge.load(Relaxed);
    series.iter().filter(|(side, _)| *side == of).map(|(_, stats)| read(&stats.in_flight)).sum()
}
