//! The keys that verify tokens, from the rpc that publishes them.

use crate::{
    backend::Backend,
    headers,
    routes::Binding,
    transcode::{Input, Key, Transcode},
    unary,
};
use http::HeaderMap;
use sinew::{JwkSet, KeyError, KeySource};
use sinew_core::BoxFuture;
use std::sync::Arc;

/// Where a key set is published (RFC 8615 leaves the name to its users; this is what most do).
pub(crate) const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Asks the service whose rpc is annotated with `GET /.well-known/jwks.json`.
#[derive(Debug)]
pub(crate) struct PublishedKeys {
    pub(crate) binding: Arc<Binding>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) transcode: Arc<dyn Transcode>,
    pub(crate) limit: usize,
}

impl KeySource for PublishedKeys {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        Box::pin(async move {
            let error = |reason: String| KeyError { origin: self.binding.method.service.to_string(), reason };
            let input = Input { segments: &[], query: "", body: &[], key: Key::Minted("") };
            let frame = self.transcode.request(&self.binding, &input).map_err(|e| error(e.detail))?;
            let headers = headers::from_rest(&HeaderMap::new(), None, &[]);
            let answer = unary::call(&*self.backend, &self.binding.method, headers, frame, self.limit).await;
            let answer = answer.map_err(|status| error(status.to_string()))?;
            let answer = self.transcode.response(&self.binding, answer).map_err(|e| error(e.to_string()))?;
            serde_json::from_slice(&answer.json).map_err(|e| error(e.to_string()))
        })
    }
}
