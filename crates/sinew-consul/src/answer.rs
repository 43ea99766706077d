//! Consul's answers as far as we read them. Readers are tolerant: fields come and go with its versions.

use serde::{Deserialize, Deserializer};
use sinew_core::{Endpoint, Health};
use std::collections::BTreeMap;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthEntry {
    pub node: Node,
    pub service: ServiceEntry,
    #[serde(default, deserialize_with = "nullable")]
    pub checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(default)]
    pub address: String,
    #[serde(default, deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ServiceEntry {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub port: u16,
    #[serde(default, deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    #[serde(default)]
    pub weights: Weights,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Weights {
    pub passing: u16,
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    #[serde(rename = "CheckID", default)]
    pub check_id: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub output: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentCheck {
    #[serde(default)]
    pub notes: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentSelf {
    pub config: AgentConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentConfig {
    pub version: String,
    #[serde(default)]
    pub node_name: String,
    #[serde(default)]
    pub datacenter: String,
}

/// Consul writes empty lists and maps as `null`.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

impl HealthEntry {
    /// The worst of its checks, those of its node included. A status we do not know counts as failing.
    pub(crate) fn health(&self) -> Health {
        let of = |check: &Check| match check.status.as_str() {
            "passing" => Health::Passing,
            "warning" => Health::Warning,
            _ => Health::Critical,
        };
        self.checks.iter().map(of).max().unwrap_or(Health::Passing)
    }

    pub(crate) fn into_endpoint(self) -> Endpoint {
        let health = self.health();
        self.into_endpoint_with(health)
    }

    /// The same with a health found before its checks were taken.
    pub(crate) fn into_endpoint_with(self, health: Health) -> Endpoint {
        let Self { node, service, .. } = self;
        let weight = if health == Health::Warning { service.weights.warning } else { service.weights.passing };
        let zone = service.meta.get("zone").or_else(|| node.meta.get("zone")).map(|z| z.as_str().into());
        // One that cannot be read stands by: a word for a number must not make it the first.
        let priority = service.meta.get("priority").map_or(0, |priority| priority.parse().unwrap_or(u8::MAX));
        let host = if service.address.is_empty() { node.address } else { service.address };
        Endpoint {
            id: service.id.into(),
            host: host.into(),
            port: service.port,
            weight: weight.max(1),
            health,
            priority,
            zone,
            meta: service.meta,
        }
    }
}
