//! What is repeated, how often, and where (gRFC A6).

use crate::support::{CHAT, GET, PUT, RETRY, Server, World, answer, pause, read, status};
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use sinew_client::Config;
use sinew_core::context;
use std::{
    convert::Infallible,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;
use tonic::Code;
use tower_service::Service;

/// Fails so many calls with this status, then echoes.
fn failing_first(failures: usize, code: &'static str, more: &'static [(&'static str, &'static str)]) -> Server {
    let visits = Arc::new(AtomicUsize::new(0));
    Server::new(move |request, respond| {
        let fail = visits.fetch_add(1, Relaxed) < failures;
        async move {
            let message = read(request.into_body()).await;
            if fail { status(respond, code, more) } else { answer(respond, message).await }
        }
    })
}

fn world(servers: &[&Server]) -> World {
    World::with(servers, Config::default(), RETRY)
}

#[tokio::test(start_paused = true)]
async fn a_repeatable_method_is_tried_three_times_and_says_so() {
    let server = failing_first(2, "14", &[]);
    let world = world(&[&server]);
    let start = Instant::now();
    assert_eq!(world.call(GET, b"x").await.expect("third attempt"), "x");
    // 100 ms and 200 ms, each give or take a fifth.
    assert!((240..=370).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let attempts: Vec<_> = server
        .seen()
        .iter()
        .map(|s| s.headers.get("grpc-previous-rpc-attempts").map(|v| v.to_str().expect("text").to_owned()))
        .collect();
    assert_eq!(attempts, [None, Some("1".into()), Some("2".into())]);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_is_the_callers_when_attempts_run_out() {
    let server = Server::failing("14");
    let error = world(&[&server]).call(GET, b"x").await.expect_err("always");
    assert_eq!((error.code(), server.calls()), (Code::Unavailable, 3));
}

#[tokio::test(start_paused = true)]
async fn neither_other_codes_nor_other_methods_are_repeated() {
    let server = Server::failing("13");
    let world_ = world(&[&server]);
    world_.call(GET, b"x").await.expect_err("INTERNAL is not in the policy");
    assert_eq!(server.calls(), 1);
    let server = Server::failing("14");
    world(&[&server]).call(PUT, b"x").await.expect_err("must not be repeated");
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_for_a_repeated_call_is_not_repeated_again() {
    let server = Server::failing("14");
    let world = world(&[&server]);
    let inbound = sinew_core::Context { attempt: 1, ..Default::default() };
    context::scope(inbound, world.call(GET, b"x")).await.expect_err("no second attempt");
    assert_eq!(server.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_prefers_another_endpoint() {
    let (bad, good) = (Server::failing("14"), Server::echo());
    let world = world(&[&bad, &good]);
    world.ready(2).await;
    for _ in 0..8 {
        world.call(GET, b"x").await.expect("the other one answers");
    }
    assert_eq!(good.calls(), 8);
    assert!(bad.calls() > 0, "tried first at least once");
}

#[tokio::test(start_paused = true)]
async fn the_server_says_when_to_come_back_or_not_to() {
    let server = failing_first(1, "14", &[("grpc-retry-pushback-ms", "700")]);
    let start = Instant::now();
    world(&[&server]).call(GET, b"x").await.expect("second attempt");
    assert!((700..720).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());

    let server = failing_first(1, "14", &[("grpc-retry-pushback-ms", "-1")]);
    world(&[&server]).call(GET, b"x").await.expect_err("asked not to");
    assert_eq!(server.calls(), 1);
}

/// Dies between the headers of its first answer and the message.
fn dying_in_its_first_answer() -> Server {
    let (visits, me) = (Arc::new(AtomicUsize::new(0)), Arc::new(OnceLock::<Server>::new()));
    let server = Server::new({
        let me = me.clone();
        move |request, mut respond| {
            let (first, me) = (visits.fetch_add(1, Relaxed) == 0, me.clone());
            async move {
                let message = read(request.into_body()).await;
                if !first {
                    return answer(respond, message).await;
                }
                let _open = respond.send_response(http::Response::new(()), false).expect("open");
                pause(5).await;
                me.get().expect("set below").cut();
            }
        }
    });
    me.set(server.clone()).map_err(drop).expect("once");
    server
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_within_a_unary_answer_is_asked_again() {
    let server = dying_in_its_first_answer();
    assert_eq!(world(&[&server]).call(GET, b"x").await.expect("second attempt"), "x");
    assert_eq!(server.calls(), 2);

    let server = dying_in_its_first_answer();
    let error = world(&[&server]).call(PUT, b"x").await.expect_err("must not be repeated");
    assert_eq!((error.code(), server.calls()), (Code::Unavailable, 1));
}

#[tokio::test(start_paused = true)]
async fn an_answer_too_large_to_hold_arrives_whole() {
    const PIECE: usize = 10_000;
    let server = Server::new(|_request, mut respond| async move {
        let mut stream = respond.send_response(http::Response::new(()), false).expect("open");
        for n in 0..20 {
            stream.send_data(Bytes::from(vec![n; PIECE]), false).expect("sent");
        }
        let ok = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))]);
        stream.send_trailers(ok).expect("sent");
    });
    let all = world(&[&server]).call(GET, b"x").await.expect("an answer");
    assert_eq!(all, (0..20).flat_map(|n| vec![n; PIECE]).collect::<Vec<u8>>());
}

#[tokio::test(start_paused = true)]
async fn response_headers_commit_the_call() {
    let server = Server::new(|_request, mut respond| async move {
        let mut stream = respond.send_response(http::Response::new(()), false).expect("open");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("14"));
        let _ = stream.send_trailers(trailers);
    });
    let error = world(&[&server]).call(GET, b"x").await.expect_err("after headers");
    assert_eq!((error.code(), server.calls()), (Code::Unavailable, 1));
}

#[tokio::test(start_paused = true)]
async fn a_backoff_beyond_the_deadline_is_not_begun() {
    let server = failing_first(1, "14", &[("grpc-retry-pushback-ms", "60000")]);
    let start = Instant::now();
    let error = world(&[&server]).call(GET, b"x").await.expect_err("no time");
    assert_eq!(error.code(), Code::Unavailable, "the server's word is worth more than DEADLINE_EXCEEDED later");
    assert!(start.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_always_fails_gets_little_more_than_its_load() {
    let server = Server::failing("14");
    let mut config = Config::default();
    // The breaker would end the experiment after five calls.
    config.breaker.failures = 255;
    config.breaker.open_for = Duration::from_millis(1);
    let world = Arc::new(World::with(&[&server], config, RETRY));
    world.ready(1).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let world = world.clone();
        callers.spawn(async move { world.call(GET, b"x").await });
    }
    while callers.join_next().await.is_some() {}
    // 200 first attempts; 9 % of them again, and the ten that a budget begins with.
    assert!((215..=235).contains(&server.calls()), "{} calls", server.calls());
}

fn streamed(frames: &'static [&'static str]) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static {
    let frames = frames.iter().map(|f| Ok(Frame::data(Bytes::from_static(f.as_bytes()))));
    StreamBody::new(futures_util::stream::iter(frames))
}

#[tokio::test(start_paused = true)]
async fn a_streamed_request_is_replayed_from_its_start() {
    let server = failing_first(1, "14", &[]);
    let world = world(&[&server]);
    let request = Request::post(CHAT).body(streamed(&["one ", "two ", "three"])).expect("valid");
    let response = world.channel.clone().call(request).await.expect("second attempt");
    assert_eq!(crate::support::finish(response).await.expect("OK"), "one two three");
    assert_eq!(server.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_streamed_request_beyond_the_buffer_is_not() {
    let server = failing_first(1, "14", &[]);
    let mut config = Config::default();
    config.retry.buffer_bytes = 5;
    let world = World::with(&[&server], config, RETRY);
    let request = Request::post(CHAT).body(streamed(&["one ", "two ", "three"])).expect("valid");
    let response = world.channel.clone().call(request).await.expect("an answer");
    assert_eq!(crate::support::finish(response).await.expect_err("the first").code(), Code::Unavailable);
    assert_eq!(server.calls(), 1);
}
