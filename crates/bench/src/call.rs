//! A client process over our channel, or one of tonic's.

use crate::{
    drive::Load,
    echo::{EchoClient, NAME, POLICY},
    registry,
    serve::{CONNECTION_WINDOW, STREAM_WINDOW},
};
use anyhow::Context;
use clap::ValueEnum;
use sinew_client::{Client, Config, Ports};
use sinew_core::{Policies, ServiceName};
use std::{net::SocketAddr, sync::Arc};
use tonic::transport::{Channel, Endpoint as TonicEndpoint};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    peer: Peer,
    #[arg(long, value_delimiter = ',')]
    endpoints: Vec<SocketAddr>,
    /// Sinew finds them in the Consul at this address instead.
    #[arg(long)]
    registry: Option<String>,
    #[command(flatten)]
    load: Load,
}

/// Whose channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// `sinew_client::Channel`.
    Sinew,
    /// `tonic::transport::Channel::balance_list`.
    Tonic,
    /// A bare `tonic::transport::Channel`, to the first endpoint.
    Single,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    args.load.block_on(async {
        match args.peer {
            Peer::Sinew => {
                let client = sinew(args)?;
                args.load.drive(EchoClient::new(client.channel(&ServiceName::new(NAME)?))).await
            }
            Peer::Tonic => args.load.drive(EchoClient::new(tonic(&args.endpoints)?)).await,
            Peer::Single => {
                let endpoint = args.endpoints.first().context("no endpoint")?;
                args.load.drive(EchoClient::new(single(*endpoint)?)).await
            }
        }
    })
}

/// As shipped: default settings, breaker, deadline, retries and statistics on.
fn sinew(args: &Args) -> anyhow::Result<Client> {
    let policies = Policies::resolve(&[POLICY])?;
    let discover = registry::discover(args.registry.as_deref(), &args.endpoints)?;
    Ok(Client::new(Ports::real(discover), Config::default(), Arc::new(policies))?)
}

pub(crate) fn tonic(endpoints: &[SocketAddr]) -> anyhow::Result<Channel> {
    let endpoints = endpoints.iter().map(|at| endpoint(*at)).collect::<Result<Vec<_>, _>>()?;
    Ok(Channel::balance_list(endpoints.into_iter()))
}

/// A channel to one endpoint, which connects with its first call.
pub(crate) fn single(endpoint: SocketAddr) -> anyhow::Result<Channel> {
    Ok(self::endpoint(endpoint)?.connect_lazy())
}

fn endpoint(at: SocketAddr) -> anyhow::Result<TonicEndpoint> {
    let endpoint = TonicEndpoint::from_shared(format!("http://{at}"))?.tcp_nodelay(true);
    Ok(endpoint.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW))
}
