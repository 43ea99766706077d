//! The registry, as the commands that look at a running system reach it.

use crate::exit::{Exit, chain};
use sinew_client::{Channel, Client, Config, Ports};
use sinew_consul::{Consul, Instance, Service, Settings};
use sinew_core::{Endpoint, FixedList, Health, Policies, ServiceName};
use std::sync::Arc;

/// Which registry.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Where {
    /// Consul's HTTP API: host:port or a URL.
    #[arg(long = "consul", env = "CONSUL_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8500")]
    address: String,
}

/// A registry and a way to call what it lists.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    consul: Consul,
}

impl Where {
    /// Makes the client; nothing is asked yet.
    pub(crate) fn open(&self) -> Result<Registry, Exit> {
        Registry::at(&self.address)
    }
}

impl Registry {
    /// The registry at this address; all other settings are those of Consul's own variables.
    pub(crate) fn at(address: &str) -> Result<Self, Exit> {
        let lookup = |name: &str| if name == "CONSUL_HTTP_ADDR" { Some(address.to_owned()) } else { std::env::var(name).ok() };
        let settings = Settings::from_lookup(lookup).map_err(|e| Exit::usage(chain(&e)))?;
        let consul = Consul::new(settings).map_err(|e| Exit::usage(chain(&e)))?;
        Ok(Self { consul })
    }

    /// Everything it lists, its own servers left out.
    pub(crate) async fn services(&self) -> Result<Vec<Service>, Exit> {
        let mut services = self.consul.services().await.map_err(|e| {
            let address = self.consul.address();
            Exit::unavailable(format!("Consul at {address} (CONSUL_HTTP_ADDR) cannot be asked: {}", chain(&e)))
        })?;
        services.retain(|service| service.name != "consul");
        Ok(services)
    }

    /// A channel to the admin ports of a service's passing instances: all of them tell the same of what they share.
    pub(crate) async fn admin(&self, service: &str) -> Result<Channel, Exit> {
        let services = self.services().await?;
        let endpoints = services.iter().find(|s| s.name == service).map(admin_endpoints).unwrap_or_default();
        if endpoints.is_empty() {
            return Err(Exit::unavailable(format!("no passing instance of {service} is registered with an admin port")));
        }
        direct(service, endpoints)
    }

    /// A channel to a service of the mesh.
    pub(crate) fn channel(&self, service: &str) -> Result<Channel, Exit> {
        let policies = Policies::resolve(contracts::POLICIES).map_err(|e| Exit::no(chain(&e)))?;
        channel(Ports::real(Arc::new(self.consul.clone())), policies, service)
    }
}

/// The admin ports of the instances that pass.
pub(crate) fn admin_endpoints(service: &Service) -> Vec<Endpoint> {
    let admin = |instance: &Instance| {
        let Endpoint { id, host, health, meta, .. } = &instance.endpoint;
        let port = meta.get("admin-port")?.parse().ok()?;
        (*health == Health::Passing).then(|| Endpoint::new(id, host, port))
    };
    service.instances.iter().filter_map(admin).collect()
}

/// A channel to endpoints that are in no registry: admin ports.
pub(crate) fn direct(name: &str, endpoints: Vec<Endpoint>) -> Result<Channel, Exit> {
    let list = FixedList::new();
    list.set(&service_name(name)?, endpoints);
    channel(Ports::real(Arc::new(list)), Policies::default(), name)
}

fn channel(ports: Ports, policies: Policies, service: &str) -> Result<Channel, Exit> {
    let client = Client::new(ports, Config::default(), Arc::new(policies)).map_err(|e| Exit::no(chain(&e)))?;
    Ok(client.channel(&service_name(service)?))
}

fn service_name(name: &str) -> Result<ServiceName, Exit> {
    ServiceName::new(name).map_err(|e| Exit::usage(chain(&e)))
}
