//! What goes on over several hops: how a fault at the end multiplies, and how a caller that is gone ends the work.

#![allow(missing_debug_implementations, clippy::unwrap_used, clippy::expect_used)]

use sinew::{Channel, Endpoint, FixedList, Mesh, ServiceName, ServicePolicy};
use sinew_core::{Access, Idempotency, MethodKind, policy::GrpcService, policy::Method};
use sinew_proto::admin::v1::{
    GetInfoRequest, GetInfoResponse, ListDestinationsRequest, ListDestinationsResponse,
    admin_service_client::AdminServiceClient,
    admin_service_server::{AdminService, AdminServiceServer},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Response, Status};

const LIMIT: Duration = Duration::from_secs(30);

const METHODS: &[Method] = &[Method {
    path: "/sinew.admin.v1.AdminService/GetInfo",
    kind: MethodKind::Unary,
    idempotency: Idempotency::NoSideEffects,
    access: Access::Internal,
}];
/// Each hop repeats what fails up to three times. Breakers stay out of it: what is asked is what retries do by themselves.
const CONFIG: &str = r#"{"methodConfig":[{"name":[{"service":"sinew.admin.v1.AdminService"}],"retryPolicy":{"maxAttempts":3,
    "initialBackoff":"0.001s","maxBackoff":"0.001s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}],
    "sinewCircuitBreaker":{"consecutiveFailures":255,"openTime":"0.001s"}}"#;

/// The policy of a hop: all of them serve the same gRPC service, so each process knows the next one only.
fn policy(name: &'static str) -> ServicePolicy {
    let services = vec![GrpcService { name: "sinew.admin.v1.AdminService", methods: METHODS }].leak();
    ServicePolicy { name, services, service_config: CONFIG }
}

/// Calls the next hop, or does what the last one does.
#[derive(Clone)]
struct Hop {
    next: Option<Channel>,
    calls: Arc<AtomicUsize>,
    /// Where a handler that never answers says that it was dropped; without it the last one fails.
    dropped: Option<mpsc::UnboundedSender<Instant>>,
}

struct Dropped(mpsc::UnboundedSender<Instant>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

#[tonic::async_trait]
impl AdminService for Hop {
    async fn get_info(&self, request: Request<GetInfoRequest>) -> Result<Response<GetInfoResponse>, Status> {
        self.calls.fetch_add(1, Relaxed);
        let _dropped = self.dropped.clone().map(Dropped);
        match &self.next {
            Some(next) => AdminServiceClient::new(next.clone()).get_info(request.into_inner()).await,
            None if self.dropped.is_some() => std::future::pending().await,
            None => Err(Status::unavailable("it always fails")),
        }
    }
    async fn list_destinations(&self, _: Request<ListDestinationsRequest>) -> Result<Response<ListDestinationsResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A chain of services, each of which calls the next.
struct Chain {
    /// To the first.
    client: AdminServiceClient<Channel>,
    /// In the order of the calls.
    hops: Vec<Hop>,
    _meshes: Vec<Mesh>,
    _stops: Vec<oneshot::Sender<()>>,
    _serving: JoinSet<()>,
}

impl Chain {
    /// Three of them, on real connections.
    async fn of_three(dropped: Option<mpsc::UnboundedSender<Instant>>) -> Self {
        let (mut meshes, mut stops, mut serving, mut hops) = (Vec::new(), Vec::new(), JoinSet::new(), Vec::new());
        let mut next: Option<(&'static str, u16)> = None;
        for name in ["third", "second", "first"] {
            let (mesh, channel) = Self::caller(name, next).await;
            let hop = Hop { next: channel, calls: Arc::default(), dropped: dropped.clone() };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            next = Some((name, listener.local_addr().unwrap().port()));
            let (stop, stopped) = oneshot::channel::<()>();
            let server = mesh.server().add_service(AdminServiceServer::new(hop.clone()));
            serving.spawn(async move { server.run_on(listener, async { drop(stopped.await) }).await.unwrap() });
            meshes.push(mesh);
            stops.push(stop);
            hops.insert(0, hop);
        }
        let (mesh, channel) = Self::caller("client", next).await;
        meshes.push(mesh);
        let client = AdminServiceClient::new(channel.expect("to the first"));
        Self { client, hops, _meshes: meshes, _stops: stops, _serving: serving }
    }

    /// A process that calls the next one, if there is one.
    async fn caller(name: &'static str, next: Option<(&'static str, u16)>) -> (Mesh, Option<Channel>) {
        let list = FixedList::new();
        let policies = [policy(next.map_or("nobody", |(next, _)| next))];
        if let Some((next, port)) = next {
            list.set(&ServiceName::new(next).unwrap(), vec![Endpoint::new(next, "127.0.0.1", port)]);
        }
        let mesh = Mesh::builder(name).policies(&policies).discover(Arc::new(list)).start().await.unwrap();
        let channel = next.map(|(next, _)| mesh.channel(next));
        (mesh, channel)
    }

    fn calls(&self) -> Vec<usize> {
        self.hops.iter().map(|hop| hop.calls.load(Relaxed)).collect()
    }
}

#[tokio::test]
async fn a_service_that_always_fails_at_the_end_of_three_hops_gets_little_more_than_its_load() {
    // Fewer failures than the breakers above take.
    const CALLS: usize = 200;
    let start = Instant::now();
    let mut chain = Chain::of_three(None).await;
    for _ in 0..CALLS {
        let status = timeout(LIMIT, chain.client.get_info(GetInfoRequest {})).await.unwrap().expect_err("the last one fails");
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "it always fails"));
    }
    // A tenth of the calls, ten a second where that is less, and the ten that a budget begins with.
    let (calls, seconds) = (chain.calls(), start.elapsed().as_secs_f64().ceil() as usize);
    let most = CALLS + CALLS / 10 + 10 * seconds + 10;
    assert_eq!(calls[..2], [CALLS, CALLS], "only the layer next to the fault repeats: {calls:?}");
    assert!((CALLS + CALLS / 20..=most).contains(&calls[2]), "{calls:?} in {seconds} s");
}

#[tokio::test]
async fn work_ends_on_every_hop_when_the_caller_is_gone() {
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let chain = Chain::of_three(Some(dropped)).await;
    let mut took = Vec::new();
    for round in 1..=20 {
        let mut client = chain.client.clone();
        let call = async move { client.get_info(GetInfoRequest {}).await };
        {
            let mut call = Box::pin(call);
            let arrived = async {
                while chain.calls()[2] < round {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                answer = &mut call => panic!("the last one answers nobody, and somebody did: {answer:?}"),
                () = arrived => {}
            }
        }
        let gone = Instant::now();
        for _ in 0..3 {
            let at = timeout(LIMIT, drops.recv()).await.expect("a handler still works for nobody").unwrap();
            took.push(at.saturating_duration_since(gone));
        }
    }
    // A machine that is busy with other tests may be late, but not each time.
    took.sort_unstable();
    assert!(took[took.len() * 3 / 4] < Duration::from_millis(50), "after their callers were gone: {took:?}");
}
