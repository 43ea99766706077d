//! The calls we make, for consulrs' transport: it has none of `/v1/health`, and wrong types for registration.

use crate::answer::{AgentCheck, AgentSelf, HealthEntry};
use consulrs::api::{Features, features::FeaturedEndpoint};
use rustify_derive::Endpoint;
use std::collections::HashMap;

#[derive(Debug, Endpoint)]
#[endpoint(path = "health/service/{self.service}", response = "Vec<HealthEntry>")]
pub(crate) struct HealthService {
    #[endpoint(skip)]
    pub service: String,
    #[endpoint(skip)]
    pub features: Option<Features>,
    #[endpoint(query)]
    pub passing: Option<bool>,
    #[endpoint(query)]
    pub dc: Option<String>,
    #[endpoint(query)]
    pub ns: Option<String>,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "catalog/services", response = "HashMap<String, Vec<String>>")]
pub(crate) struct CatalogServices {
    #[endpoint(query)]
    pub dc: Option<String>,
    #[endpoint(query)]
    pub ns: Option<String>,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/self", response = "AgentSelf")]
pub(crate) struct GetSelf {}

#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/checks", response = "HashMap<String, AgentCheck>")]
pub(crate) struct AgentChecks {
    #[endpoint(query)]
    pub ns: Option<String>,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/{self.id}", response = "serde_json::Value")]
pub(crate) struct AgentService {
    #[endpoint(skip)]
    pub id: String,
    #[endpoint(query)]
    pub ns: Option<String>,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/register", method = "PUT")]
pub(crate) struct PutService {
    #[endpoint(raw)]
    pub body: Vec<u8>,
    #[endpoint(query)]
    pub ns: Option<String>,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/deregister/{self.id}", method = "PUT")]
pub(crate) struct Deregister {
    #[endpoint(skip)]
    pub id: String,
    #[endpoint(query)]
    pub ns: Option<String>,
}

#[derive(Debug, Endpoint)]
#[endpoint(path = "agent/service/maintenance/{self.id}", method = "PUT")]
pub(crate) struct Maintenance {
    #[endpoint(skip)]
    pub id: String,
    #[endpoint(query)]
    pub enable: bool,
    #[endpoint(query)]
    pub reason: String,
    #[endpoint(query)]
    pub ns: Option<String>,
}

impl FeaturedEndpoint for HealthService {
    fn features(&self) -> Option<Features> {
        self.features.clone()
    }
}

macro_rules! no_features {
    ($($t:ty),*) => { $(impl FeaturedEndpoint for $t { fn features(&self) -> Option<Features> { None } })* };
}
no_features!(CatalogServices, GetSelf, AgentChecks, AgentService, PutService, Deregister, Maintenance);
