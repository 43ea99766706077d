//! Whom `bench channel` compares Sinew with: whose client process that is, what it is told, and what runs beside it.

use crate::{
    call::Peer,
    channel::{Server, name},
    peers::{
        self,
        envoy::{self, Envoy},
    },
};
use clap::ValueEnum;
use std::{ffi::OsString, net::SocketAddr, process::Command};

/// What Sinew is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Against {
    /// `tonic::transport::Channel::balance_list`.
    Tonic,
    /// A bare `tonic::transport::Channel` to one endpoint.
    Single,
    /// A bare channel to an Envoy beside the client, which balances over an Envoy beside the server.
    Envoy,
    /// `grpc::client::Channel` of the `grpc` crate, to one endpoint: its round robin cannot be had from outside.
    Grpc,
    /// `tonic_xds::XdsChannelGrpc`, which learns of the endpoints from a management server beside the server.
    TonicXds,
}

impl Against {
    /// Whether its channel balances.
    pub(crate) fn balances(self) -> bool {
        !matches!(self, Self::Single | Self::Grpc)
    }
}

/// The client process of one side.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) program: OsString,
    /// Whose channel, as the program calls it.
    pub(crate) peer: String,
    /// What it is told of where the endpoints are.
    pub(crate) directions: Vec<String>,
}

impl Side {
    /// Sinew's, which looks in the registry if there is one.
    pub(crate) fn sinew(endpoints: &str, registry: Option<&str>) -> anyhow::Result<Self> {
        let mut side = Self::here(Peer::Sinew, endpoints)?;
        side.directions.extend(registry.into_iter().flat_map(|registry| ["--registry".to_owned(), registry.to_owned()]));
        Ok(side)
    }

    /// This program's, over the channel of one of those it knows.
    pub(crate) fn here(peer: Peer, endpoints: &str) -> anyhow::Result<Self> {
        Ok(Self::of(std::env::current_exe()?.into(), &name(peer), endpoints))
    }

    fn of(program: OsString, peer: &str, endpoints: &str) -> Self {
        Self { program, peer: peer.to_owned(), directions: vec!["--endpoints".to_owned(), endpoints.to_owned()] }
    }
}

/// The other one.
#[derive(Debug)]
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) sidecars: Vec<Envoy>,
    _management: Option<Server>,
}

impl Rival {
    /// Against these endpoints of a server that has the first of two cores; the client will have the second.
    pub(crate) async fn start(against: Against, endpoints: &str, core: usize) -> anyhow::Result<Self> {
        let alone = |name, side| Self { name, side, sidecars: Vec::new(), _management: None };
        Ok(match against {
            Against::Tonic => alone("tonic::transport::Channel::balance_list", Side::here(Peer::Tonic, endpoints)?),
            Against::Single => alone("tonic::transport::Channel", Side::here(Peer::Single, endpoints)?),
            Against::Envoy => {
                let servers = endpoints.split(',').map(|at| Ok(vec![at.parse::<SocketAddr>()?]));
                let servers = servers.collect::<anyhow::Result<Vec<_>>>()?;
                let theirs = Envoy::start(&servers, envoy::Side::Server, Some(core)).await?;
                let behind = (0..servers.len()).map(|n| theirs.address(n)).collect::<anyhow::Result<Vec<_>>>()?;
                let ours = Envoy::start(&[behind], envoy::Side::Client, Some(core + 1)).await?;
                let side = Side::here(Peer::Single, &ours.address(0)?.to_string())?;
                Self { sidecars: vec![ours, theirs], ..alone("a pair of Envoys", side) }
            }
            Against::Grpc => alone("grpc::client::Channel", Side::of(peers::program()?, "grpc", endpoints)),
            Against::TonicXds => {
                let program = peers::program()?;
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(&program).args(["manage", "--endpoints", endpoints]);
                let management = Server::of(&mut command)?;
                let side = Side::of(program, "tonic-xds", &management.endpoints);
                Self { _management: Some(management), ..alone("tonic_xds::XdsChannelGrpc", side) }
            }
        })
    }
}
