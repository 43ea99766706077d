//! One agent's HTTP API: two clients with time-outs, and typed calls.

use crate::{
    Settings,
    answer::{AgentCheck, AgentSelf, HealthEntry},
    endpoints as e,
};
use consulrs::{
    api::{self, Features, features::Blocking},
    client::{ConsulClient, ConsulClientSettings},
    error::ClientError,
};
use std::{collections::HashMap, time::Duration};

/// How long a blocked query may wait. A cancelled one holds its connection slot in the agent until then, and an agent
/// has 200: short waits are what keeps a restarting fleet from locking itself out.
pub(crate) const WAIT: Duration = Duration::from_secs(20);
/// A loopback agent answers in milliseconds.
const CONNECT: Duration = Duration::from_secs(2);
/// An agent without a leader holds queries for up to 7 s; past that it is as good as gone.
const QUICK: Duration = Duration::from_secs(8);

/// A call to the agent that failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It answered with an error.
    #[error("{code}: {message}")]
    Answered {
        /// HTTP status.
        code: u16,
        /// Its own words.
        message: String,
    },
    /// It did not answer, or nothing that could be read.
    #[error("no usable answer")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ApiError {
    /// Whether the agent heard us and said no, so that asking again helps only when somebody has changed something. One that
    /// cannot be reached, is busy (408, 429) or in trouble (5xx) has not said no.
    pub fn refuses(&self) -> bool {
        matches!(self, Self::Answered { code: 400..=499, .. }) && !matches!(self, Self::Answered { code: 408 | 429, .. })
    }

    /// What the agent said; our own words where it said nothing.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Answered { message, .. } if !message.is_empty() => message.clone(),
            other => other.to_string(),
        }
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::APIError { code, message } => {
                Self::Answered { code, message: message.unwrap_or_default().trim().to_owned() }
            }
            other => Self::Unusable(Box::new(other)),
        }
    }
}

pub(crate) struct Api {
    quick: ConsulClient,
    blocking: ConsulClient,
    settings: Settings,
}

impl Api {
    pub(crate) fn new(settings: Settings) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        // Consul adds up to a sixteenth of the wait; the rest is for the way.
        let blocking = WAIT * 17 / 16 + Duration::from_secs(5);
        Ok(Self { quick: client(&settings, QUICK)?, blocking: client(&settings, blocking)?, settings })
    }

    pub(crate) fn address(&self) -> &str {
        &self.settings.address
    }

    /// Instances of a service; `index` 0 answers at once, another blocks until the state is past it or `wait` ends.
    pub(crate) async fn health(
        &self,
        service: &str,
        index: u64,
        wait: Duration,
        passing: bool,
    ) -> Result<(Vec<HealthEntry>, u64), ApiError> {
        let blocking = (index > 0).then(|| Blocking { index, wait: Some(format!("{}ms", wait.as_millis())) });
        let call = e::HealthService {
            service: service.to_owned(),
            features: blocking.map(|b| Features { blocking: Some(b), ..Features::default() }),
            passing: passing.then_some(true),
            dc: self.settings.datacenter.clone(),
            ns: self.ns(),
        };
        let client = if index > 0 { &self.blocking } else { &self.quick };
        let answer = api::exec_with_result(client, call).await?;
        let index = answer.index.as_deref().and_then(|i| i.parse().ok()).unwrap_or(0);
        Ok((answer.response, index))
    }

    pub(crate) async fn services(&self) -> Result<HashMap<String, Vec<String>>, ApiError> {
        let call = e::CatalogServices { dc: self.settings.datacenter.clone(), ns: self.ns() };
        Ok(api::exec_with_result(&self.quick, call).await?.response)
    }

    pub(crate) async fn agent(&self) -> Result<AgentSelf, ApiError> {
        Ok(api::exec_with_result(&self.quick, e::GetSelf {}).await?.response)
    }

    pub(crate) async fn agent_checks(&self) -> Result<HashMap<String, AgentCheck>, ApiError> {
        Ok(api::exec_with_result(&self.quick, e::AgentChecks { ns: self.ns() }).await?.response)
    }

    /// Whether the agent knows an instance.
    pub(crate) async fn knows(&self, id: &str) -> Result<bool, ApiError> {
        let call = e::AgentService { id: id.to_owned(), ns: self.ns() };
        match api::exec_with_result(&self.quick, call).await.map_err(ApiError::from) {
            Ok(_) => Ok(true),
            Err(ApiError::Answered { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn register(&self, body: Vec<u8>) -> Result<(), ApiError> {
        Ok(api::exec_with_empty(&self.quick, e::PutService { body, ns: self.ns() }).await.map(drop)?)
    }

    pub(crate) async fn deregister(&self, id: &str) -> Result<(), ApiError> {
        Ok(api::exec_with_empty(&self.quick, e::Deregister { id: id.to_owned(), ns: self.ns() }).await.map(drop)?)
    }

    pub(crate) async fn maintenance(&self, id: &str, enable: bool, reason: &str) -> Result<(), ApiError> {
        let call = e::Maintenance { id: id.to_owned(), enable, reason: reason.to_owned(), ns: self.ns() };
        Ok(api::exec_with_empty(&self.quick, call).await.map(drop)?)
    }

    fn ns(&self) -> Option<String> {
        self.settings.namespace.clone()
    }
}

fn client(settings: &Settings, total: Duration) -> Result<ConsulClient, Box<dyn std::error::Error + Send + Sync>> {
    let mut http = reqwest011::Client::builder().use_rustls_tls().connect_timeout(CONNECT).timeout(total).gzip(true).no_proxy();
    if let Some(ca) = &settings.ca {
        http = http.add_root_certificate(reqwest011::Certificate::from_pem(&std::fs::read(ca)?)?);
    }
    if let Some((cert, key)) = &settings.identity {
        let mut pem = std::fs::read(cert)?;
        pem.extend(std::fs::read(key)?);
        http = http.identity(reqwest011::Identity::from_pem(&pem)?);
    }
    http = http.danger_accept_invalid_certs(!settings.verify);
    Ok(ConsulClient {
        http: rustify::clients::reqwest::Client::new(&settings.address, http.build()?),
        settings: ConsulClientSettings {
            address: settings.address.clone(),
            ca_certs: Vec::new(),
            client_cert: None,
            client_key: None,
            token: settings.token.clone(),
            verify: settings.verify,
            version: 1,
        },
    })
}
