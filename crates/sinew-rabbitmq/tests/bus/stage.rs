//! One broker for many scenarios.

use crate::{
    databases::Database,
    world::{Replica, SOON, World, config},
};
use lapin::{Channel, Connection, ConnectionProperties};
use sinew_core::{SharedRng, stats::Registry};
use sinew_events::{Feed, Publication, SqlCheckpoint, SubscriptionStatus};
use sinew_rabbitmq::{Bus, DeadLetters};
use std::sync::Arc;

/// What one scenario has: a publisher's name of its own on the broker, and a database.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) url: String,
    pub(crate) bus: Bus,
}

/// Makes the function that runs all of these on one broker at once, each on a database like the one given.
macro_rules! scenarios {
    ($($module:ident::$name:ident)*) => {
        async fn on_one_broker(database: databases::Database) {
            let broker = testkit::RabbitMq::start().await.unwrap();
            // On this thread: what waits for conditions is not `Send`. Relays and replicas are tasks of the runtime.
            let scenarios = tokio::task::LocalSet::new();
            let mut running = Vec::new();
            $(if stage::is_wanted(stringify!($name)) {
                let stage = stage::Stage::set(&broker.url(), stringify!($name), database.another().await).await;
                running.push((stringify!($name), scenarios.spawn_local($module::$name(stage))));
            })*
            scenarios.await;
            let mut failed = Vec::new();
            for (name, scenario) in running {
                failed.extend(scenario.await.err().map(|_| name));
            }
            assert!(failed.is_empty(), "failed: {failed:?}");
        }
    };
}
pub(crate) use scenarios;

/// For whoever looks into one of them.
pub(crate) fn is_wanted(name: &str) -> bool {
    std::env::var("SINEW_TEST_SCENARIO").map_or(true, |wanted| name.contains(&wanted))
}

impl Stage {
    pub(crate) async fn set(url: &str, name: &str, database: Database) -> Self {
        // Short signs of life, so that a frozen connection is noticed within seconds.
        let url = format!("{url}?heartbeat=1");
        Self { world: World::of(name, database).await, bus: Bus::new(&url, "AMQP_URL").unwrap(), url }
    }

    pub(crate) fn relay(&self, name: &str) -> Replica {
        self.relay_of(name, &self.bus, Arc::new(self.world.publication.clone()))
    }

    pub(crate) fn relay_of(&self, name: &str, bus: &Bus, publication: Arc<dyn Publication>) -> Replica {
        let World { db, clock, publisher, .. } = &self.world;
        let checkpoint = Arc::new(SqlCheckpoint::of_bus(db.clone(), publisher, clock.clone()));
        let rng = Arc::new(SharedRng::seeded(11));
        Replica::start(|shutdown| bus.relay((publisher, name), publication, checkpoint, config(), rng).run(shutdown))
    }

    pub(crate) fn feed(&self) -> Arc<dyn Feed> {
        Arc::new(self.bus.feed(&self.world.publisher, Arc::new(self.world.feed())))
    }

    pub(crate) fn replica(&self, name: &str) -> Replica {
        self.world.replica_on(name, self.feed())
    }

    pub(crate) fn dead_letters(&self) -> DeadLetters {
        self.bus.dead_letters("copier", &self.world.publisher)
    }

    /// Waits until the relay is so.
    pub(crate) async fn relayed(&self, what: &str, so: impl Fn(&SubscriptionStatus) -> bool) -> SubscriptionStatus {
        testkit::wait_for(what, SOON, async || {
            let all = self.world.admin().list().await.map_err(|e| e.to_string())?;
            all.iter().find(|s| s.consumer == "bus" && so(s)).cloned().ok_or_else(|| format!("{all:?}"))
        })
        .await
        .unwrap()
    }

    /// Waits until the consumer took its snapshot: from then on it follows.
    pub(crate) async fn followed(&self) {
        self.world.subscription("the snapshot", |s| s.position.is_some()).await;
    }

    /// Past the world: what somebody else does with the broker.
    pub(crate) async fn channel(&self) -> (Connection, Channel) {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    pub(crate) fn queue(&self) -> String {
        format!("copier.{}", self.world.publisher)
    }

    /// All counters of this name that are about our publisher, together.
    pub(crate) fn counted(&self, counter: &str) -> u64 {
        let ours = |labels: &[(&str, String)]| labels.iter().any(|(_, value)| *value == self.world.publisher);
        let all = Registry::global().all_counters();
        all.iter().filter(|(name, labels, _)| *name == counter && ours(labels)).map(|(_, _, n)| n).sum()
    }
}
