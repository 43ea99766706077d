//! Somebody with a plain HTTP client.

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Nothing here takes long, a password check on a busy machine excepted.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client of one gateway.
pub(crate) struct Rest {
    gateway: String,
    http1: Client<HttpConnector, Full<Bytes>>,
    http2: Client<HttpConnector, Full<Bytes>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Rest {
    pub(crate) fn new(gateway: &str) -> Self {
        let http1 = Client::builder(TokioExecutor::new()).build_http();
        let http2 = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { gateway: gateway.to_owned(), http1, http2 }
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, token, "application/json", String::new()).await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, token, "application/json", body.to_string()).await
    }

    /// A request as it may come, right or wrong.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        content_type: &str,
        body: String,
    ) -> anyhow::Result<Answer> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        if !body.is_empty() {
            headers.push(("content-type", content_type));
        }
        self.exchange(method, path, &headers, body).await
    }

    /// A request with these headers.
    pub(crate) async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.gateway));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let exchange = async {
            let (parts, body) = self.http1.request(request.body(Full::new(Bytes::from(body)))?).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            let json = serde_json::from_slice(&body).unwrap_or_default();
            anyhow::Ok(Answer { status: parts.status, headers: parts.headers, json })
        };
        timeout(PATIENCE, exchange).await.with_context(|| format!("{path} is not answered"))?
    }

    /// The status code of a gRPC call with an empty message.
    pub(crate) async fn grpc(&self, path: &str, token: Option<&str>) -> anyhow::Result<i32> {
        let mut request = Request::post(format!("http://{}{path}", self.gateway));
        request = request.header("content-type", "application/grpc").header("te", "trailers");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let exchange = async {
            let empty = Full::new(Bytes::from_static(&[0; 5]));
            let (parts, body) = self.http2.request(request.body(empty)?).await?.into_parts();
            let trailers = body.collect().await?.trailers().cloned();
            let status = parts.headers.get("grpc-status").or_else(|| trailers.as_ref()?.get("grpc-status"));
            anyhow::Ok(status.context("a status")?.to_str()?.parse()?)
        };
        timeout(PATIENCE, exchange).await.with_context(|| format!("{path} is not answered"))?
    }

    /// A new user, logged in: id and token.
    pub(crate) async fn user(&self, email: &str) -> anyhow::Result<(String, String)> {
        let body = json!({ "email": email, "name": "Ada", "password": "correct horse" });
        let made = self.post("/api/v1/users", None, &body).await?;
        ensure!(made.status == StatusCode::CREATED, "{made:?}");
        let id = made.json["user"]["userId"].as_str().context("an id")?.to_owned();
        Ok((id, self.log_in(email, "correct horse").await?))
    }

    pub(crate) async fn log_in(&self, email: &str, password: &str) -> anyhow::Result<String> {
        let session = self.post("/api/v1/sessions", None, &json!({ "email": email, "password": password })).await?;
        ensure!(session.status == StatusCode::OK, "{session:?}");
        Ok(session.json["accessToken"].as_str().context("a token")?.to_owned())
    }

    /// The id of a product by its name.
    pub(crate) async fn product(&self, name: &str) -> anyhow::Result<String> {
        let listed = self.get("/api/v1/products", None).await?.json;
        let found = listed["products"].as_array().into_iter().flatten().find(|product| product["name"] == name);
        Ok(found.and_then(|product| product["productId"].as_str()).with_context(|| format!("no {name} in {listed}"))?.to_owned())
    }
}
