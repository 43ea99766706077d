//! The channel of `tonic-xds`, as its builder makes it: endpoints, route and retries come from a management server.

use crate::management::LISTENER;
use std::net::SocketAddr;
use tonic_xds::{BootstrapConfig, ChannelCredentialType, XdsChannelBuilder, XdsChannelConfig, XdsChannelGrpc, XdsUri};

pub(crate) fn channel(management: SocketAddr) -> anyhow::Result<XdsChannelGrpc> {
    let bootstrap = BootstrapConfig::builder(format!("http://{management}"));
    let bootstrap = bootstrap.channel_creds([ChannelCredentialType::Insecure]).node_id("bench").build()?;
    let target = XdsUri::parse(&format!("xds:///{LISTENER}"))?;
    Ok(XdsChannelBuilder::new(XdsChannelConfig::new(target).with_bootstrap(bootstrap)).build_grpc_channel()?)
}
