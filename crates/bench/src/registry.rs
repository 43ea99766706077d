//! Where the client process finds the endpoints: in Consul, through the mesh's own watch, or in a list.

use crate::echo::NAME;
use anyhow::{Context, ensure};
use sinew_consul::{Consul, Settings};
use sinew_core::{Discover, Endpoint, FixedList, Register, Registered, Registration, ServiceName, Standing};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::timeout;

/// The registry is there before the benchmark is.
const REGISTER: Duration = Duration::from_secs(10);

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
        let endpoint = consul.register(registration);
        let mut standing = endpoint.standing();
        let taken = timeout(REGISTER, standing.wait_for(|s| *s == Standing::Registered)).await.is_ok_and(|seen| seen.is_ok());
        ensure!(taken, "{at} is not registered within {REGISTER:?}: {:?}", standing.borrow());
        registered.push(endpoint);
    }
    Ok(registered)
}
