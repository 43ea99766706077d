//! The registry may die, stay away, and come back with no memory: calls go on.

use crate::{
    on_both_registries,
    world::{Kind, SOON, World},
};
use std::time::Duration;

on_both_registries!(calls_go_on_while_the_registry_is_dead_and_a_backend_dies_too a_registry_that_forgot_everything_is_told_again);

/// How long the registry stays away: longer than any watch or health check would wait.
const AWAY: Duration = Duration::from_secs(30);

async fn calls_go_on_while_the_registry_is_dead_and_a_backend_dies_too(kind: Kind) -> anyhow::Result<()> {
    let mut world = World::start(kind).await?;
    let load = world.load(true)?;
    load.answered_more(500, SOON).await?;
    world.registry.kill()?;
    load.answered_more(500, SOON).await?;
    world.replica("inventory-0")?.kill()?;
    // 30 s of calls at their rate are 30 s.
    load.answered_more(500 * AWAY.as_secs(), 3 * AWAY).await?;
    world.registry.restart().await?;
    world.run("inventory", 0, None)?;
    world.all_passing(2 * SOON).await?;
    load.answered_more(500, SOON).await?;
    load.none_failed().await.map(drop)
}

async fn a_registry_that_forgot_everything_is_told_again(kind: Kind) -> anyhow::Result<()> {
    let mut world = World::start(kind).await?;
    let load = world.load(true)?;
    load.answered_more(500, SOON).await?;
    world.registry.kill()?;
    world.registry.restart().await?;
    world.all_passing(2 * SOON).await?;
    load.answered_more(500, SOON).await?;
    load.none_failed().await.map(drop)
}
