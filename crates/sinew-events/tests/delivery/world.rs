//! A publisher of things, a consumer that keeps copies of them, both on one database.

use crate::databases::Database;
use sinew_core::{BoxFuture, Clock, Rng, SharedRng, SystemClock};
use sinew_events::{
    Event, EventsServer, Feed, MeshFeed, NewEvent, Outbox, Owned, Projection, ProjectionError, Publication, PublicationError,
    SqlPublication, Subscription, SubscriptionConfig, SubscriptionsAdmin, migrations,
};
use sinew_proto::events::v1::events_service_server::EventsServiceServer;
use sinew_sql::{DEFAULT_CONNECTIONS, Db, Tx, now, retry};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

/// For things that take milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) publisher: String,
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) publication: SqlPublication,
    pub(crate) server: EventsServer,
    pub(crate) clock: Arc<dyn Clock>,
    database: Database,
    _numbering: AbortOnDropHandle<()>,
}

/// A replica of the consumer. Dropped, it is gone as after a crash.
pub(crate) struct Replica {
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Things(Db);

/// Keeps copies, and counts how often each event that happened took effect.
#[derive(Debug, Clone)]
pub(crate) struct Copies;

impl World {
    pub(crate) async fn start(database: Database) -> Self {
        Self::of("things", database).await
    }

    /// With a name of its own for the publisher, where something else is shared.
    pub(crate) async fn of(publisher: &str, database: Database) -> Self {
        let db = Db::open(&database.url, DEFAULT_CONNECTIONS).await.unwrap();
        db.migrate(&migrations()).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for sql in [
            (
                "CREATE TABLE things (id uuid PRIMARY KEY, version bigint NOT NULL)",
                "CREATE TABLE things (id BLOB PRIMARY KEY NOT NULL, version INTEGER NOT NULL) STRICT",
            ),
            (
                "CREATE TABLE copies (id uuid PRIMARY KEY, version bigint NOT NULL)",
                "CREATE TABLE copies (id BLOB PRIMARY KEY NOT NULL, version INTEGER NOT NULL) STRICT",
            ),
            (
                "CREATE TABLE effects (event_id uuid PRIMARY KEY, pos bigint NOT NULL, times bigint NOT NULL, newer bigint NOT NULL)",
                "CREATE TABLE effects (event_id BLOB PRIMARY KEY NOT NULL, pos INTEGER NOT NULL, times INTEGER NOT NULL, newer INTEGER NOT NULL) STRICT",
            ),
        ] {
            tx.q(sql).run().await.unwrap();
        }
        tx.commit().await.unwrap();
        let (outbox, clock): (_, Arc<dyn Clock>) = (Outbox::default(), Arc::new(SystemClock));
        let publication = SqlPublication::new(db.clone(), outbox.clone(), Arc::new(Things(db.clone())));
        let server = EventsServer::new(publisher, Arc::new(publication.clone()), clock.clone());
        let numbering = {
            let publication = publication.clone();
            tokio::spawn(async move { publication.run(&SystemClock, &SharedRng::seeded(1)).await })
        };
        let (publisher, _numbering) = (publisher.to_owned(), AbortOnDropHandle::new(numbering));
        Self { publisher, db, outbox, publication, server, clock, database, _numbering }
    }

    /// What to open to see the same.
    #[allow(dead_code, reason = "for tests of other crates, which use this file too")]
    pub(crate) fn url(&self) -> &str {
        &self.database.url
    }

    /// Changes a thing, and tells of it.
    pub(crate) async fn change(&self, id: Uuid) -> i64 {
        let changed = retry(|| async {
            let mut tx = self.db.begin().await?;
            let version = self.change_in(&mut tx, id).await?;
            tx.commit().await?;
            Ok::<_, sinew_sql::Error>(version)
        });
        changed.await.unwrap()
    }

    pub(crate) async fn change_in(&self, tx: &mut Tx, id: Uuid) -> sinew_sql::Result<i64> {
        let sql = "INSERT INTO things (id, version) VALUES ($1, 1)
                   ON CONFLICT (id) DO UPDATE SET version = things.version + 1 RETURNING version";
        let (version,): (i64,) = tx.q(sql).bind(id).one().await?;
        self.outbox.append(tx, event(id, version)).await?;
        Ok(version)
    }

    pub(crate) fn feed(&self) -> MeshFeed<EventsServiceServer<EventsServer>> {
        MeshFeed::new(self.server.service())
    }

    /// A replica of the consumer, on the feed that is there.
    pub(crate) fn replica(&self, name: &str) -> Replica {
        self.replica_on(name, Arc::new(self.feed()))
    }

    pub(crate) fn replica_on(&self, name: &str, feed: Arc<dyn Feed>) -> Replica {
        self.replica_with(name, feed, Arc::new(Copies))
    }

    pub(crate) fn replica_with(&self, name: &str, feed: Arc<dyn Feed>, projection: Arc<dyn Projection>) -> Replica {
        Replica::start(|shutdown| self.subscription_of(name, self.db.clone(), feed, projection).run(shutdown))
    }

    pub(crate) fn subscription_of(&self, name: &str, db: Db, feed: Arc<dyn Feed>, projection: Arc<dyn Projection>) -> Subscription {
        let shared: (_, Arc<dyn Rng>) = (self.clock.clone(), Arc::new(SharedRng::seeded(7)));
        Subscription::new(("copier", &self.publisher, name), db, feed, projection, config(), shared)
    }

    pub(crate) fn admin(&self) -> SubscriptionsAdmin {
        SubscriptionsAdmin::new(self.db.clone(), self.clock.clone())
    }

    /// Versions of all things, or of all copies.
    async fn versions(&self, sql: &'static str) -> BTreeMap<Uuid, i64> {
        self.db.snapshot().await.unwrap().q(sql).all::<(Uuid, i64)>().await.unwrap().into_iter().collect()
    }

    /// Waits until the copies are as the things are.
    pub(crate) async fn copied(&self) {
        testkit::wait_for("the copies to be as the things", SOON, async || {
            let things = self.versions("SELECT id, version FROM things").await;
            let copies = self.versions("SELECT id, version FROM copies").await;
            let differ = things.iter().filter(|(id, version)| copies.get(id) != Some(version)).count();
            if differ == 0 { Ok(()) } else { Err(format!("{differ} of {} differ: {:?}", things.len(), self.admin().list().await)) }
        })
        .await
        .unwrap();
    }

    /// How often each position took effect.
    pub(crate) async fn effects(&self) -> Vec<(i64, i64)> {
        let sql = "SELECT pos, times FROM effects ORDER BY pos";
        self.db.snapshot().await.unwrap().q(sql).all().await.unwrap()
    }

    /// How many took effect after a newer one of the same thing.
    pub(crate) async fn out_of_order(&self) -> i64 {
        let sql = "SELECT count(*) FROM effects WHERE newer > 0";
        let (count,): (i64,) = self.db.snapshot().await.unwrap().q(sql).one().await.unwrap();
        count
    }

    /// Waits until a replica of this name follows.
    pub(crate) async fn followed_by(&self, name: &str) {
        self.subscription(&format!("{name} to follow"), |s| s.owner.as_deref().is_some_and(|owner| owner.starts_with(name))).await;
    }

    /// Waits until the subscription is so.
    pub(crate) async fn subscription(
        &self,
        what: &str,
        so: impl Fn(&sinew_events::SubscriptionStatus) -> bool,
    ) -> sinew_events::SubscriptionStatus {
        testkit::wait_for(what, SOON, async || {
            let all = self.admin().list().await.map_err(|e| e.to_string())?;
            all.iter().find(|s| s.consumer == "copier" && so(s)).cloned().ok_or_else(|| format!("{all:?}"))
        })
        .await
        .unwrap()
    }
}

impl Replica {
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(run: impl FnOnce(CancellationToken) -> F) -> Self {
        let shutdown = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(run(shutdown.clone())));
        Self { shutdown, task }
    }
}

/// Leases and looks short enough to be waited for.
pub(crate) fn config() -> SubscriptionConfig {
    SubscriptionConfig { lease: Duration::from_millis(600), look: Duration::from_millis(50), ..Default::default() }
}

pub(crate) fn event(id: Uuid, version: i64) -> NewEvent<'static> {
    NewEvent::new(id, version, "thing.changed", &prost_types::Duration { seconds: version, nanos: 0 }, now(&SystemClock))
}

impl Owned for Things {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(async move {
            let sql = "SELECT id, version FROM things WHERE id > $1 ORDER BY id LIMIT $2";
            let (after, limit) = (after.unwrap_or(Uuid::nil()), i64::try_from(limit).unwrap());
            let rows: Vec<(Uuid, i64)> = self.0.snapshot().await?.q(sql).bind(after).bind(limit).all().await?;
            Ok(rows.into_iter().map(|(id, version)| event(id, version)).collect())
        })
    }
}

impl Projection for Copies {
    fn apply<'a>(&'a self, tx: &'a mut Tx, event: &'a Event) -> BoxFuture<'a, Result<(), ProjectionError>> {
        Box::pin(async move {
            let said: prost_types::Duration = event.message()?;
            let newer = "SELECT count(*) FROM copies WHERE id = $1 AND version > $2";
            let (newer,): (i64,) = tx.q(newer).bind(event.aggregate).bind(said.seconds).one().await?;
            let sql = "INSERT INTO copies (id, version) VALUES ($1, $2)
                       ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE copies.version <= excluded.version";
            tx.q(sql).bind(event.aggregate).bind(said.seconds).run().await?;
            if event.pos > 0 {
                let sql = "INSERT INTO effects (event_id, pos, times, newer) VALUES ($1, $2, 1, $3)
                           ON CONFLICT (event_id) DO UPDATE SET times = effects.times + 1";
                tx.q(sql).bind(event.event_id).bind(event.pos).bind(newer).run().await?;
            }
            Ok(())
        })
    }
}

/// The publication's head, when everything committed has its position.
pub(crate) async fn settled(world: &World) -> i64 {
    testkit::wait_for("all events to have positions", SOON, async || {
        let extent = world.publication.extent().await.map_err(|e| e.to_string())?;
        if extent.pending == 0 { Ok(extent.head) } else { Err(format!("{extent:?}")) }
    })
    .await
    .unwrap()
}
