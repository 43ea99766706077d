//! A gateway on a free port, a backend that remembers what it saw, tokens, and plain HTTP clients.

use bytes::Bytes;
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::{Value, json};
use sinew::{FixedKeys, Jwk, JwkSet, TokenRules, Verifier};
use sinew_core::{BoxFuture, Policies, ServiceName};
use sinew_gateway::{Backend, Builder, Classes, Gateway};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::SystemTime,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{Status, body::Body};

/// What a call looked like behind the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
    pub(crate) trailers: Option<HeaderMap>,
    /// The message, without its frame.
    pub(crate) message: Bytes,
}

impl Seen {
    /// The request as JSON, zero values left out.
    pub(crate) fn json(&self) -> Value {
        let input = method(&self.uri).input();
        serde_json::to_value(DynamicMessage::decode(input, self.message.clone()).expect("the request's type")).expect("JSON")
    }
}

type Respond = dyn Fn(&Seen) -> Result<Value, Status> + Send + Sync;

/// Answers every call with what the test says; an empty message until it says something.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    respond: Arc<Mutex<Arc<Respond>>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self { seen: Arc::default(), respond: Arc::new(Mutex::new(Arc::new(|_: &Seen| Ok(json!({}))))) }
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    pub(crate) fn respond(&self, with: impl Fn(&Seen) -> Result<Value, Status> + Send + Sync + 'static) {
        *self.respond.lock().unwrap() = Arc::new(with);
    }
    /// The calls since the last time this was asked.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl Backend for Fake {
    fn call(&self, service: &ServiceName, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let (fake, service) = (self.clone(), service.to_string());
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            let frame = body.to_bytes();
            let message = frame.slice(5.min(frame.len())..);
            let seen = Seen { service, uri: parts.uri.to_string(), headers: parts.headers, trailers, message };
            fake.seen.lock().unwrap().push(seen.clone());
            let respond = fake.respond.lock().unwrap().clone();
            let answer = respond(&seen)?;
            let message = DynamicMessage::deserialize(method(&seen.uri).output(), answer).expect("the answer's type");
            Ok(grpc_answer(framed(&message.encode_to_vec())))
        })
    }
}

/// An answer of one frame and OK.
pub(crate) fn grpc_answer(frame: Bytes) -> Response<Body> {
    let ok = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))]);
    let body = Full::new(frame).with_trailers(async move { Some(Ok(ok)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    response
}

pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame.into()
}

pub(crate) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(contracts::DESCRIPTORS).expect("descriptors"));

pub(crate) fn method(path: &str) -> prost_reflect::MethodDescriptor {
    let (service, name) = path.trim_start_matches('/').split_once('/').expect("a gRPC path");
    let service = POOL.get_service_by_name(service).expect("a known service");
    service.methods().find(|m| m.name() == name).expect("a known method")
}

/// HTTP method and path of a method's annotation, its variables filled in.
pub(crate) fn rest(method: &MethodDescriptor) -> Option<(Method, String)> {
    let extension = POOL.get_extension_by_name("google.api.http").expect("annotations");
    let options = method.options();
    let rule = options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())?;
    let rule: &DynamicMessage = rule.as_message()?;
    ["get", "put", "post", "delete", "patch"].into_iter().find_map(|name| {
        let path = rule.get_field_by_name(name)?.as_str().filter(|p| !p.is_empty())?.to_owned();
        let filled = path.split('/').map(|s| match s.split_once('}') {
            Some((_, verb)) => format!("id{verb}"),
            None => s.to_owned(),
        });
        Some((name.to_uppercase().parse().ok()?, filled.collect::<Vec<_>>().join("/")))
    })
}

pub(crate) fn policies() -> Arc<Policies> {
    Arc::new(Policies::resolve(contracts::POLICIES).expect("policies"))
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub(crate) fn jwks() -> JwkSet {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let x = URL_SAFE_NO_PAD.encode(key().verifying_key().as_bytes());
    let text = |t: &str| t.to_owned();
    JwkSet {
        keys: vec![Jwk { kty: text("OKP"), crv: text("Ed25519"), x, kid: text("k1"), alg: text("EdDSA"), usage: text("sig") }],
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens live in real time")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// A good token.
pub(crate) fn token(subject: &str, role: &str) -> String {
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some("k1".into());
    let claims = json!({"sub": subject, "role": role, "iss": "sinew", "aud": "sinew", "exp": now() + 900});
    let key = EncodingKey::from_ed_der(key().to_pkcs8_der().unwrap().as_bytes());
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap())
}

pub(crate) fn user() -> String {
    token("u1", "customer")
}

pub(crate) fn admin() -> String {
    token("root", "admin")
}

/// A gateway under test; ends when dropped.
pub(crate) struct Edge {
    pub(crate) address: SocketAddr,
    pub(crate) fake: Fake,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// The shop's contracts before the fake, without rate limits.
pub(crate) async fn edge() -> Edge {
    edge_with(|builder| builder).await
}

pub(crate) async fn edge_with(change: impl FnOnce(Builder) -> Builder) -> Edge {
    let fake = Fake::default();
    let verifier = Arc::new(Verifier::new(Arc::new(FixedKeys(jwks())), &TokenRules::default()));
    let builder = Gateway::builder(policies(), fake.clone()).descriptors(contracts::DESCRIPTORS).verifier(verifier);
    let unlimited = sinew_gateway::GatewaySettings {
        classes: Classes { anonymous: None, user: None, admin: None, load: None },
        ..sinew_gateway::GatewaySettings::default()
    };
    serve(change(builder.settings(&unlimited)), fake).await
}

pub(crate) async fn serve(builder: Builder, fake: Fake) -> Edge {
    let gateway = builder.build().expect("the contracts are sound");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(gateway.run(listener, async move {
        let _ = stopped.await;
    }));
    Edge { address, fake, stop: Some(stop), running }
}

/// An answer over HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
    /// The problem, checked to be one.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16());
        for member in ["type", "title", "detail", "code", "instance"] {
            assert!(problem[member].is_string(), "{member}: {problem}");
        }
        let id = self.header("x-request-id").expect("every answer has its id");
        assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
        problem
    }
}

impl Edge {
    /// Begins the drain and waits for its end.
    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().map(|s| s.send(()));
        (&mut self.running).await.expect("no panic");
    }

    pub(crate) fn begin_stop(&mut self) {
        let _ = self.stop.take().map(|s| s.send(()));
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let response = client.send_request(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        driver.abort();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A request with headers; a body is JSON unless they say otherwise.
    pub(crate) async fn http(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let body = body.into();
        let mut request = Request::builder().method(method).uri(path).header("host", "shop.test");
        if !body.is_empty() && !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::new(body)).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        let headers: Vec<_> = token.map(|t| ("authorization", t)).into_iter().collect();
        self.http(Method::GET, path, &headers, "").await
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: impl Into<Bytes>) -> Answer {
        let headers: Vec<_> = token.map(|t| ("authorization", t)).into_iter().collect();
        self.http(Method::POST, path, &headers, body).await
    }

    /// An HTTP/2 connection; the task drives it.
    pub(crate) async fn http2(&self) -> (http2::SendRequest<Body>, JoinHandle<()>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        (client, tokio::spawn(async { drop(connection.await) }))
    }

    /// A unary gRPC call: its status, response headers and message.
    pub(crate) async fn grpc(&self, path: &str, headers: &[(&str, &str)], message: &[u8]) -> (Status, HeaderMap, Bytes) {
        let (mut client, driver) = self.http2().await;
        let request = grpc_request(path, headers, Body::new(Full::new(framed(message))));
        let response = client.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        driver.abort();
        let status = Status::from_header_map(&parts.headers).or_else(|| Status::from_header_map(body.trailers()?));
        let frame = body.to_bytes();
        (status.expect("a status"), parts.headers, frame.slice(5.min(frame.len())..))
    }
}

pub(crate) fn grpc_request(path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request =
        Request::post(format!("http://shop.test{path}")).header("content-type", "application/grpc").header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}
