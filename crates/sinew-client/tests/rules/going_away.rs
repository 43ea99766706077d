//! Servers that leave politely lose no call.

use crate::support::{GET, PUT, Server, World, answer, endpoint, pause, read, t, wait_for};
use sinew_client::ConnectionState;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::task::JoinSet;

fn slow_echo() -> Server {
    Server::new(|request, respond| async move {
        let message = read(request.into_body()).await;
        pause(20).await;
        answer(respond, message).await;
    })
}

#[tokio::test(start_paused = true)]
async fn goaways_under_load_fail_no_call_not_even_those_that_must_not_be_repeated() {
    let servers = [slow_echo(), slow_echo(), slow_echo()];
    let world = Arc::new(World::of(&[&servers[0], &servers[1], &servers[2]]));
    world.ready(3).await;
    let done = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let (world, done) = (world.clone(), done.clone());
        callers.spawn(async move {
            for _ in 0..100 {
                world.call(PUT, b"kept").await.expect("no call fails");
                done.fetch_add(1, Relaxed);
            }
        });
    }
    for round in 0..60 {
        pause(37).await;
        servers[round % 3].go_away();
    }
    while let Some(one) = callers.join_next().await {
        one.expect("no call failed");
    }
    assert_eq!(done.load(Relaxed), 2_000);
    assert_eq!(servers.iter().map(Server::calls).sum::<usize>(), 2_000, "and none was made twice");
}

#[tokio::test(start_paused = true)]
async fn a_leaving_server_gets_no_new_call_and_is_connected_to_again_at_once() {
    let server = Server::new(|request, respond| async move {
        let message = read(request.into_body()).await;
        pause(500).await;
        answer(respond, message).await;
    });
    let world = World::of(&[&server]);
    world.ready(1).await;
    let leave = async {
        wait_for(|| server.calls() == 1, || "the call arrives".into()).await;
        server.go_away();
        wait_for(|| world.network.dials.load(Relaxed) == 2, || "connected again".into()).await;
        world.ready(1).await;
    };
    let (answered, ()) = tokio::join!(world.call(PUT, b"in flight"), leave);
    assert_eq!(answered.expect("finishes on the old connection"), "in flight");
    assert_eq!(world.call(PUT, b"next").await.expect("on the new one"), "next");
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_is_repeated_whatever_the_method() {
    let visits = Arc::new(AtomicUsize::new(0));
    let count = visits.clone();
    let server = Server::new(move |request, mut respond| {
        let refuse = count.fetch_add(1, Relaxed) < 2;
        async move {
            if refuse {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            } else {
                answer(respond, read(request.into_body()).await).await;
            }
        }
    });
    let world = World::of(&[&server]);
    assert_eq!(world.call(PUT, b"third time").await.expect("repeated"), "third time");
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|call| !call.headers.contains_key("grpc-previous-rpc-attempts")), "transparent ones are not counted");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_leaves_the_registry_finishes_its_calls_and_is_let_go() {
    let server = slow_echo();
    let other = Server::echo();
    let world = World::of(&[&server]);
    world.ready(1).await;
    world.network.serve(2, &other);
    let swap = async {
        wait_for(|| server.calls() == 1, || "the call arrives".into()).await;
        world.list.set(&t(), vec![endpoint(2)]);
        wait_for(|| world.endpoints().len() == 1 && world.endpoints()[0].id.as_ref() == "t-2", || "swapped".into()).await;
        world.ready(1).await;
    };
    let (answered, ()) = tokio::join!(world.call(PUT, b"last"), swap);
    assert_eq!(answered.expect("finishes"), "last");
    for _ in 0..5 {
        world.call(GET, b"x").await.expect("by the other");
    }
    assert_eq!((server.calls(), other.calls()), (1, 5));
    wait_for(|| server.connections() == 0, || format!("{} connections", server.connections())).await;
}

#[tokio::test(start_paused = true)]
async fn news_of_one_endpoint_leaves_the_connections_of_others_alone() {
    let (a, b) = (Server::echo(), Server::echo());
    let world = World::of(&[&a, &b]);
    world.ready(2).await;
    let mut heavier = endpoint(2);
    heavier.weight = 10;
    world.network.serve(3, &Server::echo());
    world.list.set(&t(), vec![endpoint(1), heavier, endpoint(3)]);
    world.ready(3).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.network.dials.load(Relaxed), 3, "one attempt each");
    assert!(world.endpoints().iter().all(|e| e.connection == ConnectionState::Ready));
}
