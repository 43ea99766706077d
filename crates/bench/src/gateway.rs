//! Requests to a gateway, as a load generator sends them.

use anyhow::Context;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::time::Duration;
use tokio::time::timeout;

/// A request that takes longer counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Gateway {
    client: Client<HttpConnector, Full<Bytes>>,
    base: Uri,
    load_key: String,
}

/// What is sent beside method, path and body.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct With<'a> {
    pub(crate) token: Option<&'a str>,
    pub(crate) idempotency_key: Option<&'a str>,
}

impl Gateway {
    /// `load_key` is what lifts the rate limit, which would hide the load.
    pub(crate) fn new(base: Uri, load_key: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector), base, load_key: load_key.to_owned() }
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        with: With<'_>,
        body: String,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let authority = self.base.authority().context("the gateway's address has no host")?.as_str();
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build()?;
        let mut request = Request::builder().method(method).uri(uri).header("x-sinew-load-key", &self.load_key);
        if let Some(token) = with.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = with.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            let (parts, body) = self.client.request(request).await?.into_parts();
            anyhow::Ok((parts.status, body.collect().await?.to_bytes()))
        };
        timeout(PATIENCE, exchange).await?
    }
}
