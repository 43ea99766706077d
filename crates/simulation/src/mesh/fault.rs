//! What goes wrong, and when: drawn from the seed.

use super::world::{CALLERS, Harm, Mood, REGISTRY, SERVERS, World};
use crate::network;
use sinew_core::Rng;
use std::{collections::BTreeSet, time::Duration};
use tonic::Code;

/// Faults begin until then.
pub(super) const TROUBLE: Duration = Duration::from_secs(5);

/// Between servers of a rolling restart.
const PACE: Duration = Duration::from_millis(400);

/// Longer than any call has.
const SLOW: Duration = Duration::from_millis(1_500);

type Server = &'static str;

/// What can go wrong for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process dies; its machine says so to those who are connected.
    Crash(Server),
    /// The machine dies: nobody says anything.
    PowerLoss(Server),
    /// It is told to end, and to drain first.
    Drain(Server),
    /// What is sent between the two is lost, in both directions.
    Cut(&'static str, &'static str),
    /// What the first sends to the second is lost.
    CutOneWay(&'static str, &'static str),
    /// What is sent between the two arrives when this ends.
    Hold(&'static str, &'static str),
    /// It takes so much longer.
    Slow(Server, Duration),
    /// It ends its calls with this.
    Fails(Server, Code),
    /// All of them do: what they share is away.
    AllFail(Code),
    RegistryCrash,
    /// It answers so much later.
    RegistryLate(Duration),
    /// It tells of how it was in the beginning.
    RegistryStale,
    /// It loses everything, and does not notice.
    RegistryForgets,
    /// It says that this one's checks fail.
    RegistrySlanders(Server),
}

/// A fault and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) fault: Fault,
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// The history of one run.
pub(super) fn draw(rng: &dyn Rng, servers: &[Server]) -> Vec<Planned> {
    let mut planned = Vec::new();
    let theme = rng.below(8);
    if theme <= 1 {
        // A roll-out, and nothing else but what the registry may do at the same time.
        let mut at = Duration::from_millis(1_000 + rng.below(1_000));
        for server in servers {
            let to = at + Duration::from_millis(100 + rng.below(300));
            planned.push(Planned { fault: Fault::Drain(server), from: at, to });
            at = to + PACE;
        }
    }
    for _ in 0..2 + rng.below(6) {
        let from = Duration::from_millis(1_000 + rng.below(TROUBLE.as_millis() as u64 - 1_000));
        let to = from + Duration::from_millis(20 + rng.below(1_500));
        let one = if theme <= 2 { registry(rng, servers) } else { any(rng, servers) };
        let next = Planned { fault: one, from, to };
        // What two faults share could not be ended by either alone.
        if !planned.iter().any(|other| clash(other, &next)) {
            planned.push(next);
        }
    }
    planned
}

fn pick<T: Copy>(rng: &dyn Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}

fn any(rng: &dyn Rng, servers: &[Server]) -> Fault {
    let server = pick(rng, servers);
    let caller = pick(rng, &CALLERS);
    match rng.below(13) {
        0 | 1 => Fault::Crash(server),
        2 => Fault::PowerLoss(server),
        3 => Fault::Drain(server),
        4 => Fault::Cut(caller, server),
        5 => Fault::CutOneWay(caller, server),
        6 => Fault::CutOneWay(server, caller),
        7 => Fault::Hold(caller, server),
        8 => Fault::Slow(server, pick(rng, &[SLOW / 10, SLOW])),
        9 => Fault::Fails(server, pick(rng, &[Code::Unavailable, Code::Internal])),
        10 => Fault::AllFail(Code::Unavailable),
        _ => registry(rng, servers),
    }
}

fn registry(rng: &dyn Rng, servers: &[Server]) -> Fault {
    let server = pick(rng, servers);
    let other = if rng.below(2) == 0 { server } else { pick(rng, &CALLERS) };
    match rng.below(9) {
        0 => Fault::RegistryCrash,
        1 => Fault::RegistryLate(Duration::from_millis(20 + rng.below(500))),
        2 => Fault::RegistryStale,
        3 => Fault::RegistryForgets,
        4 => Fault::RegistrySlanders(server),
        5 => Fault::Cut(other, REGISTRY),
        6 => Fault::CutOneWay(other, REGISTRY),
        7 => Fault::CutOneWay(REGISTRY, other),
        _ => Fault::Hold(other, REGISTRY),
    }
}

/// Whether both act on the same thing at the same time, or nearly.
fn clash(one: &Planned, other: &Planned) -> bool {
    // A server that drains takes longer than planned.
    const MARGIN: Duration = Duration::from_secs(1);
    let together = one.from < other.to + MARGIN && other.from < one.to + MARGIN;
    together && !one.fault.touches().is_disjoint(&other.fault.touches())
}

impl Fault {
    /// What it acts on.
    fn touches(self) -> BTreeSet<String> {
        let mood = |server: Server| format!("mood of {server}");
        let link = |a: &str, b: &str| format!("{} {}", a.min(b), a.max(b));
        let links = |of: Server| CALLERS.iter().chain([&REGISTRY]).map(move |other| link(of, other));
        match self {
            Self::Crash(server) | Self::Drain(server) => [server.to_owned()].into(),
            Self::PowerLoss(server) => links(server).chain([server.to_owned()]).collect(),
            Self::Cut(a, b) | Self::CutOneWay(a, b) | Self::Hold(a, b) => [link(a, b)].into(),
            Self::Slow(server, _) | Self::Fails(server, _) => [mood(server)].into(),
            Self::AllFail(_) => SERVERS.iter().map(|server| mood(*server)).collect(),
            Self::RegistryCrash | Self::RegistryForgets => ["the registry".to_owned()].into(),
            Self::RegistryLate(_) => ["its answers".to_owned()].into(),
            Self::RegistryStale => ["its list".to_owned()].into(),
            Self::RegistrySlanders(server) => [format!("check of {server}")].into(),
        }
    }

    /// What callers suffer from it.
    fn harms(self) -> Vec<(Harm, Server, Option<usize>)> {
        let caller = |name: &str| CALLERS.iter().position(|caller| *caller == name);
        match self {
            Self::Crash(server) | Self::PowerLoss(server) => vec![(Harm::Lost, server, None)],
            Self::Drain(server) => vec![(Harm::Away, server, None)],
            Self::Slow(server, _) => vec![(Harm::Slow, server, None)],
            Self::Fails(server, code) => vec![(Harm::Fails(code), server, None)],
            Self::AllFail(code) => SERVERS.iter().map(|server| (Harm::Fails(code), *server, None)).collect(),
            Self::Cut(a, b) | Self::CutOneWay(a, b) | Self::Hold(a, b) if a != REGISTRY && b != REGISTRY => {
                let (caller, server) = caller(a).map_or((caller(b), a), |at| (Some(at), b));
                vec![(Harm::Lost, server, caller)]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn begin(self, sim: &mut turmoil::Sim<'_>, world: &World) {
        let now = sim.elapsed();
        world.tell(now, format_args!("{self:?}"));
        for (harm, server, caller) in self.harms() {
            world.harmed(harm, server, caller, now);
        }
        match self {
            Self::Crash(server) => crash(sim, server),
            Self::PowerLoss(server) => {
                CALLERS.iter().chain([&REGISTRY]).for_each(|other| sim.partition(*other, server));
                crash(sim, server);
            }
            Self::Drain(server) => world.drain(server),
            Self::Cut(a, b) => sim.partition(a, b),
            Self::CutOneWay(a, b) => sim.partition_oneway(a, b),
            Self::Hold(a, b) => sim.hold(a, b),
            Self::Slow(server, delay) => world.set_mood(server, Mood { delay, fails: None }),
            Self::Fails(server, code) => world.set_mood(server, Mood { delay: Duration::ZERO, fails: Some(code) }),
            Self::AllFail(code) => {
                SERVERS.iter().for_each(|server| world.set_mood(server, Mood { delay: Duration::ZERO, fails: Some(code) }));
            }
            Self::RegistryCrash => crash(sim, REGISTRY),
            Self::RegistryLate(late) => world.set_whims(|whims| whims.late = late),
            Self::RegistryStale => {
                let now = world.catalogue(|catalogue| catalogue.clone());
                world.set_whims(|whims| whims.stale = Some(now));
            }
            Self::RegistryForgets => world.catalogue(|catalogue| catalogue.lose()),
            Self::RegistrySlanders(server) => slander(world, server, true),
        }
    }

    /// False if it cannot end yet.
    pub(super) fn end(self, sim: &mut turmoil::Sim<'_>, world: &World) -> bool {
        let now = sim.elapsed();
        match self {
            Self::Drain(server) if sim.is_host_running(server) => return false,
            Self::Crash(server) | Self::Drain(server) => network::bounce(sim, server),
            Self::PowerLoss(server) => {
                CALLERS.iter().chain([&REGISTRY]).for_each(|other| sim.repair(*other, server));
                network::bounce(sim, server);
            }
            Self::Cut(a, b) => sim.repair(a, b),
            Self::CutOneWay(a, b) => sim.repair_oneway(a, b),
            Self::Hold(a, b) => sim.release(a, b),
            Self::Slow(server, _) | Self::Fails(server, _) => world.set_mood(server, Mood::default()),
            Self::AllFail(_) => SERVERS.iter().for_each(|server| world.set_mood(server, Mood::default())),
            Self::RegistryCrash => network::bounce(sim, REGISTRY),
            Self::RegistryLate(_) => world.set_whims(|whims| whims.late = Duration::ZERO),
            Self::RegistryStale => world.set_whims(|whims| whims.stale = None),
            Self::RegistryForgets => {}
            Self::RegistrySlanders(server) => slander(world, server, false),
        }
        for (harm, server, caller) in self.harms() {
            world.healed(harm, server, caller, now);
        }
        world.tell(now, format_args!("over: {self:?}"));
        true
    }
}

fn crash(sim: &mut turmoil::Sim<'_>, host: &str) {
    if sim.is_host_running(host) {
        network::crash(sim, host);
    }
}

fn slander(world: &World, server: &str, slandered: bool) {
    world.catalogue(|catalogue| catalogue.change(server, |instance| instance.slandered = slandered));
}
