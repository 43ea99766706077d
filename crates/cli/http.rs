//! JSON over HTTP, as the commands that go through the gateway speak it.

use crate::exit::{Exit, chain};
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;
use std::{fmt, time::Duration};
use tokio::time::timeout;

/// Largest answer that is read: the gateway's own bound is smaller.
const ANSWER: usize = 16 << 20;

/// Connections that are kept for the next request are closed after this long, sooner than the gateway would.
const IDLE: Duration = Duration::from_secs(10);

/// A pooled client of one gateway.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    base: Uri,
    client: Client<HttpConnector, Full<Bytes>>,
    patience: Duration,
}

/// A request about to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    pub(crate) bearer: Option<&'a str>,
    /// `Idempotency-Key`.
    pub(crate) key: Option<&'a str>,
    /// Further headers.
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Option<&'a Value>,
}

/// What came back, whatever its status.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Null when the body was empty or no JSON.
    pub(crate) json: Value,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The request cannot be made of what was given.
    #[error("no request can be made")]
    Request(#[from] http::Error),
    /// Nobody answers there, or the connection broke.
    #[error("no answer")]
    Connection(#[source] hyper_util::client::legacy::Error),
    /// The answer broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl<'a> Ask<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, bearer: None, key: None, headers: &[], body: None }
    }

    pub(crate) fn post(path: &'a str, body: &'a Value) -> Self {
        Self { method: Method::POST, body: Some(body), ..Self::get(path) }
    }

    pub(crate) fn bearer(self, token: &'a str) -> Self {
        Self { bearer: Some(token), ..self }
    }

    pub(crate) fn key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }
}

impl Http {
    /// Of the gateway at `http://host:port`; requests that take longer than `patience` are given up.
    pub(crate) fn new(gateway: &str, patience: Duration) -> Result<Self, Exit> {
        let wrong = || Exit::usage(format!("{gateway:?} is no gateway; write http://host:port"));
        let base: Uri = gateway.trim_end_matches('/').parse().map_err(|_| wrong())?;
        if base.scheme_str() != Some("http") || base.authority().is_none() || base.path() != "/" {
            return Err(wrong());
        }
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            // The gateway is told of every attempt that may have had an effect: repeating is the caller's to decide.
            .retry_canceled_requests(false)
            .build(connector);
        Ok(Self { base, client, patience })
    }

    /// Sends one request.
    ///
    /// # Cancel safety
    ///
    /// A dropped request may have had its effect.
    pub(crate) async fn send(&self, ask: Ask<'_>) -> Result<Answer, HttpError> {
        match timeout(self.patience, self.exchange(ask)).await {
            Ok(done) => done,
            Err(_) => Err(HttpError::Late(self.patience)),
        }
    }

    /// Sends one request, whose answer must be a good one.
    pub(crate) async fn expect(&self, ask: Ask<'_>) -> Result<Value, Exit> {
        let (method, path) = (ask.method.clone(), ask.path.to_owned());
        let answer = self.send(ask).await.map_err(|e| self.unreachable(&e))?;
        if answer.status.is_success() {
            return Ok(answer.json);
        }
        let text = format!("{method} {path}: {answer}");
        Err(if answer.status.is_server_error() { Exit::unavailable(text) } else { Exit::no(text) })
    }

    /// The gateway does not answer.
    pub(crate) fn unreachable(&self, error: &HttpError) -> Exit {
        Exit::unavailable(format!("the gateway at {} cannot be reached (--gateway): {}", self.base, chain(error)))
    }

    async fn exchange(&self, ask: Ask<'_>) -> Result<Answer, HttpError> {
        let authority = self.base.authority().map(ToString::to_string).unwrap_or_default();
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query(ask.path).build()?;
        let mut request = Request::builder().method(ask.method).uri(uri);
        if let Some(token) = ask.bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = ask.key {
            request = request.header("idempotency-key", key);
        }
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let body = match ask.body {
            Some(json) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Bytes::from(json.to_string())
            }
            None => Bytes::new(),
        };
        let response = self.client.request(request.body(Full::new(body))?).await.map_err(HttpError::Connection)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, ANSWER).collect().await.map_err(|e| HttpError::Broken(e.to_string()))?.to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or_default();
        Ok(Answer { status: parts.status, json })
    }
}

/// A problem (RFC 9457) in one line; the bare status of what is none.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(detail) = self.json["detail"].as_str().or(self.json["title"].as_str()) {
            write!(f, ": {detail}")?;
        }
        for violation in self.json["errors"].as_array().into_iter().flatten() {
            write!(f, "; {violation}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_gateway_is_refused() {
        let second = Duration::from_secs(1);
        assert!(Http::new("http://127.0.0.1:8080/", second).is_ok());
        for bad in ["127.0.0.1:8080", "https://a", "http://", "http://a/path", "a b"] {
            assert_eq!(Http::new(bad, second).unwrap_err().code(), 64, "{bad}");
        }
    }

    #[test]
    fn a_problem_is_told_in_one_line() {
        let json = serde_json::json!({ "title": "Bad Request", "detail": "2 fields are wrong" });
        let answer = Answer { status: StatusCode::BAD_REQUEST, json };
        assert_eq!(answer.to_string(), "400 Bad Request: 2 fields are wrong");
    }
}
