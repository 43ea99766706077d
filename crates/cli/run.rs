//! `sinew run`: one service in this process, as containers and `sinew up` run it.

use crate::{
    exit::{Exit, chain},
    keys,
    shutdown::{Signals, parent_gone},
};
use shop_order::{Deps, Feeds, GrpcInventory, GrpcPayments};
use sinew::{Draining, Mesh, MeshServer, Verifier};
use sinew_events::{Checkpoint, EventsServer, Feed, MeshFeed, Publication, SubscriptionConfig};
use sinew_gateway::{Gateway, GatewaySettings, MeshBackend};
use sinew_rabbitmq::{Bus, Relay};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Runs one service until it is told to stop; settings come from the environment.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which.
    #[arg(value_enum)]
    service: Service,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Service {
    User,
    Product,
    Inventory,
    Payment,
    Order,
    Gateway,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let shutdown = CancellationToken::new();
    let mut signals = Signals::new()?;
    let asked = async {
        tokio::select! {
            biased;
            () = signals.next() => {}
            () = parent_gone() => {}
        }
        shutdown.cancel();
        // The drain goes on; being asked twice changes nothing.
        std::future::pending().await
    };
    tokio::select! {
        biased;
        never = asked => never,
        served = serve(args.service, shutdown.clone()) => served,
    }
}

async fn serve(service: Service, shutdown: CancellationToken) -> Result<(), Exit> {
    let name = match service {
        Service::User => "user",
        Service::Product => "product",
        Service::Inventory => "inventory",
        Service::Payment => "payment",
        Service::Order => "order",
        Service::Gateway => "gateway",
    };
    // Settings first, then the store, then the registry: what is cheapest to find wrong is told first.
    let mesh = Mesh::builder(name)
        .policies(contracts::POLICIES)
        .descriptors(contracts::DESCRIPTORS)
        .descriptors(sinew_proto::DESCRIPTORS)
        .version(env!("CARGO_PKG_VERSION"))
        .from_env()
        .map_err(|e| failed(&e))?;
    database_url()?;
    let bus = Bus::from_env().map_err(|e| Exit::usage(chain(&e)))?;
    let asked = shutdown.clone().cancelled_owned();
    match service {
        Service::User => {
            let app = shop_user::App::build(shop_user::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let server = server(&mesh, app.publication(), keys::own(&mesh, &app)).add_service(app.service());
            let relay = relay(bus, &mesh, app.publication(), app.checkpoint(mesh.clock()));
            beside(app.upkeep(&**mesh.clock(), &**mesh.rng()), relay, server.run(asked)).await
        }
        Service::Product => {
            let app = shop_product::App::build(shop_product::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let server = server(&mesh, app.publication(), keys::verifier(&mesh)).add_service(app.service());
            let relay = relay(bus, &mesh, app.publication(), app.checkpoint(mesh.clock()));
            beside(app.upkeep(&**mesh.clock(), &**mesh.rng()), relay, server.run(asked)).await
        }
        Service::Inventory => {
            let app = shop_inventory::App::build(shop_inventory::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let server = server(&mesh, app.publication(), keys::verifier(&mesh)).add_service(app.service());
            let relay = relay(bus, &mesh, app.publication(), app.checkpoint(mesh.clock()));
            beside(app.upkeep(&**mesh.clock(), &**mesh.rng()), relay, server.run(asked)).await
        }
        Service::Payment => {
            let app = shop_payment::App::build(shop_payment::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let server = server(&mesh, app.publication(), keys::verifier(&mesh)).add_service(app.service());
            let relay = relay(bus, &mesh, app.publication(), app.checkpoint(mesh.clock()));
            beside(app.upkeep(&**mesh.clock(), &**mesh.rng()), relay, server.run(asked)).await
        }
        Service::Order => {
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let feed = |publisher| feed(bus.as_ref(), &mesh, publisher);
            let feeds = Feeds { users: feed("user"), products: feed("product"), instance: mesh.instance() };
            let deps = Deps::new(GrpcInventory::new(mesh.channel("inventory")), GrpcPayments::new(mesh.channel("payment")));
            let config = shop_order::Config::from_env();
            let app = shop_order::App::build(config, deps.following(feeds)).await.map_err(|e| store(&e))?;
            let server = server(&mesh, app.publication(), keys::verifier(&mesh)).add_service(app.service());
            let server = server.add_admin_service(app.admin_service()).add_admin_service(app.subscriptions_service());
            let relay = relay(bus, &mesh, app.publication(), app.checkpoint(mesh.clock()));
            // Sagas go on while the last calls finish; what is then under way goes to the other replica.
            let hand_over = CancellationToken::new();
            let serving = async {
                let served = server.run(asked).await;
                hand_over.cancel();
                served
            };
            let (served, (), ()) = tokio::join!(serving, app.run(hand_over.clone()), relayed(relay, &hand_over));
            served.map_err(|e| failed(&e))
        }
        Service::Gateway => gateway(mesh, shutdown).await,
    }
}

/// A server that verifies tokens and lets others follow this service's events.
fn server(mesh: &Mesh, publication: Arc<dyn Publication>, verifier: Arc<Verifier>) -> MeshServer {
    let events = EventsServer::new(mesh.name().as_str(), publication, mesh.clock().clone());
    mesh.server().verifier(verifier).add_shared_service(events.service())
}

/// A publisher's events: from the publisher itself, or through the broker where there is one.
fn feed(bus: Option<&Bus>, mesh: &Mesh, publisher: &str) -> Arc<dyn Feed> {
    let owner = Arc::new(MeshFeed::new(mesh.channel(publisher)));
    match bus {
        Some(bus) => Arc::new(bus.feed(publisher, owner)),
        None => owner,
    }
}

/// What hands this service's events to the broker, where there is one.
fn relay(bus: Option<Bus>, mesh: &Mesh, publication: Arc<dyn Publication>, checkpoint: Arc<dyn Checkpoint>) -> Option<Relay> {
    let (name, instance) = (mesh.name().as_str(), mesh.instance());
    bus.map(|bus| bus.relay((name, &instance), publication, checkpoint, SubscriptionConfig::default(), mesh.rng().clone()))
}

async fn relayed(relay: Option<Relay>, shutdown: &CancellationToken) {
    if let Some(relay) = relay {
        relay.run(shutdown.clone()).await;
    }
}

/// The HTTP edge: everything that the contracts open to the outside.
async fn gateway(mesh: sinew::Builder, shutdown: CancellationToken) -> Result<(), Exit> {
    let settings = GatewaySettings::from_env().map_err(|e| Exit::usage(chain(&e)))?;
    let mesh = mesh.start().await.map_err(|e| failed(&e))?;
    let cannot = |e: &dyn std::error::Error| Exit::unavailable(format!("cannot listen on {}: {}", settings.listen, chain(e)));
    let listener = TcpListener::bind(settings.listen).await.map_err(|e| cannot(&e))?;
    let address = listener.local_addr().map_err(|e| cannot(&e))?;
    let server = mesh.server();
    let gateway = Gateway::builder(mesh.policies().clone(), MeshBackend::new(&mesh))
        .descriptors(contracts::DESCRIPTORS)
        .verifier(keys::verifier(&mesh))
        .settings(&settings)
        .readiness(server.readiness().clone())
        .build()
        .map_err(|e| Exit::no(chain(&e)))?;
    let edge = |draining: Draining| gateway.run(listener, async move { draining.begun().await });
    server.run_edge(address, edge, shutdown.cancelled_owned()).await.map_err(|e| failed(&e))
}

/// Refuses a database that is none of ours before anything is opened; gives it back where it is set.
pub(crate) fn database_url() -> Result<Option<String>, Exit> {
    let Some(url) = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) else { return Ok(None) };
    if ["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(Some(url));
    }
    // The rest may hold a password.
    let scheme = url.split(':').next().unwrap_or_default();
    Err(Exit::usage(format!("DATABASE_URL: {scheme:?} is no database we know; use postgres://… or sqlite://…")))
}

fn failed(error: &sinew::Error) -> Exit {
    let line = chain(error);
    if error.exit_code() == Exit::USAGE { Exit::usage(line) } else { Exit::unavailable(line) }
}

/// Serves, with upkeep that ends when the server has; the relay then goes to another replica.
async fn beside(
    upkeep: impl Future<Output = ()>,
    relay: Option<Relay>,
    serving: impl Future<Output = Result<(), sinew::Error>>,
) -> Result<(), Exit> {
    let hand_over = CancellationToken::new();
    let serving = async {
        let served = serving.await;
        hand_over.cancel();
        served.map_err(|e| failed(&e))
    };
    let upkeep = async {
        upkeep.await;
        std::future::pending().await
    };
    let both = async { tokio::join!(serving, relayed(relay, &hand_over)).0 };
    tokio::select! {
        biased;
        served = both => served,
        never = upkeep => never,
    }
}

fn store(error: &dyn std::error::Error) -> Exit {
    Exit::unavailable(chain(error))
}
