//! Where the client process finds the endpoints: in Consul, through the mesh's own watch, or in a list.

use crate::echo::NAME;
use anyhow::Context;
use sinew_consul::{Consul, Settings};
use sinew_core::{Discover, Endpoint, FixedList, Register, Registered, Registration, ServiceName};
use std::{net::SocketAddr, sync::Arc};

/// The registry at this address (as in `CONSUL_HTTP_ADDR`).
pub(crate) fn consul(address: &str) -> anyhow::Result<Consul> {
    let settings = Settings::from_lookup(|name| (name == "CONSUL_HTTP_ADDR").then(|| address.to_owned()))?;
    Consul::new(settings).context("Consul's client")
}

/// Follows the registry, or else what the list says.
pub(crate) fn discover(registry: Option<&str>, list: &[SocketAddr]) -> anyhow::Result<Arc<dyn Discover>> {
    if let Some(address) = registry {
        return Ok(Arc::new(consul(address)?));
    }
    let fixed = FixedList::new();
    let endpoints = list.iter().enumerate();
    let endpoints = endpoints.map(|(n, at)| Endpoint::new(&format!("echo-{n}"), &at.ip().to_string(), at.port())).collect();
    fixed.set(&ServiceName::new(NAME)?, endpoints);
    Ok(Arc::new(fixed))
}

/// Registers every endpoint, with its health checked at `check`; they stay registered until withdrawn.
pub(crate) async fn register(consul: &Consul, list: &[SocketAddr], check: SocketAddr) -> anyhow::Result<Vec<Box<dyn Registered>>> {
    let mut registered = Vec::new();
    for (n, at) in list.iter().enumerate() {
        let registration = Registration {
            service: ServiceName::new(NAME)?,
            id: format!("echo-{n}"),
            host: at.ip().to_string(),
            port: at.port(),
            check: Some(check),
            tags: Vec::new(),
            meta: Default::default(),
        };
        registered.push(consul.register(registration).await?);
    }
    Ok(registered)
}
