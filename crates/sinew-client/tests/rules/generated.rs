//! A generated tonic client on a channel, over real TCP to real servers that are killed and started again.

use crate::support::wait_for;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use sinew_client::{Client, Config, ConnectionState, Ports};
use sinew_core::{
    Access, Endpoint, FixedList, Idempotency, MethodKind, Policies, ServiceName,
    policy::{GrpcService, Method, ServicePolicy},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::{net::TcpListener, task::JoinSet};
use tonic::service::Routes;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

const CHECK: Method = Method {
    path: "/grpc.health.v1.Health/Check",
    kind: MethodKind::Unary,
    idempotency: Idempotency::NoSideEffects,
    access: Access::Internal,
};
const POLICY: ServicePolicy = ServicePolicy {
    name: "health",
    services: &[GrpcService { name: "grpc.health.v1.Health", methods: &[CHECK] }],
    service_config: r#"{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.02s",
        "maxBackoff":"1s","backoffMultiplier":3,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#,
};

/// Serves the health service; dropping the returned set kills it as `kill -9` does: sockets close, nobody says goodbye.
async fn serve(port: u16) -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (_reporter, health) = tonic_health::server::health_reporter();
        let service = TowerToHyperService::new(Routes::new(health).prepare());
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            connections.spawn(serving.serve_connection(TokioIo::new(stream), service.clone()));
        }
    });
    (port, tasks)
}

fn client(ports: &[u16]) -> (Client, ServiceName) {
    let service = ServiceName::new("health").expect("valid");
    let list = FixedList::new();
    list.set(&service, ports.iter().map(|port| Endpoint::new(&format!("health-{port}"), "127.0.0.1", *port)).collect());
    let policies = Policies::resolve(&[POLICY]).expect("valid");
    (Client::new(Ports::real(Arc::new(list)), Config::default(), Arc::new(policies)).expect("valid"), service)
}

#[tokio::test]
async fn unary_and_streaming_calls() {
    let (port, _server) = serve(0).await;
    let (client, service) = client(&[port]);
    let mut health = HealthClient::new(client.channel(&service));
    let answer = health.check(HealthCheckRequest::default()).await.expect("serving");
    assert_eq!(answer.get_ref().status(), ServingStatus::Serving);
    let mut watch = health.watch(HealthCheckRequest::default()).await.expect("headers").into_inner();
    assert_eq!(watch.message().await.expect("OK").map(|m| m.status()), Some(ServingStatus::Serving));
    let missing = health.check(HealthCheckRequest { service: "nobody".into() }).await.expect_err("unknown service");
    assert_eq!(missing.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn killing_and_restarting_one_of_three_fails_no_call_that_may_be_repeated() {
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(serve(0).await);
    }
    let (client, service) = client(&servers.iter().map(|s| s.0).collect::<Vec<_>>());
    let channel = client.channel(&service);
    let ready = || client.describe()[0].endpoints.iter().filter(|e| e.connection == ConnectionState::Ready).count();
    wait_for(|| ready() == 3, || format!("{:?}", client.describe())).await;
    let (made, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (mut health, made, stop) = (HealthClient::new(channel.clone()), made.clone(), stop.clone());
        callers.spawn(async move {
            while stop.load(Relaxed) == 0 {
                health.check(HealthCheckRequest::default()).await.expect("no call fails");
                made.fetch_add(1, Relaxed);
            }
        });
    }
    for round in 0..6 {
        let progress = made.load(Relaxed) + 200;
        wait_for(|| made.load(Relaxed) >= progress || !callers.is_empty() && callers.len() < 8, || "calls are made".into()).await;
        let (port, server) = servers.remove(0);
        drop(server);
        wait_for(|| ready() == 2, || format!("round {round}: {:?}", client.describe())).await;
        servers.push(serve(port).await);
        wait_for(|| ready() == 3, || format!("round {round}: {:?}", client.describe())).await;
    }
    stop.store(1, Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
}
