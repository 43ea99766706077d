//! Every call ends, and everybody knows when.

use crate::support::{CHAT, GET, PUT, Server, WATCH, World, finish, pause};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Empty;
use sinew_client::Config;
use sinew_core::context;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use tower_service::Service;

fn told(server: &Server) -> Vec<Option<String>> {
    server.seen().iter().map(|s| s.headers.get("grpc-timeout").map(|v| v.to_str().expect("text").to_owned())).collect()
}

fn asking(timeout: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), HeaderValue::from_static(timeout))])
}

#[tokio::test(start_paused = true)]
async fn the_earliest_of_policy_caller_and_inbound_call_is_told_and_enforced() {
    let server = Server::silent();
    let mut config = Config::default();
    // A server that lets six calls in a row pass their deadline is not asked a seventh time.
    config.breaker.failures = 7;
    let world = World::with(&[&server], config, "{}");
    world.ready(1).await;
    // The caller's own time-out, what the inbound call has left, and which of them, or the policy's 10 s, comes first.
    let cases = [
        (None, None, 10_000),
        (Some("2S"), None, 2_000),
        (Some("1M"), None, 10_000),
        (Some("2S"), Some(20_000), 2_000),
        (Some("2S"), Some(300), 300),
        (None, Some(300), 300),
    ];
    for (asked, left, first) in cases {
        let headers = asked.map(asking).unwrap_or_default();
        let context =
            left.map(|ms| sinew_core::Context { deadline: Some(Instant::now() + Duration::from_millis(ms)), ..Default::default() });
        let start = Instant::now();
        let error = match context {
            None => world.call_with(GET, b"x", headers).await,
            Some(context) => context::scope(context, world.call_with(GET, b"x", headers)).await,
        };
        let error = error.expect_err("silent");
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        assert_eq!(start.elapsed().as_millis() / 10, first / 10, "{asked:?} {left:?}");
    }
    let expected = ["10S", "2S", "10S", "2S", "300000u", "300000u"];
    assert_eq!(told(&server).into_iter().flatten().collect::<Vec<_>>(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_sends_nothing() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    world.ready(1).await;
    let context = sinew_core::Context { deadline: Some(Instant::now()), ..Default::default() };
    let error = context::scope(context, world.call(GET, b"x")).await.expect_err("too late");
    assert_eq!((error.code(), server.calls()), (Code::DeadlineExceeded, 0));
}

#[tokio::test(start_paused = true)]
async fn a_later_attempt_is_told_what_is_left() {
    let server = Server::failing("14");
    let service = r#"{"methodConfig":[{"name":[{}],"timeout":"5s","retryPolicy":{"maxAttempts":2,"initialBackoff":"1s",
        "maxBackoff":"1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}"#;
    let world = World::with(&[&server], Config::default(), service);
    world.ready(1).await;
    world.call(GET, b"x").await.expect_err("unavailable");
    let told = told(&server);
    assert_eq!(told[0].as_deref(), Some("5S"));
    let left: u64 = told[1].as_deref().and_then(|t| t.strip_suffix('u')).and_then(|t| t.parse().ok()).expect("microseconds");
    assert!((3_790_000..=4_210_000).contains(&left), "{left}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_for_the_body_too() {
    let server = Server::new(|_request, mut respond| async move {
        let _open = respond.send_response(Response::new(()), false).expect("open");
        std::future::pending().await
    });
    let world = World::of(&[&server]);
    world.ready(1).await;
    let start = Instant::now();
    let error = world.call(PUT, b"x").await.expect_err("no trailers");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn streams_have_no_deadline_but_their_headers_must_come() {
    let server = Server::new(|request, mut respond| async move {
        if request.uri().path() == CHAT {
            return std::future::pending().await;
        }
        let mut stream = respond.send_response(Response::new(()), false).expect("open");
        pause(3_600_000).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let _ = stream.send_trailers(trailers);
    });
    let world = World::of(&[&server]);
    let watch = world.channel.clone().call(Request::post(WATCH).body(Empty::<Bytes>::new()).expect("valid")).await;
    finish(watch.expect("headers")).await.expect("an hour later");
    assert_eq!(told(&server), [None]);

    let start = Instant::now();
    let chat = world.channel.clone().call(Request::post(CHAT).body(Empty::<Bytes>::new()).expect("valid")).await;
    assert_eq!(chat.expect_err("no headers").code(), Code::DeadlineExceeded);
    assert_eq!(start.elapsed().as_secs(), 30);
}
