//! Processes that are stopped and go on later, in one process.

use crate::{stage::Stage, world::Replica};
use sinew_core::{BoxFuture, Clock};
use sinew_events::{NewEvent, Outbox, Owned, PublicationError, SqlPublication};
use sinew_rabbitmq::Bus;
use sinew_sql::Db;
use std::{sync::Arc, time::Duration};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// A replica on a thread of its own, which can be stopped as a signal stops a process: nothing of it runs, and its
/// connections stay open.
pub(crate) struct Freezer {
    runtime: Option<tokio::runtime::Runtime>,
    thaw: Option<std::sync::mpsc::Sender<()>>,
}

/// What it runs on: connections of its own to the world's database. Who freezes with a shared one in hand would freeze others too.
pub(crate) struct Apart {
    pub(crate) publisher: String,
    pub(crate) db: Db,
    pub(crate) publication: SqlPublication,
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Freezer {
    /// Starts it, apart.
    pub(crate) fn run(stage: &Stage, start: impl FnOnce(Apart) -> Replica + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (url, publisher) = (stage.world.url().to_owned(), stage.world.publisher.clone());
        let (bus, clock) = (stage.bus.clone(), stage.world.clock.clone());
        runtime.spawn(async move {
            let db = Db::open(&url, 2).await.unwrap();
            let publication = SqlPublication::new(db.clone(), Outbox::default(), Arc::new(Nothing));
            let _running = start(Apart { publisher, db, publication, bus, clock });
            std::future::pending::<()>().await
        });
        Self { runtime: Some(runtime), thaw: None }
    }

    /// Freezes it where it holds no lock of this database, and waits for none: SQLite cannot take one away from who is frozen.
    pub(crate) async fn freeze_without_a_lock(&mut self, db: &Db) {
        loop {
            self.freeze().await;
            if writable(db).await {
                return;
            }
            self.thaw();
        }
    }

    async fn freeze(&mut self) {
        let (thaw, thawed) = std::sync::mpsc::channel::<()>();
        let (frozen, is_frozen) = tokio::sync::oneshot::channel();
        self.thaw = Some(thaw);
        self.runtime.as_ref().expect("not dropped").spawn(async move {
            frozen.send(()).ok();
            thawed.recv().ok();
        });
        is_frozen.await.expect("frozen");
    }

    pub(crate) fn thaw(&mut self) {
        self.thaw = None;
    }
}

/// Whether one can write again and again. The driver has a thread of its own, which does not freeze: a BEGIN that was under
/// way gets its lock as soon as others leave it a gap, and they are longest, 100 ms, when it has waited for long.
async fn writable(db: &Db) -> bool {
    for _ in 0..5 {
        let begun = timeout(Duration::from_secs(1), db.begin()).await;
        if !begun.is_ok_and(|tx| tx.is_ok()) {
            return false;
        }
        // sleeps: the gap
        sleep(Duration::from_millis(120)).await;
    }
    true
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A publisher that owns nothing yet.
#[derive(Debug)]
struct Nothing;

impl Owned for Nothing {
    fn page(&self, _: Option<Uuid>, _: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
