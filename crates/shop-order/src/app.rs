//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    domain::{Catalogue, Customer, Error, Inventory, Payments, Product, Purchase},
    infrastructure::{OrderRecorder, PRODUCTS, Products, SqlCatalogue, SqlOrders, USERS, Users, migrations},
    saga,
};
use contracts::order::v1::order_service_server::OrderServiceServer;
use futures_util::future::join_all;
use sinew_core::{Clock, Rng, SharedRng, SystemClock};
use sinew_events::{
    Checkpoint, Feed, Outbox, Projection, Publication, SqlCheckpoint, SqlPublication, Subscription, SubscriptionsAdmin,
    idempotency::keep_swept,
};
use sinew_proto::{
    events::v1::subscriptions_service_server::SubscriptionsServiceServer, saga::v1::saga_service_server::SagaServiceServer,
};
use sinew_saga::{Admin, Coordinator, Sagas};
use sinew_sql::{DEFAULT_CONNECTIONS, Db};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the service needs from outside.
#[derive(Clone)]
pub struct Deps {
    /// Keeps stock.
    pub inventory: Arc<dyn Inventory>,
    /// Takes money.
    pub payments: Arc<dyn Payments>,
    /// Tells the date.
    pub clock: Arc<dyn Clock>,
    /// For jitter.
    pub rng: Arc<dyn Rng>,
    /// Tells of users and products; the copies stay as they are without.
    pub feeds: Option<Feeds>,
}

/// What tells of other services' news.
#[derive(Debug, Clone)]
pub struct Feeds {
    /// The user service's events.
    pub users: Arc<dyn Feed>,
    /// The product service's events.
    pub products: Arc<dyn Feed>,
    /// How operators know this replica: the one that follows is shown.
    pub instance: String,
}

impl Deps {
    /// Over these services, with the machine's clock.
    pub fn new(inventory: impl Inventory, payments: impl Payments) -> Self {
        let (clock, rng) = (Arc::new(SystemClock), Arc::new(SharedRng::from_os()));
        Self { inventory: Arc::new(inventory), payments: Arc::new(payments), clock, rng, feeds: None }
    }

    /// With news of users and products.
    pub fn following(self, feeds: Feeds) -> Self {
        Self { feeds: Some(feeds), ..self }
    }
}

impl std::fmt::Debug for Deps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deps")
    }
}

/// The service, ready to be served: its store is open and migrated.
#[derive(Debug)]
pub struct App {
    db: Db,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    publication: SqlPublication,
    orders: SqlOrders,
    catalogue: SqlCatalogue,
    sagas: Sagas<Purchase>,
    coordinator: Coordinator<Purchase>,
    subscriptions: Vec<Subscription>,
}

impl App {
    /// Opens the store and brings its schema up to date. No order moves before [`run`](Self::run).
    ///
    /// # Errors
    ///
    /// An unreachable store or a failed migration; both name the thing and the way out.
    pub async fn build(config: Config, deps: Deps) -> sinew_sql::Result<Self> {
        let db = Db::open(&config.database_url, DEFAULT_CONNECTIONS).await?;
        db.migrate(&sinew_events::migrations()).await?;
        db.migrate(&migrations()).await?;
        let outbox = Outbox::default();
        let recorder = OrderRecorder::new(outbox.clone(), deps.clock.clone());
        let definition = saga::definition(deps.inventory, deps.payments, recorder, config.timing);
        let coordinator =
            Coordinator::new(db.clone(), definition, config.coordinator, deps.clock.clone(), deps.rng.clone()).await?;
        let sagas = coordinator.sagas();
        let orders = SqlOrders::new(db.clone(), outbox.clone(), sagas.clone(), (deps.clock.clone(), deps.rng.clone()));
        let catalogue = SqlCatalogue::new(db.clone());
        let follow = |publisher: &str, instance: &str, feed: Arc<dyn Feed>, projection: Arc<dyn Projection>| {
            let who = ("order", publisher, instance);
            Subscription::new(
                who,
                db.clone(),
                feed,
                projection,
                config.subscriptions.clone(),
                (deps.clock.clone(), deps.rng.clone()),
            )
        };
        let subscriptions = deps.feeds.map_or_else(Vec::new, |Feeds { users, products, instance }| {
            vec![follow(USERS, &instance, users, Arc::new(Users)), follow(PRODUCTS, &instance, products, Arc::new(Products))]
        });
        let publication = SqlPublication::new(db.clone(), outbox, Arc::new(orders.clone()));
        let (clock, rng) = (deps.clock, deps.rng);
        Ok(Self { db, clock, rng, publication, orders, catalogue, sagas, coordinator, subscriptions })
    }

    /// What answers the rpcs.
    pub fn api(&self) -> Api<SqlOrders> {
        Api::new(self.orders.clone())
    }

    /// The gRPC service, to be added to a server.
    pub fn service(&self) -> OrderServiceServer<Api<SqlOrders>> {
        OrderServiceServer::new(self.api())
    }

    /// The saga service, to be added to the admin port.
    pub fn admin_service(&self) -> SagaServiceServer<Admin<Purchase>> {
        self.sagas.admin_service()
    }

    /// How far the copies of users and products are, to be added to the admin port.
    pub fn subscriptions_service(&self) -> SubscriptionsServiceServer<SubscriptionsAdmin> {
        SubscriptionsAdmin::new(self.db.clone(), self.clock.clone()).service()
    }

    /// The sagas, to be looked at.
    pub fn sagas(&self) -> &Sagas<Purchase> {
        &self.sagas
    }

    /// The service's events, to be delivered, and everything it owns.
    pub fn publication(&self) -> Arc<dyn Publication> {
        Arc::new(self.publication.clone())
    }

    /// How far the events are handed to a broker, where there is one.
    pub fn checkpoint(&self, clock: &Arc<dyn Clock>) -> Arc<dyn Checkpoint> {
        Arc::new(SqlCheckpoint::of_bus(self.db.clone(), "order", clock.clone()))
    }

    /// The service's own database.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// Takes in customers and products, as their events would.
    pub async fn seed(&self, customers: &[Customer], products: &[Product]) -> Result<(), Error> {
        for customer in customers {
            self.catalogue.put_customer(customer).await?;
        }
        for product in products {
            self.catalogue.put_product(product).await?;
        }
        Ok(())
    }

    /// Carries orders out, follows users and products and numbers events until `shutdown`, then gives what is under way to other
    /// replicas. Run it beside the server, and end it after the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all work at once, as a crash would.
    pub async fn run(self, shutdown: CancellationToken) {
        let following = join_all(self.subscriptions.into_iter().map(|subscription| subscription.run(shutdown.clone())));
        tokio::select! {
            biased;
            _ = async { tokio::join!(self.coordinator.run(shutdown.clone()), following) } => {}
            _ = async { tokio::join!(self.publication.run(&*self.clock, &*self.rng), keep_swept(&self.db, &*self.clock)) } => {}
        }
        self.db.close().await;
    }
}
