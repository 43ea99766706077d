//! A server with one small service, and everything around it.

use futures_util::{StreamExt, stream, stream::BoxStream};
use sinew_core::{
    Access, BoxFuture, Context, Idempotency, MethodKind, Policies, Register, RegisterError, Registered, Registration, ServiceName,
    Standing,
    policy::{GrpcService, Method, ServicePolicy},
};
use sinew_proto::{
    admin::v1::{
        GetInfoRequest, GetInfoResponse, ListDestinationsRequest, ListDestinationsResponse,
        admin_service_server::{AdminService, AdminServiceServer},
    },
    events::v1::{
        GetLagRequest, GetLagResponse, SnapshotRequest, SnapshotResponse, SubscribeRequest, SubscribeResponse,
        events_service_server::{EventsService, EventsServiceServer},
    },
};
use sinew_server::{Claims, Config, Draining, Error, Gate, Identity, Listener, Server};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tonic::{Request, Response, Status, transport::Channel};

pub const GET_INFO: &str = "/sinew.admin.v1.AdminService/GetInfo";
pub const LIMIT: Duration = Duration::from_secs(10);

const fn method(path: &'static str, kind: MethodKind, access: Access) -> Method {
    Method { path, kind, idempotency: Idempotency::NoSideEffects, access }
}

/// The contracts say INTERNAL of all of these; here each rule has a method.
pub const POLICY: ServicePolicy = ServicePolicy {
    name: "test",
    service_config: "{}",
    services: &[
        GrpcService {
            name: "sinew.admin.v1.AdminService",
            methods: &[
                method("/sinew.admin.v1.AdminService/GetInfo", MethodKind::Unary, Access::Public),
                method("/sinew.admin.v1.AdminService/ListDestinations", MethodKind::Unary, Access::User),
            ],
        },
        GrpcService {
            name: "sinew.events.v1.EventsService",
            methods: &[
                method("/sinew.events.v1.EventsService/Subscribe", MethodKind::ServerStreaming, Access::Internal),
                method("/sinew.events.v1.EventsService/Snapshot", MethodKind::Unary, Access::Admin),
                method("/sinew.events.v1.EventsService/GetLag", MethodKind::Unary, Access::Internal),
            ],
        },
    ],
};

/// What the handlers do and have seen.
#[derive(Clone, Default)]
pub struct Handlers {
    /// Calls that wait until they are let go.
    pub waiting: Arc<AtomicUsize>,
    pub let_go: Arc<Notify>,
    /// One worker.
    pub worker: Arc<tokio::sync::Mutex<()>>,
    /// Handlers that were dropped before they were let go.
    pub dropped: Arc<AtomicUsize>,
    pub context: Arc<Mutex<Context>>,
    pub claims: Arc<Mutex<Option<Claims>>>,
}

struct Waiting<'a>(&'a Handlers, bool);
impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
        if !self.1 {
            self.0.dropped.fetch_add(1, SeqCst);
        }
    }
}

#[tonic::async_trait]
impl AdminService for Handlers {
    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        *self.claims.lock().unwrap() = request.extensions().get().cloned();
        *self.context.lock().unwrap() = Context::current();
        match request.metadata().get("do").and_then(|v| v.to_str().ok()) {
            Some("panic") => panic!("asked for"),
            Some("wait") => {
                self.waiting.fetch_add(1, SeqCst);
                let mut guard = Waiting(self, false);
                self.let_go.notified().await;
                guard.1 = true;
            }
            Some("work") => {
                let _worker = self.worker.lock().await;
                // sleeps: it is what work takes; nobody waits for it to have passed.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            _ => {}
        }
        Ok(Response::new(GetInfoResponse { service: "test".into(), ..GetInfoResponse::default() }))
    }

    async fn list_destinations(
        &self,
        request: Request<ListDestinationsRequest>,
    ) -> Result<Response<ListDestinationsResponse>, Status> {
        *self.claims.lock().unwrap() = request.extensions().get().cloned();
        Ok(Response::new(ListDestinationsResponse::default()))
    }
}

type Stream = BoxStream<'static, Result<SubscribeResponse, Status>>;

#[tonic::async_trait]
impl EventsService for Handlers {
    type SubscribeStream = Stream;
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<Stream>, Status> {
        let (context, panic) = (self.context.clone(), request.metadata().contains_key("panic"));
        let draining: Draining = request.extensions().get().cloned().expect("put there by the server");
        let first = stream::iter([Ok(SubscribeResponse::default())]);
        // What runs while the stream is sent.
        let second = stream::once(async move {
            *context.lock().unwrap() = Context::current();
            assert!(!panic, "asked for");
            Ok(SubscribeResponse::default())
        });
        let end = stream::once(async move {
            draining.begun().await;
            Err(Status::unavailable("somewhere else, please"))
        });
        Ok(Response::new(first.chain(second).chain(end).boxed()))
    }
    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<SnapshotResponse>, Status> {
        Ok(Response::new(SnapshotResponse::default()))
    }
    async fn get_lag(&self, _: Request<GetLagRequest>) -> Result<Response<GetLagResponse>, Status> {
        Ok(Response::new(GetLagResponse::default()))
    }
}

/// Writes down what it is asked, and takes an instance as soon as it is asked to.
#[derive(Debug, Clone, Default)]
pub struct FakeRegistry {
    pub log: Arc<Mutex<Vec<String>>>,
    pub registration: Arc<Mutex<Option<Registration>>>,
    /// What it says, as long as it is not told to say something else.
    pub standing: watch::Sender<Standing>,
    /// It takes nothing by itself.
    pub away: bool,
}

impl FakeRegistry {
    /// One that does not take anything until its `standing` is set.
    pub fn away() -> Self {
        Self { away: true, ..Self::default() }
    }

    /// What it says when it refuses.
    pub fn refusal() -> Standing {
        Standing::Refused(RegisterError { registry: "fake".into(), id: "test-0".into(), reason: "no".into() })
    }
}

impl Register for FakeRegistry {
    fn register(&self, registration: Registration) -> Box<dyn Registered> {
        self.log.lock().unwrap().push("register".into());
        *self.registration.lock().unwrap() = Some(registration);
        if !self.away {
            self.standing.send_replace(Standing::Registered);
        }
        Box::new(self.clone())
    }
}

impl Registered for FakeRegistry {
    fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }
    fn drain(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.log.lock().unwrap().push("drain".into()) })
    }
    fn withdraw(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.log.lock().unwrap().push("withdraw".into()) })
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub handlers: Handlers,
    pub registry: FakeRegistry,
    pub shutdown: Arc<Notify>,
    pub gates: Vec<Gate>,
    pub standing: watch::Receiver<Standing>,
    pub task: JoinHandle<Result<(), Error>>,
}

pub fn config() -> Config {
    let identity = Identity {
        service: ServiceName::new("test").unwrap(),
        instance: "test-0".into(),
        version: "9.9.9".into(),
        advertise_host: None,
        advertise_port: None,
    };
    let mut config = Config::new(identity);
    config.policies = Arc::new(Policies::resolve(&[POLICY]).unwrap());
    config.limits.settle = Duration::from_millis(10);
    config
}

/// Starts and waits until it has registered.
pub async fn start(config: Config) -> Running {
    let running = launch(config, FakeRegistry::default(), TcpListener::bind("127.0.0.1:0").await.unwrap(), &[]);
    running.eventually("registered", || running.registry.registration.lock().unwrap().is_some()).await;
    running
}

/// Starts, with these gates closed.
pub fn launch(mut config: Config, registry: FakeRegistry, listener: impl Listener, gates: &[&'static str]) -> Running {
    let handlers = Handlers::default();
    config.register = Some(Arc::new(registry.clone()));
    let address = listener.local_addr().unwrap();
    let shutdown = Arc::new(Notify::new());
    let asked = shutdown.clone();
    let server = Server::new(config)
        .add_service(AdminServiceServer::new(handlers.clone()))
        .add_service(EventsServiceServer::new(handlers.clone()))
        .descriptors(sinew_proto::DESCRIPTORS);
    let gates = gates.iter().map(|name| server.readiness().gate(name)).collect();
    let standing = server.standing();
    let task = tokio::spawn(server.run_on(listener, async move { asked.notified().await }));
    Running { address, handlers, registry, shutdown, gates, standing, task }
}

/// A call without any of what clients do.
pub struct Bare {
    pub send: h2::client::SendRequest<bytes::Bytes>,
    pub answer: h2::client::ResponseFuture,
    _driver: JoinSet<()>,
}

impl Bare {
    /// The headers of the answer.
    pub async fn headers(self) -> http::HeaderMap {
        timeout(LIMIT, self.answer).await.expect("in time").unwrap().into_parts().0.headers
    }
}

impl Running {
    pub async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// Calls `GetInfo` on a connection of its own, by a client that does nothing but that: tonic's keeps deadlines itself.
    pub async fn bare(&self, headers: &[(&str, &str)]) -> Bare {
        let io = TcpStream::connect(self.address).await.unwrap();
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        let mut request = http::Request::post(format!("http://test{GET_INFO}"));
        for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(bytes::Bytes::from_static(&[0; 5]), true).unwrap();
        Bare { send, answer, _driver: driver }
    }

    pub fn log(&self) -> Vec<String> {
        self.registry.log.lock().unwrap().clone()
    }

    pub async fn ended(self) -> Result<(), Error> {
        timeout(LIMIT, self.task).await.expect("ends in time").unwrap()
    }

    pub async fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let wait = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        assert!(timeout(LIMIT, wait).await.is_ok(), "not within {LIMIT:?}: {what}; log {:?}", self.log());
    }
}
