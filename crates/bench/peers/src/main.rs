//! Clients of other makers, driven as `bench call` drives ours: by the same source, over the same message, on the same
//! allocator. `cargo xtask bench channel --peer grpc` and `--peer tonic-xds` build this program and run it.

#[path = "../../src/drive.rs"]
mod drive;
#[path = "../../src/echo/client.rs"]
mod echo;
mod grpc;
mod management;
#[expect(dead_code, reason = "medians are of those who compare")]
#[path = "../../src/measure.rs"]
mod measure;
mod xds;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use drive::Load;
use echo::EchoClient;
use std::net::SocketAddr;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Clients of other makers, for `bench channel`")]
enum Args {
    /// A client process.
    Call(Call),
    /// The management server that `tonic-xds` learns its endpoints from.
    Manage(management::Args),
}

#[derive(Debug, clap::Args)]
struct Call {
    #[arg(long)]
    peer: Peer,
    /// The server's endpoint, or for `tonic-xds` the management server.
    #[arg(long)]
    endpoints: SocketAddr,
    #[command(flatten)]
    load: Load,
}

/// Whose channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// `grpc::client::Channel`.
    Grpc,
    /// `tonic_xds::XdsChannelGrpc`.
    TonicXds,
}

fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Call(Call { peer, endpoints, load }) => load.block_on(async {
            match peer {
                Peer::Grpc => load.drive(grpc::Client::new(endpoints)).await,
                Peer::TonicXds => load.drive(EchoClient::new(xds::channel(endpoints).context("tonic-xds")?)).await,
            }
        }),
        Args::Manage(args) => management::run(&args),
    }
}
