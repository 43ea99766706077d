//! Processes, databases and brokers that fail at any moment: every order still ends, and everything happened exactly once.
//!
//! The test of the build takes a slice of the faults, another each day, and says which. `cargo xtask faults sagas` takes
//! all of them, and then the phases that need a load and minutes.

mod customers;
mod places;
mod postgres;
mod redis;
mod storm;

use crate::{
    engines::Engines,
    world::{Kind, World},
};
use anyhow::{Context, bail, ensure};
use places::{Fault, cases};
use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Faults of the daily slice on real engines: about two minutes of them.
const SLICE: usize = 32;

/// One phase's share of what the faults command may take.
#[derive(Debug, Clone, Copy)]
struct Share {
    began: Instant,
    budget: Duration,
    seed: u64,
}

impl Share {
    /// For whoever watches; standard output is for rows.
    fn tell(&self, what: &str) {
        eprintln!("{:5.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() > self.budget
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_place_in_any_participant_leaves_one_story() -> anyhow::Result<()> {
    let mut world = World::start(Kind::Embedded).await?;
    let kills: Vec<_> = cases().into_iter().filter(|case| case.fault == Fault::Kill).collect();
    ensure!(kills.len() >= 20, "only {} places to die: is a list empty?", kills.len());
    for case in kills {
        eprintln!("{case}");
        world.suffer(&case).await.with_context(|| case.to_string())?;
    }
    Ok(())
}

/// Consul, PostgreSQL and RabbitMQ; each day another part of the faults, or a phase of `cargo xtask faults sagas`.
#[tokio::test(flavor = "multi_thread")]
async fn any_fault_at_any_place_leaves_one_story_on_real_engines() -> anyhow::Result<()> {
    if let Some(phase) = set::<String>("SINEW_FAULTS_PHASE")? {
        let seconds = set("SINEW_FAULTS_BUDGET")?.context("SINEW_FAULTS_BUDGET is not set")?;
        let seed = set("SINEW_FAULTS_SEED")?.unwrap_or(1);
        let share = Share { began: Instant::now(), budget: Duration::from_secs(seconds), seed };
        return match phase.as_str() {
            "places" => places::every_fault(share).await,
            "postgres" => postgres::killed(share).await,
            "redis" => redis::away(share).await,
            "storm" => storm::of_kills(share).await,
            "pairs" => places::pairs(share).await,
            unknown => bail!("there is no phase {unknown:?}"),
        };
    }
    let mut world = World::start_on(Kind::Consul, Some(Engines::start().await?)).await?;
    let (all, today) = (cases(), SystemTime::UNIX_EPOCH.elapsed()?.as_secs() / 86_400);
    let slices = all.len().div_ceil(SLICE);
    let slice = usize::try_from(today)? % slices;
    eprintln!("slice {} of {slices}", slice + 1);
    for case in all.iter().skip(slice).step_by(slices) {
        eprintln!("{case}");
        world.suffer(case).await.with_context(|| case.to_string())?;
    }
    Ok(())
}

fn set<T: FromStr>(name: &str) -> anyhow::Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    std::env::var(name).ok().map(|value| value.parse().with_context(|| format!("{name}={value}"))).transpose()
}

/// SplitMix64: a seed is the same sequence everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    /// At random, up to this long.
    async fn pause(&mut self, longest: Duration) {
        let pause = Duration::from_millis(self.roll(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX)));
        // sleeps: the moment of a fault is what is tested
        tokio::time::sleep(pause).await;
    }
}

/// Fisher and Yates.
fn shuffle<T>(items: &mut [T], seed: u64) {
    let mut dice = Dice(seed);
    for at in (1..items.len()).rev() {
        items.swap(at, usize::try_from(dice.roll(at as u64 + 1)).unwrap_or_default());
    }
}
