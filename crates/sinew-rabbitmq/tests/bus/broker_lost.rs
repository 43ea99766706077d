//! The broker itself dies and comes back.

use crate::{databases, stage::Stage};
use uuid::Uuid;

/// Both databases at once: the broker's restart is what takes long.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_under_load_costs_nothing() {
    let mut broker = testkit::RabbitMq::start().await.unwrap();
    let stages = [
        Stage::set(&broker.url(), "on-sqlite", databases::sqlite().await).await,
        Stage::set(&broker.url(), "on-postgres", databases::postgres().await).await,
    ];
    let [sqlite, postgres] = &stages;
    let _running = [sqlite.relay("a"), sqlite.replica("a"), postgres.relay("a"), postgres.replica("a")];
    sqlite.followed().await;
    postgres.followed().await;
    for stage in &stages {
        broker.written_down(&stage.queue()).await.unwrap();
    }
    let things: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    let change = async |stage: &Stage, count: usize| {
        for i in 0..count {
            stage.world.change(things[i % things.len()]).await;
        }
    };
    let load = async {
        tokio::join!(change(sqlite, 400), change(postgres, 400));
    };
    let death = async {
        // In the middle of it.
        sqlite.relayed("some events to be relayed", |s| s.position.is_some_and(|p| p > 20)).await;
        broker.process().restart().unwrap();
        broker.ready().await.unwrap();
    };
    tokio::join!(load, death);
    for stage in &stages {
        change(stage, 20).await;
        stage.world.copied().await;
        assert!(stage.world.effects().await.into_iter().eq((1..=420).map(|pos| (pos, 1))), "{}", stage.world.publisher);
        assert_eq!(stage.world.out_of_order().await, 0);
        stage.relayed("the relay to get on", |s| s.position == Some(420) && s.trouble.is_none()).await;
    }
}
