//! What counts as connected, and what becomes of calls when it no longer is.

use crate::support::{GET, PUT, RETRY, Server, World, answer, endpoint, read, t, wait_for};
use h2::server::SendResponse;
use sinew_client::{Config, ConnectionState, Error};
use sinew_core::{BoxFuture, BoxIo, Connector, Endpoint};
use std::{
    error::Error as _,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout};
use tonic::Code;

#[tokio::test(start_paused = true)]
async fn a_listener_that_never_speaks_is_not_ready() {
    let mute = Server::echo();
    mute.freeze();
    let world = World::of(&[&mute]);
    let error = world.call(GET, b"x").await.expect_err("nobody answered a PING");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("no answer to the first PING"), "{error}");
    assert!(matches!(world.endpoints()[0].connection, ConnectionState::Failed { .. }));
}

#[tokio::test(start_paused = true)]
async fn authority_is_the_service_and_errors_carry_their_cause() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    assert_eq!(world.call(GET, b"hello").await.expect("echo"), "hello");
    let seen = &server.seen()[0];
    assert_eq!(seen.uri, "http://t/t.T/Get");
    assert_eq!(seen.method, "POST");

    world.list.set(&t(), vec![]);
    wait_for(|| world.endpoints().is_empty(), || "an empty list".into()).await;
    let status = world.call(GET, b"x").await.expect_err("nobody there");
    assert_eq!(status.message(), "t: no endpoint is registered");
    let cause = status.source().and_then(|cause| cause.downcast_ref::<Error>());
    assert!(matches!(cause, Some(Error::Unavailable(_))), "{status:?}");
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_leaves_the_rotation_within_1_5_s_and_is_dead_within_3_s() {
    let (hole, good) = (Server::silent(), Server::silent());
    let world = World::of(&[&hole]);
    world.ready(1).await;
    let channel_call = world.call(PUT, b"x");
    let start = Instant::now();
    let suspected = async {
        wait_for(|| hole.calls() == 1, || "the call arrives".into()).await;
        hole.freeze();
        wait_for(|| world.endpoints()[0].connection == ConnectionState::Suspect, || format!("{:?}", world.endpoints())).await;
        start.elapsed()
    };
    let (result, suspected) = tokio::join!(channel_call, suspected);
    assert!(suspected <= Duration::from_millis(1_510), "suspect after {suspected:?}");
    assert!(start.elapsed() <= Duration::from_millis(3_010), "dead after {:?}", start.elapsed());
    assert_eq!(result.expect_err("the server is gone").code(), Code::Unavailable);
    drop(good);
}

#[tokio::test(start_paused = true)]
async fn a_slow_server_is_suspected_and_forgiven_without_losing_its_calls() {
    let server = Server::new(|request, respond| async move {
        crate::support::pause(3_000).await;
        answer(respond, read(request.into_body()).await).await;
    });
    let world = World::of(&[&server]);
    world.ready(1).await;
    let nap = async {
        wait_for(|| server.calls() == 1, || "the call arrives".into()).await;
        server.freeze();
        wait_for(|| world.endpoints()[0].connection == ConnectionState::Suspect, || format!("{:?}", world.endpoints())).await;
        server.thaw();
        wait_for(|| world.endpoints()[0].connection == ConnectionState::Ready, || format!("{:?}", world.endpoints())).await;
    };
    let (result, ()) = tokio::join!(world.call(PUT, b"late"), nap);
    assert_eq!(result.expect("kept its stream"), "late");
}

#[tokio::test(start_paused = true)]
async fn backoff_grows_to_a_second_and_news_of_the_endpoint_cuts_it_short() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    world.network.refuse(1);
    world.call(GET, b"x").await.expect_err("refused");
    // 50..100, 100..200, 200..400, 400..800, then 500..1000 ms: at least 10 and at most 25 attempts in 10 s.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let dials = world.network.dials.load(Relaxed);
    assert!((10..=25).contains(&dials), "{dials} attempts");

    wait_for(|| world.network.dials.load(Relaxed) > dials, || "the next attempt".into()).await;
    world.network.serve(1, &server);
    let mut news = endpoint(1);
    news.meta.insert("version".into(), "2".into());
    let start = Instant::now();
    world.list.set(&t(), vec![news]);
    world.ready(1).await;
    assert!(start.elapsed() < Duration::from_millis(50), "sat out its backoff: {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_fails_what_must_not_be_repeated_and_repeats_what_may() {
    let first = Arc::new(AtomicUsize::new(0));
    let cut_me: Arc<Mutex<Option<Server>>> = Arc::default();
    let (visits, me) = (first.clone(), cut_me.clone());
    let server = Server::new(move |request: http::Request<h2::RecvStream>, respond: SendResponse<_>| {
        let cut = visits.fetch_add(1, Relaxed) % 2 == 0;
        let me = me.clone();
        async move {
            let message = read(request.into_body()).await;
            if cut {
                let server = me.lock().expect("unpoisoned").clone().expect("set");
                server.cut();
                let _held = respond;
                std::future::pending::<()>().await;
            } else {
                answer(respond, message).await;
            }
        }
    });
    *cut_me.lock().expect("unpoisoned") = Some(server.clone());
    let world = World::with(&[&server], Config::default(), RETRY);
    let error = world.call(PUT, b"once").await.expect_err("I/O error after HEADERS");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(server.calls(), 1, "not repeated");

    first.store(0, Relaxed);
    assert_eq!(world.call(GET, b"again").await.expect("repeated by its policy"), "again");
    assert_eq!(server.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_greets_and_leaves_is_not_dialled_in_a_loop() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        world.ready(1).await;
        server.cut();
        wait_for(|| world.endpoints()[0].connection != ConnectionState::Ready, || "cut".into()).await;
    }
    let dials = world.network.dials.load(Relaxed);
    assert!(dials <= 21, "{dials} attempts in 2 s");
}

#[derive(Debug)]
struct NeverConnects;

impl Connector for NeverConnects {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn connecting_has_a_time_limit() {
    let world = World::of(&[]);
    let list = world.list.clone();
    list.set(&t(), vec![endpoint(1)]);
    let mut ports = sinew_client::Ports::real(list);
    ports.connector = Some(Arc::new(NeverConnects));
    let client = sinew_client::Client::new(ports, Config::default(), Arc::default()).expect("valid");
    let channel = client.channel(&t());
    let failed = || matches!(&client.describe()[0].endpoints[..], [e] if matches!(e.connection, ConnectionState::Failed { .. }));
    timeout(Duration::from_secs(2), wait_for(failed, || format!("{:?}", client.describe()))).await.expect("given up after 1 s");
    drop(channel);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connections() {
    let server = Server::echo();
    let world = World::of(&[&server]);
    world.ready(1).await;
    let World { network, client, channel, .. } = world;
    drop(client);
    drop(channel);
    // The destination's tasks held the connector.
    wait_for(|| Arc::strong_count(&network) == 1, || "tasks end".into()).await;
    wait_for(|| server.connections() == 0, || "connections close".into()).await;
}
