//! The whole catalogue, for people who look at it.

use crate::{
    answer::HealthEntry,
    api::{Api, ApiError, WAIT},
};
use sinew_core::Endpoint;

/// A service and its instances.
#[derive(Debug, Clone)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its instances, in order of id.
    pub instances: Vec<Instance>,
}

/// One instance with what its checks say.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Address, health, weight, zone and meta.
    pub endpoint: Endpoint,
    /// Its checks and those of its node.
    pub checks: Vec<CheckResult>,
}

/// One check's latest word.
#[derive(Debug, Clone)]
pub struct CheckResult {
    /// Its id.
    pub id: String,
    /// `passing`, `warning` or `critical`.
    pub status: String,
    /// What it said.
    pub output: String,
}

pub(crate) async fn services(api: &Api) -> Result<Vec<Service>, ApiError> {
    let mut names: Vec<_> = api.services().await?.into_keys().collect();
    names.sort();
    let mut services = Vec::with_capacity(names.len());
    for name in names {
        let (entries, _) = api.health(&name, 0, WAIT, false).await?;
        let mut instances: Vec<_> = entries.into_iter().map(instance).collect();
        instances.sort_by(|a, b| a.endpoint.id.cmp(&b.endpoint.id));
        services.push(Service { name, instances });
    }
    Ok(services)
}

fn instance(mut entry: HealthEntry) -> Instance {
    let health = entry.health();
    let checks = std::mem::take(&mut entry.checks);
    let checks = checks.into_iter().map(|c| CheckResult { id: c.check_id, status: c.status, output: c.output }).collect();
    Instance { endpoint: entry.into_endpoint_with(health), checks }
}
