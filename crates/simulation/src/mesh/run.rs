//! One run: the hosts, the faults, and what came of it.

use super::{
    caller,
    fault::{self, Planned, TROUBLE},
    promises::{Review, Tested},
    registry, server,
    settings::{self, Bounds},
    world::{CALLERS, REGISTRY, SERVERS, World},
};
use anyhow::{anyhow, ensure};
use sinew_core::Rng;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

/// How long calls go on when everything has healed and was given time.
const AFTERMATH: Duration = Duration::from_millis(1_500);

/// Simulated time per step.
const TICK: Duration = Duration::from_millis(2);

/// Nothing lasts longer, or something hangs.
const END: Duration = Duration::from_secs(60);

/// What happened in one run.
#[derive(Debug)]
pub struct Outcome {
    /// Line by line, with the millisecond.
    pub told: Vec<String>,
    /// Of the lines: two runs with the same hash are the same run.
    pub hash: u64,
    /// How often each promise was put to the test.
    pub tested: Tested,
    /// Calls in all.
    pub calls: usize,
    /// What was wrong.
    pub wrong: Vec<String>,
}

/// One run, from its seed.
pub fn run(seed: u64) -> Outcome {
    let (world, servers, planned) = draw(seed);
    let mut tested = Tested::new();
    let wrong = match story(&world, seed, servers, planned) {
        Ok(healed) => {
            let ledger = world.ledger();
            let bounds = Bounds::of(&settings::client());
            let (wrong, counts) = Review { ledger: &ledger, bounds, servers, healed }.breaches();
            tested = counts;
            wrong
        }
        Err(error) => vec![format!("{error:#}")],
    };
    let mut ledger = world.ledger();
    let mut hasher = DefaultHasher::new();
    ledger.told.hash(&mut hasher);
    Outcome { told: std::mem::take(&mut ledger.told), hash: hasher.finish(), tested, calls: ledger.calls.len(), wrong }
}

/// What goes wrong in it, in order of drawing.
pub fn faults(seed: u64) -> Vec<String> {
    draw(seed).2.iter().map(|planned| format!("{:?}", planned.fault)).collect()
}

fn draw(seed: u64) -> (Arc<World>, &'static [&'static str], Vec<Planned>) {
    let world = World::new(seed);
    let servers = &SERVERS[world.rng.below(2) as usize..];
    let planned = fault::draw(&world.rng, servers);
    (world, servers, planned)
}

/// Runs it; when the last fault was over.
fn story(world: &Arc<World>, seed: u64, servers: &[&'static str], mut planned: Vec<Planned>) -> anyhow::Result<Duration> {
    let mut sim = turmoil::Builder::new()
        .rng_seed(world.rng.next_u64())
        .epoch(std::time::UNIX_EPOCH)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(4))
        .simulation_duration(END)
        .tcp_capacity(1_024)
        .enable_random_order()
        .build();
    let shared = world.clone();
    sim.host(REGISTRY, move || {
        let world = shared.clone();
        async move { Ok(registry::process(world).await?) }
    });
    for name in servers.iter().copied() {
        let shared = world.clone();
        sim.host(name, move || {
            let world = shared.clone();
            async move { Ok(server::process(world, name).await?) }
        });
    }
    for (n, name) in CALLERS.into_iter().enumerate() {
        let world = world.clone();
        sim.client(name, async move { Ok(caller::process(world, n, seed).await?) });
    }

    planned.sort_by_key(|planned| planned.from);
    let (mut to_come, mut under_way) = (planned.into_iter().peekable(), Vec::<Planned>::new());
    let mut healed = TROUBLE;
    let trusted = Bounds::of(&settings::client()).trusted;
    loop {
        let over = sim.step().map_err(|error| anyhow!("{error}"))?;
        let now = sim.elapsed();
        if over {
            return Ok(healed);
        }
        while let Some(planned) = to_come.next_if(|planned| planned.from <= now) {
            planned.fault.begin(&mut sim, world);
            under_way.push(planned);
        }
        let before = under_way.len();
        under_way.retain(|planned| planned.to > now || !planned.fault.end(&mut sim, world));
        if under_way.len() < before {
            healed = healed.max(now);
        }
        let calm = to_come.peek().is_none() && under_way.is_empty();
        if calm && now >= healed + trusted + AFTERMATH {
            world.over.cancel();
        }
        ensure!(now < END, "a call, or its caller, hangs");
    }
}
