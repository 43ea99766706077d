//! `sinew run`: one service in this process, as containers and `sinew up` run it.

use crate::{
    exit::{Exit, chain},
    shutdown::{Signals, parent_gone},
};
use shop_order::{Deps, GrpcInventory, GrpcPayments};
use sinew::Mesh;
use sinew_events::idempotency::keep_swept;
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
    let asked = shutdown.clone().cancelled_owned();
    match service {
        Service::User => {
            let app = shop_user::App::build(shop_user::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let upkeep = async { tokio::join!(app.rotate_keys(), keep_swept(app.db(), &**mesh.clock())) };
            let serving = mesh.server().add_service(app.service()).run(asked);
            beside(upkeep, serving).await.map_err(|e| failed(&e))
        }
        Service::Product => {
            let app = shop_product::App::build(shop_product::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            mesh.server().add_service(app.service()).run(asked).await.map_err(|e| failed(&e))
        }
        Service::Inventory => {
            let app = shop_inventory::App::build(shop_inventory::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let serving = mesh.server().add_service(app.service()).run(asked);
            beside(keep_swept(app.db(), &**mesh.clock()), serving).await.map_err(|e| failed(&e))
        }
        Service::Payment => {
            let app = shop_payment::App::build(shop_payment::Config::from_env()).await.map_err(|e| store(&e))?;
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let serving = mesh.server().add_service(app.service()).run(asked);
            beside(keep_swept(app.db(), &**mesh.clock()), serving).await.map_err(|e| failed(&e))
        }
        Service::Order => {
            let mesh = mesh.start().await.map_err(|e| failed(&e))?;
            let deps = Deps::new(GrpcInventory::new(mesh.channel("inventory")), GrpcPayments::new(mesh.channel("payment")));
            let app = shop_order::App::build(shop_order::Config::from_env(), deps).await.map_err(|e| store(&e))?;
            let server = mesh.server().add_service(app.service()).add_admin_service(app.admin_service());
            // Sagas go on while the last calls finish; what is then under way goes to the other replica.
            let hand_over = CancellationToken::new();
            let serving = async {
                let served = server.run(asked).await;
                hand_over.cancel();
                served
            };
            let (served, ()) = tokio::join!(serving, app.run(hand_over.clone()));
            served.map_err(|e| failed(&e))
        }
    }
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

/// Serves, with upkeep that ends when the server has.
async fn beside<T, U>(upkeep: impl Future<Output = U>, serving: impl Future<Output = T>) -> T {
    let upkeep = async {
        upkeep.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        served = serving => served,
        never = upkeep => never,
    }
}

fn store(error: &dyn std::error::Error) -> Exit {
    Exit::unavailable(chain(error))
}
