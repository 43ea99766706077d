//! From registration to the last call; what operators see.

use crate::harness::{LIMIT, config, start};
use sinew_proto::admin::v1::{GetInfoRequest, admin_service_client::AdminServiceClient};
use std::sync::atomic::Ordering::SeqCst;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    },
    v1alpha,
};

const SERVING: i32 = 1;

#[tokio::test]
async fn it_registers_what_it_is_and_serves() {
    let mut config = config();
    config.admin = Some(([127, 0, 0, 1], 0).into());
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
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get("/readyz").await.ends_with("ready\n"));
    assert!(get("/metrics").await.starts_with("HTTP/1.1 200"));
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

#[tokio::test]
async fn the_end_is_in_order_and_loses_no_call() {
    let server = start(config()).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn({
        let mut client = client.clone();
        async move {
            let mut request = Request::new(GetInfoRequest {});
            request.metadata_mut().insert("do", "wait".parse().unwrap());
            client.get_info(request).await
        }
    });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    server.shutdown.notify_one();
    server.eventually("left the registry", || server.registry.log.lock().unwrap().len() == 2).await;
    // Whoever still has us in his list is answered until GOAWAY; the call under way finishes.
    server.handlers.let_go.notify_one();
    call.await.unwrap().unwrap();
    timeout(LIMIT, server.task).await.unwrap().unwrap().unwrap();
    assert_eq!(*server.registry.log.lock().unwrap(), ["register", "drain", "withdraw"]);
    assert!(client.get_info(GetInfoRequest {}).await.is_err());
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut_off() {
    let mut config = config();
    config.limits.drain = std::time::Duration::from_millis(50);
    let server = start(config).await;
    let mut client = AdminServiceClient::new(server.channel().await);
    let call = tokio::spawn(async move {
        let mut request = Request::new(GetInfoRequest {});
        request.metadata_mut().insert("do", "wait".parse().unwrap());
        client.get_info(request).await
    });
    server.eventually("the call is under way", || server.handlers.waiting.load(SeqCst) == 1).await;
    server.shutdown.notify_one();
    timeout(LIMIT, server.task).await.expect("the drain is bounded").unwrap().unwrap();
    assert!(call.await.unwrap().is_err());
}
