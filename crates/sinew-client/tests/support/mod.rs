//! A network of memory, servers that do as they are told, and calls on them.

mod server;

pub(crate) use server::{Server, answer, pause, read, status};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt, Full};
use sinew_client::{Channel, Client, Config, ConnectionState, EndpointStatus, Ports, ResponseBody};
use sinew_core::{
    Access, BoxFuture, BoxIo, Connector, Endpoint, FixedList, Idempotency, MethodKind, Policies, ServiceName, SharedRng,
    SystemClock,
    policy::{GrpcService, Method, ServicePolicy},
};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tonic::Status;
use tower_service::Service;

pub(crate) const GET: &str = "/t.T/Get";
pub(crate) const PUT: &str = "/t.T/Put";
pub(crate) const WATCH: &str = "/t.T/Watch";
pub(crate) const CHAT: &str = "/t.T/Chat";

const fn method(path: &'static str, kind: MethodKind, idempotency: Idempotency) -> Method {
    Method { path, kind, idempotency, access: Access::Internal }
}

const METHODS: &[Method] = &[
    method(GET, MethodKind::Unary, Idempotency::NoSideEffects),
    method(PUT, MethodKind::Unary, Idempotency::Unknown),
    method(WATCH, MethodKind::ServerStreaming, Idempotency::NoSideEffects),
    method(CHAT, MethodKind::Bidirectional, Idempotency::NoSideEffects),
];

/// Retries on UNAVAILABLE for what may be repeated.
pub(crate) const RETRY: &str = r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s",
    "maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;

/// Endpoints by port; a port nobody serves refuses.
#[derive(Debug, Default)]
pub(crate) struct Network {
    servers: Mutex<BTreeMap<u16, Server>>,
    pub(crate) dials: AtomicUsize,
}

impl Network {
    pub(crate) fn serve(&self, port: u16, server: &Server) {
        self.servers.lock().expect("unpoisoned").insert(port, server.clone());
    }

    pub(crate) fn refuse(&self, port: u16) {
        self.servers.lock().expect("unpoisoned").remove(&port);
    }
}

impl Connector for Network {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        self.dials.fetch_add(1, Relaxed);
        let server = self.servers.lock().expect("unpoisoned").get(&endpoint.port).cloned();
        Box::pin(async move {
            let server = server.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok(server.accept())
        })
    }
}

/// One service `t` and a client of it.
pub(crate) struct World {
    pub(crate) network: Arc<Network>,
    pub(crate) list: Arc<FixedList>,
    pub(crate) client: Client,
    pub(crate) channel: Channel,
}

impl World {
    /// Servers on ports 1, 2, … with default settings and no service config.
    pub(crate) fn of(servers: &[&Server]) -> Self {
        Self::with(servers, Config::default(), "{}")
    }

    pub(crate) fn with(servers: &[&Server], config: Config, service_config: &'static str) -> Self {
        let (network, list) = (Arc::new(Network::default()), Arc::new(FixedList::new()));
        for (port, server) in (1..).zip(servers) {
            network.serve(port, server);
        }
        list.set(&t(), (1..=servers.len() as u16).map(endpoint).collect());
        let service = GrpcService { name: "t.T", methods: METHODS };
        let services = vec![service].leak();
        let policies = Policies::resolve(&[ServicePolicy { name: "t", services, service_config }]).expect("valid");
        let ports = Ports {
            discover: list.clone(),
            connector: Some(network.clone()),
            rng: Arc::new(SharedRng::seeded(1)),
            clock: Arc::new(SystemClock),
        };
        let client = Client::new(ports, config, Arc::new(policies)).expect("valid");
        let channel = client.channel(&t());
        Self { network, list, client, channel }
    }

    /// Calls with one message; the answer's message.
    pub(crate) async fn call(&self, path: &str, message: &'static [u8]) -> Result<Bytes, Status> {
        self.call_with(path, message, HeaderMap::new()).await
    }

    pub(crate) async fn call_with(&self, path: &str, message: &'static [u8], headers: HeaderMap) -> Result<Bytes, Status> {
        let mut request = http::Request::post(path).body(Full::new(Bytes::from_static(message))).expect("valid");
        *request.headers_mut() = headers;
        finish(self.channel.clone().call(request).await?).await
    }

    pub(crate) fn endpoints(&self) -> Vec<EndpointStatus> {
        self.client.describe().remove(0).endpoints
    }

    /// Waits for this many ready endpoints.
    pub(crate) async fn ready(&self, count: usize) {
        let ready = || self.endpoints().iter().filter(|e| e.connection == ConnectionState::Ready).count();
        wait_for(|| ready() == count, || format!("{count} ready of {:?}", self.endpoints())).await;
    }
}

pub(crate) fn t() -> ServiceName {
    ServiceName::new("t").expect("valid")
}

pub(crate) fn endpoint(port: u16) -> Endpoint {
    Endpoint::new(&format!("t-{port}"), "memory", port)
}

/// Reads an answer to its end.
pub(crate) async fn finish(response: http::Response<ResponseBody>) -> Result<Bytes, Status> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await?;
    let headers = collected.trailers().cloned().unwrap_or(parts.headers);
    match Status::from_header_map(&headers) {
        Some(status) if status.code() == tonic::Code::Ok => Ok(collected.to_bytes()),
        Some(status) => Err(status),
        None => Err(Status::unknown("no status")),
    }
}

/// Waits up to a minute for a condition.
pub(crate) async fn wait_for(condition: impl Fn() -> bool, describe: impl Fn() -> String) {
    let wait = async {
        while !condition() {
            // sleeps: polls the condition, with a limit
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), wait).await.is_err() {
        panic!("never came: {}", describe());
    }
}
