//! Puts the service together: the same for production and for tests.

use crate::{
    Config,
    api::Api,
    domain::{Catalogue, Customer, Error, Inventory, Payments, Product, Purchase},
    infrastructure::{OrderRecorder, SqlCatalogue, SqlOrders, migrations},
    saga,
};
use contracts::order::v1::order_service_server::OrderServiceServer;
use sinew_core::{Clock, Rng, SharedRng, SystemClock};
use sinew_events::{Outbox, idempotency};
use sinew_proto::saga::v1::saga_service_server::SagaServiceServer;
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
}

impl Deps {
    /// Over these services, with the machine's clock.
    pub fn new(inventory: impl Inventory, payments: impl Payments) -> Self {
        let (clock, rng) = (Arc::new(SystemClock), Arc::new(SharedRng::from_os()));
        Self { inventory: Arc::new(inventory), payments: Arc::new(payments), clock, rng }
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
    outbox: Outbox,
    orders: SqlOrders,
    catalogue: SqlCatalogue,
    sagas: Sagas<Purchase>,
    coordinator: Coordinator<Purchase>,
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
        let coordinator = Coordinator::new(db.clone(), definition, config.coordinator, deps.clock.clone(), deps.rng).await?;
        let sagas = coordinator.sagas();
        let orders = SqlOrders::new(db.clone(), outbox.clone(), sagas.clone(), deps.clock.clone());
        let catalogue = SqlCatalogue::new(db.clone());
        Ok(Self { db, clock: deps.clock, outbox, orders, catalogue, sagas, coordinator })
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

    /// The sagas, to be looked at.
    pub fn sagas(&self) -> &Sagas<Purchase> {
        &self.sagas
    }

    /// The service's events, to be delivered.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
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

    /// Carries orders out until `shutdown`, then gives those under way to other replicas. Run it beside the server, and
    /// end it after the server.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops all work at once, as a crash would.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            biased;
            () = self.coordinator.run(shutdown) => {}
            () = idempotency::keep_swept(&self.db, &*self.clock) => {}
        }
        self.db.close().await;
    }
}
