//! Every call and every attempt is counted once, when it is over; traces carry on.

use crate::support::{GET, RETRY, Server, WATCH, World};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use sinew_client::{Client, Config, Ports};
use sinew_core::{
    Criticality, ServiceName,
    classify::Code,
    context,
    stats::{CallKey, CallStats, Registry, Side},
    trace::TraceContext,
};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::timeout;
use tower_service::Service;

/// The registry is the process's: each test has a service of its own.
fn named(name: &str, server: &Server) -> (World, ServiceName) {
    let mut world = World::with(&[server], Config::default(), RETRY);
    let service = ServiceName::new(name).expect("valid");
    world.list.set(&service, vec![crate::support::endpoint(1)]);
    let mut ports = Ports::real(world.list.clone());
    ports.connector = Some(world.network.clone());
    world.client = Client::new(ports, Config::default(), Arc::default()).expect("valid");
    world.channel = world.client.channel(&service);
    (world, service)
}

fn series(side: Side, service: &ServiceName, method: &str) -> Arc<CallStats> {
    Registry::global().calls(CallKey { side, service: service.as_str().into(), method: method.into() })
}

#[tokio::test(start_paused = true)]
async fn answers_failures_and_cancellations_are_counted_by_code() {
    let server = Server::new(|request, mut respond| async move {
        match request.uri().path() {
            GET => crate::support::answer(respond, Bytes::new()).await,
            WATCH => {
                let _open = respond.send_response(Response::new(()), false).expect("open");
                std::future::pending().await
            }
            _ => crate::support::status(respond, "5", &[]),
        }
    });
    let (world, service) = named("observe-codes", &server);
    world.call(GET, b"x").await.expect("OK");
    world.call("/t.T/Other", b"x").await.expect_err("NOT_FOUND");
    let open = world.channel.clone().call(Request::post(WATCH).body(Empty::<Bytes>::new()).expect("valid")).await.expect("headers");
    assert_eq!(series(Side::Client, &service, WATCH).in_flight.load(Relaxed), 1, "not over with its headers");
    drop(open);
    let early = timeout(Duration::from_millis(1), world.call_with(WATCH, b"", HeaderMap::new())).await;
    assert!(early.is_err());
    for side in [Side::Client, Side::Attempt] {
        assert_eq!(series(side, &service, GET).count(Code::Ok), 1, "{side:?}");
        assert_eq!(series(side, &service, "/t.T/Other").count(Code::NotFound), 1, "{side:?}");
        assert_eq!(series(side, &service, WATCH).count(Code::Cancelled), 2, "{side:?}");
        assert_eq!(series(side, &service, WATCH).in_flight.load(Relaxed), 0, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_call_of_three_attempts_is_one_call_and_three_attempts() {
    let server = Server::failing("14");
    // This test alone makes failing calls of service `t` to this method.
    let world = World::with(&[&server], Config::default(), RETRY);
    let service = crate::support::t();
    let before = |side| series(side, &service, "/t.T/Get").count(Code::Unavailable);
    let (calls, attempts) = (before(Side::Client), before(Side::Attempt));
    world.call(GET, b"x").await.expect_err("unavailable");
    assert!(before(Side::Client) > calls);
    assert!(before(Side::Attempt) >= attempts + 3);
}

#[tokio::test(start_paused = true)]
async fn a_call_past_its_deadline_is_late_not_cancelled() {
    let server = Server::silent();
    let (world, service) = named("observe-late", &server);
    world.ready(1).await;
    let context =
        sinew_core::Context { deadline: Some(tokio::time::Instant::now() + Duration::from_secs(1)), ..Default::default() };
    context::scope(context, world.call(GET, b"x")).await.expect_err("late");
    for side in [Side::Client, Side::Attempt] {
        assert_eq!(series(side, &service, GET).count(Code::DeadlineExceeded), 1, "{side:?}");
        assert_eq!(series(side, &service, GET).count(Code::Cancelled), 0, "{side:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_inbound_trace_goes_on_with_a_span_of_the_calls_own() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    world.call(GET, b"x").await.expect("echo");
    assert!(!server.seen()[0].headers.contains_key("traceparent"), "no trace, and nobody to tell");

    let inbound = TraceContext { trace_id: 0xabc, span_id: 0xdef, sampled: true };
    let context = sinew_core::Context { trace: Some(inbound), ..Default::default() };
    context::scope(context, world.call(GET, b"x")).await.expect("echo");
    let header = server.seen()[1].headers["traceparent"].to_str().expect("text").to_owned();
    let told = TraceContext::parse(&header).expect("valid");
    assert_eq!((told.trace_id, told.sampled), (0xabc, true));
    assert_ne!(told.span_id, 0xdef);
}

#[tokio::test(start_paused = true)]
async fn the_inbound_calls_criticality_goes_on_unless_the_caller_says_otherwise() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    world.call(GET, b"x").await.expect("echo");
    assert!(!server.seen()[0].headers.contains_key("sinew-criticality"), "the default is not worth a header");

    let context = sinew_core::Context { criticality: Criticality::Sheddable, ..Default::default() };
    context::scope(context.clone(), world.call(GET, b"x")).await.expect("echo");
    assert_eq!(server.seen()[1].headers["sinew-criticality"], "SHEDDABLE");

    let own = HeaderMap::from_iter([("sinew-criticality".parse().expect("a name"), "CRITICAL".parse().expect("a value"))]);
    context::scope(context, world.call_with(GET, b"x", own)).await.expect("echo");
    assert_eq!(server.seen()[2].headers["sinew-criticality"], "CRITICAL");
}
