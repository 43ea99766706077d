//! The services as processes: their own code, between simulated edges.

use crate::{
    network::{Door, FOR_EVER, PORT, Simulated},
    stage::{SimulatedClock, Stage},
};
use anyhow::Context;
use contracts::{
    inventory::v1::inventory_service_server::InventoryServiceServer, order::v1::order_service_server::OrderServiceServer,
};
use shop_order::{Deps, GrpcInventory, GrpcPayments};
use sinew::{Claims, Role};
use sinew_client::{BreakerConfig, Channel, Client, ConnectionConfig, Ports};
use sinew_core::{Clock, Endpoint, FixedList, Policies, Rng, ServiceName, SharedRng};
use sinew_saga::Timing;
use sinew_server::{Config, Identity, Server};
use std::{future::pending, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, service::interceptor::InterceptedService};

/// Two replicas of each, in the order in which they are started.
pub(crate) const PROCESSES: [(&str, &str); 6] = [
    ("inventory", "inventory-0"),
    ("inventory", "inventory-1"),
    ("payment", "payment-0"),
    ("payment", "payment-1"),
    ("order", "order-0"),
    ("order", "order-1"),
];

/// Who orders.
pub(crate) const CUSTOMER: &str = "01900000-0000-7000-8000-000000000001";

const MS: Duration = Duration::from_millis(1);

/// How long a saga stays with a silent coordinator.
const LEASE: Duration = Duration::from_millis(500);

/// What a process may take of the world.
pub(crate) fn ports(seed: &Stage) -> (Arc<dyn Clock>, Arc<dyn Rng>) {
    (Arc::new(SimulatedClock), Arc::new(SharedRng::seeded(seed.rng.next_u64())))
}

/// The mesh's own client, on the simulated network.
pub(crate) fn channel(stage: &Stage, to: &str) -> anyhow::Result<Channel> {
    let (clock, rng) = ports(stage);
    let discover = FixedList::new();
    let service = ServiceName::new(to)?;
    let replicas = PROCESSES.iter().filter(|(service, _)| *service == to);
    discover.set(&service, replicas.map(|(_, process)| Endpoint::new(process, process, PORT)).collect());
    let connection = ConnectionConfig {
        connect_timeout: 200 * MS,
        handshake_timeout: 200 * MS,
        backoff_min: 20 * MS,
        backoff_max: 200 * MS,
        keepalive_interval: 200 * MS,
        keepalive_idle: 1_000 * MS,
        suspect_after: 100 * MS,
        keepalive_timeout: 400 * MS,
        reset_stream_duration: FOR_EVER,
        ..ConnectionConfig::default()
    };
    let breaker = BreakerConfig { open_for: 6_000 * MS, all_open_for: 200 * MS, ..BreakerConfig::default() };
    let config = sinew_client::Config { connection, breaker, ..sinew_client::Config::default() };
    let policies = Policies::resolve(contracts::POLICIES)?;
    let ports = Ports { discover: Arc::new(discover), connector: Some(Arc::new(Simulated)), rng, clock };
    Ok(Client::new(ports, config, Arc::new(policies))?.channel(&service))
}

/// The order service's settings, a fifth of a real one's times.
pub(crate) fn order_config() -> shop_order::Config {
    let timing = Timing { attempt: 500 * MS, patience: 3_000 * MS, saga: 12_000 * MS, backoff: 20 * MS, backoff_max: 500 * MS };
    let coordinator = sinew_saga::Config { lease: LEASE, scan: 50 * MS, ..sinew_saga::Config::default() };
    shop_order::Config { timing, coordinator, ..shop_order::Config::with_url("simulated:order") }
}

pub(crate) fn inventory_config() -> shop_inventory::Config {
    shop_inventory::Config { database_url: "simulated:inventory".to_owned() }
}

pub(crate) fn payment_config() -> shop_payment::Config {
    shop_payment::Config { database_url: "simulated:payment".to_owned(), provider_url: "simulated:bank".to_owned() }
}

/// What the order service needs, talking to the others over the network.
pub(crate) fn deps(stage: &Stage) -> anyhow::Result<Deps> {
    let (inventory, payments) = (channel(stage, "inventory")?, channel(stage, "payment")?);
    let (clock, rng) = ports(stage);
    Ok(Deps { clock, rng, ..Deps::new(GrpcInventory::new(inventory), GrpcPayments::new(payments)) })
}

/// One process, from its start to its death.
pub(crate) async fn process(stage: Arc<Stage>, service: &str, name: &'static str) -> anyhow::Result<()> {
    stage.enter(name);
    let door = Door::open().await?;
    let server = server(service, name)?;
    let (clock, rng) = ports(&stage);
    match service {
        "inventory" => {
            let app = shop_inventory::App::build_with(inventory_config(), clock.clone()).await?;
            let server = server.add_service(InventoryServiceServer::new(app.api()));
            tokio::join!(server.run_on(door, pending()), app.upkeep(&*clock, &*rng)).0?;
        }
        "payment" => {
            let app = shop_payment::App::build_with(payment_config(), clock.clone()).await?;
            let server = server.add_service(app.service());
            tokio::join!(server.run_on(door, pending()), app.upkeep(&*clock, &*rng)).0?;
        }
        "order" => {
            let app = shop_order::App::build(order_config(), deps(&stage)?).await?;
            let server = server.add_service(InterceptedService::new(OrderServiceServer::new(app.api()), as_customer));
            tokio::join!(server.run_on(door, pending()), app.run(CancellationToken::new())).0?;
        }
        other => anyhow::bail!("there is no {other}"),
    }
    Ok(())
}

fn server(service: &str, instance: &str) -> anyhow::Result<Server> {
    let identity = Identity {
        service: ServiceName::new(service).context("a service")?,
        instance: instance.to_owned(),
        version: String::new(),
        advertise_host: None,
        advertise_port: None,
    };
    Ok(Server::new(Config { clock: Arc::new(SimulatedClock), ..Config::new(identity) }))
}

/// Whoever asks is the customer: tokens are another test's matter.
pub(crate) fn as_customer(mut request: Request<()>) -> Result<Request<()>, Status> {
    request.extensions_mut().insert(Claims { sub: CUSTOMER.to_owned(), role: Role::Customer });
    Ok(request)
}
