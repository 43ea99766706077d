//! A publisher of things, a consumer that keeps copies of them, both on one database.

use crate::databases::Database;
use sinew_core::{BoxFuture, Clock, SharedRng, SystemClock};
use sinew_events::{
    Event, EventsServer, MeshFeed, NewEvent, Outbox, Owned, Projection, ProjectionError, Publication, PublicationError,
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
    pub(crate) db: Db,
    pub(crate) outbox: Outbox,
    pub(crate) publication: SqlPublication,
    pub(crate) server: EventsServer,
    pub(crate) clock: Arc<dyn Clock>,
    _database: Database,
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
                "CREATE TABLE effects (event_id uuid PRIMARY KEY, pos bigint NOT NULL, times bigint NOT NULL)",
                "CREATE TABLE effects (event_id BLOB PRIMARY KEY NOT NULL, pos INTEGER NOT NULL, times INTEGER NOT NULL) STRICT",
            ),
        ] {
            tx.q(sql).run().await.unwrap();
        }
        tx.commit().await.unwrap();
        let (outbox, clock): (_, Arc<dyn Clock>) = (Outbox::default(), Arc::new(SystemClock));
        let publication = SqlPublication::new(db.clone(), outbox.clone(), Arc::new(Things(db.clone())));
        let server = EventsServer::new("things", Arc::new(publication.clone()), clock.clone());
        let numbering = {
            let publication = publication.clone();
            tokio::spawn(async move { publication.run(&SystemClock, &SharedRng::seeded(1)).await })
        };
        Self { db, outbox, publication, server, clock, _database: database, _numbering: AbortOnDropHandle::new(numbering) }
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

    pub(crate) fn replica_on(&self, name: &str, feed: Arc<dyn sinew_events::Feed>) -> Replica {
        let config =
            SubscriptionConfig { lease: Duration::from_millis(600), look: Duration::from_millis(50), ..Default::default() };
        let rng = Arc::new(SharedRng::seeded(7));
        let (db, clock) = (self.db.clone(), self.clock.clone());
        let subscription = Subscription::new(("copier", "things", name), db, feed, Arc::new(Copies), config, (clock, rng));
        let shutdown = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(subscription.run(shutdown.clone())));
        Replica { shutdown, task }
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
            all.iter().find(|s| so(s)).cloned().ok_or_else(|| format!("{all:?}"))
        })
        .await
        .unwrap()
    }
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
            let sql = "INSERT INTO copies (id, version) VALUES ($1, $2)
                       ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE copies.version <= excluded.version";
            tx.q(sql).bind(event.aggregate).bind(said.seconds).run().await?;
            if event.pos > 0 {
                let sql = "INSERT INTO effects (event_id, pos, times) VALUES ($1, $2, 1)
                           ON CONFLICT (event_id) DO UPDATE SET times = effects.times + 1";
                tx.q(sql).bind(event.event_id).bind(event.pos).run().await?;
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
