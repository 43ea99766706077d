//! A whole system in one test: a registry, two replicas of each service, and somebody who calls them.

use crate::{collect, engines::Engines};
use anyhow::{Context, ensure};
use checker::Books;
use contracts::{
    inventory::v1::inventory_service_client::InventoryServiceClient,
    order::v1::{GetOrderRequest, Order, OrderState, PlaceOrderLine, PlaceOrderRequest, order_service_client::OrderServiceClient},
    payment::v1::payment_service_client::PaymentServiceClient,
};
use sinew::{Channel, Consul, Mesh};
use sinew_core::{Discover, Health, ServiceName, Snapshot};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use testkit::{Running, SinewProcess, consul, free_port, wait_for};
use tonic::Request;

/// A product of which there is plenty.
pub(crate) const PLENTY: &str = "01900000-0000-7000-8000-000000000101";
/// A product of which there are three.
pub(crate) const SCARCE: &str = "01900000-0000-7000-8000-000000000104";
/// What the seed puts on the shelves.
const SHELVES: &[(&str, i64)] = &[
    (PLENTY, 1_000),
    ("01900000-0000-7000-8000-000000000102", 5_000),
    ("01900000-0000-7000-8000-000000000103", 2_000),
    (SCARCE, 3),
];

/// The services, two replicas each.
pub(crate) const SERVICES: &[&str] = &["inventory", "payment", "order"];

/// For things that take milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Which registry the system runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Consul,
}

/// A running registry. It can be killed, and come back with or without its memory.
#[derive(Debug)]
pub(crate) enum Registry {
    Embedded { process: Running, address: String },
    Consul(consul::Consul),
}

/// The system.
pub(crate) struct World {
    pub(crate) sinew: SinewProcess,
    pub(crate) registry: Registry,
    mesh: Mesh,
    discover: Consul,
    services: BTreeMap<String, Running>,
    token: String,
    engines: Option<Engines>,
}

impl Registry {
    pub(crate) async fn start(kind: Kind, sinew: &SinewProcess) -> anyhow::Result<Self> {
        match kind {
            Kind::Embedded => {
                let address = format!("127.0.0.1:{}", free_port()?);
                let process = sinew.program("agent", &["agent", "--listen", &address]).start()?;
                let mut registry = Self::Embedded { process, address };
                registry.ready().await?;
                Ok(registry)
            }
            Kind::Consul => Ok(Self::Consul(consul::Consul::start().await?)),
        }
    }

    /// `host:port` of its HTTP API.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Embedded { address, .. } => address.clone(),
            Self::Consul(consul) => consul.url().trim_start_matches("http://").to_owned(),
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { process, .. } => process.kill(),
            Self::Consul(consul) => consul.process().kill(),
        }
    }

    /// Starts it anew on the same port, empty: neither keeps anything.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { process, .. } => process.restart()?,
            Self::Consul(consul) => consul.process().restart()?,
        }
        self.ready().await
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Consul(consul) => consul.ready().await,
            Self::Embedded { process, address } => {
                let port = address.rsplit(':').next().and_then(|p| p.parse().ok()).context("a port")?;
                process.still_running()?;
                testkit::wait_for_port("the embedded registry", port, SOON).await
            }
        }
    }
}

impl World {
    /// Everything running, seeded and passing, on the embedded stores.
    pub(crate) async fn start(kind: Kind) -> anyhow::Result<Self> {
        Self::start_on(kind, None).await
    }

    /// The same on these engines.
    pub(crate) async fn start_on(kind: Kind, engines: Option<Engines>) -> anyhow::Result<Self> {
        let sinew = SinewProcess::new(env!("CARGO_BIN_EXE_sinew"))?;
        let registry = Registry::start(kind, &sinew).await?;
        let token = sinew.text(&["token"]).await?;
        let settings = sinew_consul::Settings { address: format!("http://{}", registry.address()), ..Default::default() };
        let discover = Consul::new(settings.clone())?;
        let mesh = Mesh::builder("e2e").policies(contracts::POLICIES).consul(settings).start().await?;
        let mut world = Self { sinew, registry, mesh, discover, services: BTreeMap::new(), token, engines };
        for service in SERVICES {
            for replica in 0..2 {
                world.run(service, replica, None)?;
            }
        }
        world.all_passing(SOON).await?;
        let consul = world.registry.address();
        if let Some(url) = world.engines.as_ref().map(|engines| engines.database("order")) {
            world.sinew = world.sinew.env("DATABASE_URL", url);
        }
        world.sinew.text(&["seed", "--consul", &consul]).await?;
        Ok(world)
    }

    /// Starts a replica, in place of the one that was there; `failpoint` is where it will fail and how: `order.place.before_commit=kill`.
    pub(crate) fn run(&mut self, service: &str, replica: u8, failpoint: Option<&str>) -> anyhow::Result<()> {
        let instance = format!("{service}-{replica}");
        self.services.remove(&instance);
        let jwks = self.sinew.data().join("dev-issuer/jwks.json");
        let mut program = self
            .sinew
            .program(&instance, &["run", service])
            .env("CONSUL_HTTP_ADDR", self.registry.address())
            .env("SINEW_INSTANCE", &instance)
            .env("SINEW_JWKS", jwks);
        for (name, value) in self.engines.iter().flat_map(|engines| engines.of_service(service)) {
            program = program.env(name, value);
        }
        if let Some(failpoint) = failpoint {
            program = program.env("SINEW_FAILPOINT", failpoint);
        }
        self.services.insert(instance, program.start()?);
        Ok(())
    }

    /// Ends a replica in order, so that the registry no longer lists it.
    pub(crate) async fn leave(&mut self, instance: &str) -> anyhow::Result<()> {
        let replica = self.replica(instance)?;
        replica.terminate()?;
        replica.wait(SOON).await?;
        self.services.remove(instance);
        Ok(())
    }

    /// The process of a replica.
    pub(crate) fn replica(&mut self, instance: &str) -> anyhow::Result<&mut Running> {
        self.services.get_mut(instance).with_context(|| format!("there is no {instance}"))
    }

    /// Waits until the registry lists two passing instances of every service.
    pub(crate) async fn all_passing(&mut self, limit: Duration) -> anyhow::Result<()> {
        for service in SERVICES {
            self.passing(service, 2, limit).await?;
        }
        Ok(())
    }

    /// Waits until the registry itself lists so many passing instances of a service.
    pub(crate) async fn passing(&mut self, service: &str, count: usize, limit: Duration) -> anyhow::Result<()> {
        let name = ServiceName::new(service)?;
        let mut seen = self.discover.watch(&name);
        wait_for(&format!("{count} passing instances of {service}"), limit, async || {
            for (instance, process) in &mut self.services {
                process.still_running().map_err(|e| format!("{instance}: {e}"))?;
            }
            let snapshot: Arc<Snapshot> = seen.borrow_and_update().clone();
            let passing = snapshot.endpoints.iter().filter(|e| e.health == Health::Passing).count();
            let known = snapshot.state == sinew_core::State::Known;
            if known && passing == count { Ok(()) } else { Err(format!("{snapshot:?}")) }
        })
        .await
    }

    /// `host:port` of one instance that passes.
    pub(crate) async fn address(&self, service: &str) -> anyhow::Result<String> {
        let seen = self.discover.watch(&ServiceName::new(service)?);
        wait_for(&format!("an address of {service}"), SOON, async || {
            let snapshot = seen.borrow().clone();
            let passing = snapshot.endpoints.iter().find(|e| e.health == Health::Passing);
            passing.map(|e| format!("{}:{}", e.host, e.port)).ok_or_else(|| format!("{snapshot:?}"))
        })
        .await
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A request of the customer.
    pub(crate) fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.token).parse()?);
        Ok(request)
    }

    pub(crate) fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.mesh.channel("order"))
    }

    pub(crate) fn inventory(&self) -> InventoryServiceClient<Channel> {
        InventoryServiceClient::new(self.mesh.channel("inventory"))
    }

    pub(crate) fn payments(&self) -> PaymentServiceClient<Channel> {
        PaymentServiceClient::new(self.mesh.channel("payment"))
    }

    /// Places an order for so many of one product.
    pub(crate) async fn place(&self, product: &str, quantity: i64, card: &str) -> anyhow::Result<Order> {
        let request = self.request(PlaceOrderRequest {
            idempotency_key: uuid::Uuid::now_v7().to_string(),
            lines: vec![PlaceOrderLine { product_id: product.to_owned(), quantity }],
            payment_token: card.to_owned(),
        })?;
        self.orders().place_order(request).await?.into_inner().order.context("an order")
    }

    /// Reads an order.
    pub(crate) async fn order(&self, order_id: &str) -> anyhow::Result<Order> {
        let request = self.request(GetOrderRequest { order_id: order_id.to_owned() })?;
        self.orders().get_order(request).await?.into_inner().order.context("an order")
    }

    /// Waits until an order has ended.
    pub(crate) async fn ended(&self, order_id: &str, limit: Duration) -> anyhow::Result<Order> {
        wait_for(&format!("the end of order {order_id}"), limit, async || {
            let order = self.order(order_id).await.map_err(|e| e.to_string())?;
            match order.state() {
                OrderState::Completed | OrderState::Failed => Ok(order),
                state => Err(format!("{state:?}: {}", order.failure_message)),
            }
        })
        .await
    }

    /// Waits until an order has ended well or not, as it should.
    pub(crate) async fn ends(&self, order_id: &str, state: OrderState) -> anyhow::Result<Order> {
        let order = self.ended(order_id, SOON).await?;
        ensure!(order.state() == state, "order {order_id} should be {state:?}: {order:?}");
        Ok(order)
    }

    /// Waits until every order has ended but those of `but`: also those whose placing was never answered.
    pub(crate) async fn all_ended(&self, but: &[String], limit: Duration) -> anyhow::Result<()> {
        wait_for("the end of all orders", limit, async || {
            let orders = self.all_orders().await.map_err(|e| e.to_string())?;
            let ended = |o: &Order| matches!(o.state(), OrderState::Completed | OrderState::Failed);
            let open: Vec<_> = orders.iter().filter(|o| !ended(o) && !but.contains(&o.order_id)).collect();
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await
    }

    async fn all_orders(&self) -> anyhow::Result<Vec<Order>> {
        collect::orders(&self.mesh, &self.token).await
    }

    /// Collects what everybody holds and fails if it is not one story.
    pub(crate) async fn books_agree(&self) -> anyhow::Result<()> {
        let found = self.books().await?.contradictions();
        ensure!(found.is_empty(), "the books disagree:\n  {}", found.join("\n  "));
        Ok(())
    }

    async fn books(&self) -> anyhow::Result<Books> {
        let on_hand = SHELVES.iter().map(|(p, n)| ((*p).to_owned(), *n)).collect();
        let ledger = self.engines.as_ref().map_or_else(|| collect::embedded_ledger(&self.sinew.data()), Engines::ledger);
        collect::books(&self.mesh, &self.token, &ledger, on_hand).await
    }
}
