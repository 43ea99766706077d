//! gRPC checks are really asked, and TTLs really run out.

use crate::{Both, LIMIT, http::request};
use bytes::Bytes;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

/// A health service that says what it is told to: SERVING or NOT_SERVING.
async fn health_server(serving: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = serving.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.ok()?;
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let answer = http::Response::builder().header("content-type", "application/grpc").body(()).ok()?;
                    let mut body = respond.send_response(answer, false).ok()?;
                    let status = if serving.load(SeqCst) { 1 } else { 2 };
                    body.send_data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 0x08, status]), false).ok()?;
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    body.send_trailers(trailers).ok()?;
                }
                Some(())
            });
        }
    });
    address
}

async fn status(agent: SocketAddr, check: &str) -> String {
    let checks = request(agent, "GET", "agent/checks", "").await.json.unwrap();
    checks[check]["Status"].as_str().unwrap_or("none").to_owned()
}

async fn becomes(agent: SocketAddr, check: &str, expected: &str, name: &str) {
    let start = Instant::now();
    loop {
        let now = status(agent, check).await;
        if now == expected {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{name}: {check} is {now}, not {expected}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_server_that_stops_serving_fails_its_check_and_recovers() {
    let both = Both::start().await;
    let serving = Arc::new(AtomicBool::new(true));
    let target = health_server(serving.clone()).await;
    let body =
        json!({"ID": "a", "Name": "a", "Check": {"CheckID": "g", "GRPC": target.to_string(), "Interval": "50ms", "Timeout": "2s"}});
    for (name, agent) in both.each() {
        assert_eq!(request(agent, "PUT", "agent/service/register", &body.to_string()).await.status, 200);
        becomes(agent, "g", "passing", name).await;
        serving.store(false, SeqCst);
        becomes(agent, "g", "critical", name).await;
        serving.store(true, SeqCst);
        becomes(agent, "g", "passing", name).await;
    }
}

#[tokio::test]
async fn a_ttl_that_is_not_told_runs_out() {
    let both = Both::start().await;
    let body = json!({"ID": "a", "Name": "a", "Check": {"CheckID": "t", "TTL": "200ms", "Status": "passing"}});
    for (name, agent) in both.each() {
        assert_eq!(request(agent, "PUT", "agent/service/register", &body.to_string()).await.status, 200);
        becomes(agent, "t", "critical", name).await;
        assert_eq!(request(agent, "PUT", "agent/check/pass/t", "").await.status, 200);
        becomes(agent, "t", "passing", name).await;
        becomes(agent, "t", "critical", name).await;
    }
}

#[tokio::test]
async fn nobody_at_the_port_is_critical() {
    let both = Both::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let check = json!({"CheckID": "g", "GRPC": gone.to_string(), "Interval": "50ms", "Timeout": "1s", "Status": "passing"});
    let body = json!({"ID": "a", "Name": "a", "Check": check});
    for (name, agent) in both.each() {
        assert_eq!(request(agent, "PUT", "agent/service/register", &body.to_string()).await.status, 200);
        becomes(agent, "g", "critical", name).await;
    }
}
