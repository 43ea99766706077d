//! From the first address to registration; what operators see.

use crate::harness::{FakeRegistry, LIMIT, config, launch, start};
use sinew_core::{ServiceName, Standing, stats::Registry};
use sinew_server::{Error, Server};
use std::sync::{Arc, atomic::Ordering::Relaxed};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    },
    v1alpha,
};

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

#[tokio::test]
async fn it_registers_what_it_is_and_serves() {
    let mut config = config();
    config.admin = Some(([127, 0, 0, 1], 0).into());
    config.metrics = Arc::new(|| "series 1\n".to_owned());
    let server = start(config).await;
    let registration = server.registry.registration.lock().unwrap().clone().unwrap();
    assert_eq!((registration.service.as_str(), registration.id.as_str()), ("test", "test-0"));
    assert_eq!((registration.host.as_str(), registration.port), ("127.0.0.1", server.address.port()));
    assert_eq!(registration.meta["version"], "9.9.9");
    assert_eq!(registration.meta["grpc-services"], "sinew.admin.v1.AdminService,sinew.events.v1.EventsService");

    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "sinew.admin.v1.AdminService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap();
        assert_eq!(answer.get_ref().status, SERVING, "{service}");
    }

    let port: u16 = registration.meta["admin-port"].parse().unwrap();
    assert!(get(port, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(port, "/readyz").await.ends_with("\r\n\r\nready\n"));
    let metrics = get(port, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.ends_with("series 1\n"), "{metrics}");
}

/// The whole answer of the admin port.
async fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn it_registers_only_when_ready_and_says_what_is_missing() {
    // The admin port is told to nobody before registration, so this one is chosen.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = config();
    config.admin = Some(free);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = launch(config, FakeRegistry::default(), listener, &["store", "keys"]);
    let mut health = HealthClient::new(server.channel().await);
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().get_ref().status, NOT_SERVING);
    let answer = get(free.port(), "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not ready: keys, store\n"), "{answer}");
    assert!(server.log().is_empty());

    server.gates[0].open();
    assert!(get(free.port(), "/readyz").await.ends_with("not ready: keys\n"));
    assert!(server.log().is_empty());
    server.gates[1].open();
    server.eventually("registered", || server.log() == ["register"]).await;
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().get_ref().status, SERVING);
}

#[tokio::test]
async fn a_registry_that_refuses_leaves_nothing_half_started() {
    let registry = FakeRegistry { standing: watch::Sender::new(FakeRegistry::refusal()), ..FakeRegistry::away() };
    let server = launch(config(), registry, TcpListener::bind("127.0.0.1:0").await.unwrap(), &[]);
    let (address, mut standing, registry) = (server.address, server.standing.clone(), server.registry.clone());
    assert!(matches!(server.ended().await, Err(Error::Register(_))));
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
    assert_eq!(*registry.log.lock().unwrap(), ["register", "withdraw"]);
    let waited = standing.wait_for(|s| *s == Standing::Registered).await.is_err();
    assert!(waited, "whoever waits for the registration is told that there is none");
}

#[tokio::test]
async fn without_its_registry_it_serves_and_says_what_it_waits_for() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut config = config();
    config.identity.service = ServiceName::new("waiting").unwrap();
    config.admin = Some(free);
    let server = launch(config, FakeRegistry::away(), TcpListener::bind("127.0.0.1:0").await.unwrap(), &[]);
    let mut health = HealthClient::new(server.channel().await);
    server.eventually("registering", || server.log() == ["register"]).await;
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().get_ref().status, SERVING);
    assert!(get(free.port(), "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(free.port(), "/readyz").await.ends_with("not ready: registration\n"));

    let gauge = Registry::global().gauge("server_registered", vec![("service", "waiting".into())]);
    let mut standing = server.standing.clone();
    let says = |answer: &str, status: &str, text: &str| answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.ends_with(text);
    for (now, status, text, registered) in [
        (Standing::Waiting("nobody listens".into()), "503", "not ready: registration (nobody listens)\n", 0),
        (Standing::Registered, "200", "ready\n", 1),
        (Standing::Stale("it is gone".into()), "200", "ready\n", 0),
        (Standing::Registered, "200", "ready\n", 1),
    ] {
        server.registry.standing.send_replace(now.clone());
        timeout(LIMIT, standing.wait_for(|seen| *seen == now)).await.expect("shown").unwrap();
        assert_eq!(gauge.load(Relaxed), registered, "{now:?}");
        let answer = get(free.port(), "/readyz").await;
        assert!(says(&answer, status, text), "{now:?}: {answer}");
    }
    server.shutdown.notify_one();
    server.ended().await.unwrap();
    assert_eq!(gauge.load(Relaxed), 0);
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::new(config()).run(address, std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    let mut config = config();
    config.admin = Some(address);
    let error = Server::new(config).run(([127, 0, 0, 1], 0).into(), std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}

#[tokio::test]
async fn reflection_shows_what_the_port_serves_in_both_versions() {
    let server = start(config()).await;
    let request =
        ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else {
        panic!("no list");
    };
    let names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    for name in ["sinew.admin.v1.AdminService", "sinew.events.v1.EventsService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|n| n == name), "{name} is missing in {names:?}");
    }
    assert!(!names.iter().any(|n| n == "sinew.saga.v1.SagaService"), "not served here: {names:?}");

    // Older tools speak v1alpha, and look the types of error details up before they show them.
    for symbol in ["sinew.admin.v1.AdminService", "google.rpc.BadRequest"] {
        let asked = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol.into());
        let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(asked) };
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
        let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap().message_response;
        assert!(
            matches!(answer, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))),
            "{symbol}: {answer:?}"
        );
    }
}
