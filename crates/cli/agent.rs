//! `sinew agent`: the embedded registry alone, for those who start services themselves.

use crate::{
    exit::{Exit, chain},
    shutdown::Signals,
};
use sinew_consul_embedded::Agent;
use std::{io::ErrorKind, net::SocketAddr};

/// Runs the embedded registry alone: the part of Consul's HTTP API that the mesh uses, on this machine only.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where its API listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8500")]
    listen: SocketAddr,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    sinew_telemetry::init_logs().map_err(|e| Exit::usage(chain(&e)))?;
    let mut signals = Signals::new()?;
    let _agent = embed(args.listen, "--listen").await?;
    tracing::info!("the embedded registry listens on {}", args.listen);
    signals.next().await;
    Ok(())
}

/// Starts the registry in this process; it ends with the value. `flag` says where else it could listen.
pub(crate) async fn embed(listen: SocketAddr, flag: &str) -> Result<Agent, Exit> {
    Agent::builder().bind(listen).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Exit::unavailable(format!(
            "port {} is taken: give the registry another with {flag}; a Consul that listens there is used when CONSUL_HTTP_ADDR \
             names it",
            listen.port(),
        )),
        _ => Exit::unavailable(format!("the registry cannot listen on {listen} ({flag}): {error}")),
    })
}
