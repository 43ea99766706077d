//! `sinew up`: the whole system on this machine, from one command.
//!
//! ```text
//!  data directory ─ registry ─ administrator ─ children ─ all passing ─ products ─ "ready" ─ … ─ signal ─ gateway, order,
//!  then the rest, drain
//! ```
//!
//! Every service is a process of its own, so that it can be killed, replaced and looked at like anywhere else. Whatever
//! goes wrong before "ready" takes everything down again.

mod child;
mod crew;
mod data;
mod plan;

use crate::{
    agent, demo,
    exit::{Exit, chain},
    http::Http,
    output::{self, Format},
    registry::Registry,
    run::database_url,
    shutdown::Signals,
};
use crew::Crew;
use data::DataDir;
use serde::Serialize;
use sinew_consul::Service;
use sinew_consul_embedded::Agent;
use sinew_core::Health;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;

/// Starts take a second or two; whoever waits longer than this waits in vain.
const START: Duration = Duration::from_secs(60);

/// Checking a password is slow on purpose, and everything has only just started.
const PATIENCE: Duration = Duration::from_secs(30);

/// Often enough that nobody sees the difference.
const POLL: Duration = Duration::from_millis(50);

/// Runs the whole system on this machine, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where everything is kept; made if need be, and used by one `sinew up` at a time.
    #[arg(long, env = "SINEW_DATA_DIR", default_value = crate::DEFAULT_DATA_DIR)]
    data_dir: PathBuf,

    /// Processes of each service.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=32))]
    replicas: u16,

    /// Port of the embedded registry. With CONSUL_HTTP_ADDR set, that Consul is used and none is embedded.
    #[arg(long, default_value_t = 8500)]
    consul_port: u16,

    /// Address of the gateway: REST and gRPC.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)))]
    gateway_addr: SocketAddr,

    /// Address that services listen on: 0.0.0.0 when Consul runs in a container and must reach them.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,

    /// Host by which others, Consul's health checks included, reach the services; needed with a wildcard --bind.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,

    /// How to write what runs where.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    let started = Instant::now();
    sinew_telemetry::init_logs().map_err(|e| Exit::usage(chain(&e)))?;
    let mut signals = Signals::new()?;
    if args.bind.is_unspecified() && args.advertise.is_none() {
        return Err(Exit::usage(format!("others cannot reach {}: give the host to be reached by with --advertise", args.bind)));
    }
    let database_url = database_url()?;
    plan::check(database_url.as_deref())?;
    let data = DataDir::claim(&args.data_dir)?;
    free(args.gateway_addr).await?;
    let (address, _embedded) = registry(&args).await?;
    let registry = Registry::at(&address)?;
    // Also shows, before anything is started, that the registry answers.
    registry.services().await?;

    let slots = plan::slots(&args, &data, &address, database_url.as_deref())?;
    let (admin, new) = demo::Admin::ensure(data.path(), plan::user_store(&data, database_url.as_deref())).await?;
    let mut crew = Crew::start(slots);
    let ready = async {
        tokio::select! {
            biased;
            fallen = crew.fallen() => Err(fallen),
            passing = all_passing(&registry, &crew) => passing,
        }
    };
    let ready = tokio::select! {
        biased;
        () = signals.next() => Ok(None),
        ready = ready => ready.map(Some),
    };
    let services = match ready {
        Ok(Some(services)) => services,
        Ok(None) => {
            crew.leave().await;
            return Ok(());
        }
        Err(exit) => {
            crew.leave().await;
            return Err(exit);
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    let gateway = format!("http://{}", args.gateway_addr);
    let stocked = match Http::new(&gateway, PATIENCE) {
        Ok(http) => demo::stock(&http, &admin).await,
        Err(exit) => Err(exit),
    };
    let shown = stocked.and_then(|product| {
        if new && args.output == Format::Text {
            output::write(&format!("Administrator  {}  password  {}   (told once)\n\n", admin.email, admin.password))?;
        }
        show(&args, &data, &address, &services, seconds, &product)
    });
    if shown.is_ok() {
        signals.next().await;
    }
    tracing::info!("draining; a second Ctrl-C does not wait");
    tokio::select! {
        biased;
        () = crew.leave() => {}
        () = signals.next() => {}
    }
    shown
}

/// Finds a taken port before anything is started.
async fn free(gateway: SocketAddr) -> Result<(), Exit> {
    match tokio::net::TcpListener::bind(gateway).await {
        Ok(_) => Ok(()),
        Err(e) => {
            Err(Exit::unavailable(format!("the gateway cannot listen on {gateway}: {e}; give another address with --gateway-addr")))
        }
    }
}

/// The Consul that is configured, or one of our own.
async fn registry(args: &Args) -> Result<(String, Option<Agent>), Exit> {
    match std::env::var("CONSUL_HTTP_ADDR") {
        Ok(address) if !address.is_empty() => Ok((address, None)),
        _ => {
            let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.consul_port));
            let agent = agent::embed(listen, "--consul-port").await?;
            Ok((listen.to_string(), Some(agent)))
        }
    }
}

/// Waits until the registry lists every child as passing.
async fn all_passing(registry: &Registry, crew: &Crew) -> Result<Vec<Service>, Exit> {
    let deadline = Instant::now() + START;
    loop {
        let services = registry.services().await?;
        let passing = |instance: &str| {
            let mut all = services.iter().flat_map(|s| &s.instances);
            all.any(|i| &*i.endpoint.id == instance && i.endpoint.health == Health::Passing)
        };
        let missing: Vec<_> = crew.instances().filter(|instance| !passing(instance)).collect();
        if missing.is_empty() {
            return Ok(services);
        }
        if Instant::now() >= deadline {
            return Err(Exit::unavailable(format!("not passing within {START:?}: {}; see their logs", missing.join(", "))));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What runs where.
#[derive(Debug, Serialize)]
struct Running<'a> {
    ready_seconds: f64,
    gateway: SocketAddr,
    consul: &'a str,
    data_dir: &'a Path,
    instances: Vec<Place>,
}

#[derive(Debug, Serialize)]
struct Place {
    service: String,
    instance: String,
    address: String,
}

fn show(args: &Args, data: &DataDir, consul: &str, services: &[Service], seconds: f64, product: &str) -> Result<(), Exit> {
    let place = |service: &Service, endpoint: &sinew_core::Endpoint| Place {
        service: service.name.clone(),
        instance: endpoint.id.to_string(),
        address: SocketAddr::new(args.bind, endpoint.port).to_string(),
    };
    let ours = services.iter().filter(|s| plan::TIERS.iter().any(|tier| tier.contains(&s.name.as_str())));
    let instances: Vec<_> = ours.flat_map(|s| s.instances.iter().map(|i| place(s, &i.endpoint))).collect();
    let gateway = args.gateway_addr;
    let running = Running { ready_seconds: (seconds * 10.0).round() / 10.0, gateway, consul, data_dir: data.path(), instances };
    args.output.print(&running, &["service", "instance", "address"], |running| {
        running.instances.iter().map(|p| vec![p.service.clone(), p.instance.clone(), p.address.clone()]).collect()
    })?;
    if args.output == Format::Text {
        output::write(&tour(args, data, consul, product))?;
    }
    eprintln!("ready in {seconds:.1} s");
    Ok(())
}

/// Three commands to try, exactly as they work from here.
fn tour(args: &Args, data: &DataDir, consul: &str, product: &str) -> String {
    let sinew = std::env::args().next().unwrap_or_else(|| "sinew".to_owned());
    let at_consul = if consul == "127.0.0.1:8500" { String::new() } else { format!(" --consul {consul}") };
    let default = args.data_dir.as_path() == Path::new(crate::DEFAULT_DATA_DIR);
    let in_data = if default { String::new() } else { format!(" --data-dir {}", data.path().display()) };
    let gateway = args.gateway_addr;
    let at_gateway = if gateway.port() == 8080 { String::new() } else { format!(" --gateway http://{gateway}") };
    format!(
        "\ngateway       http://{gateway}\nConsul's API  http://{consul}\nlogs          {}\n\nTry:\n  \
         curl http://{gateway}/api/v1/products\n  \
         curl -H \"authorization: Bearer $({sinew} login{at_gateway}{in_data})\" -H 'content-type: application/json' \\\n    \
         -d '{{\"lines\":[{{\"product_id\":\"{product}\",\"quantity\":1}}],\"payment_token\":\"tok_ok\"}}' http://{gateway}/api/v1/orders\n  \
         grpcurl -plaintext {gateway} list\n  \
         {sinew} services{at_consul}\n\nCtrl-C drains and ends everything.\n",
        data.path().join("logs").display(),
    )
}
