//! Which endpoints of many are used, and how those are spared that have just come or ask for it.

use crate::support::{GET, RETRY, Server, World, answer, endpoint, pause, read, status, t, wait_for};
use bytes::Bytes;
use sinew_client::Config;
use sinew_core::{Endpoint, Health};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

const THREE_OF_ALL: &str =
    r#"{"loadBalancingConfig":[{"random_subsetting_experimental":{"subsetSize":3,"childPolicy":[{"round_robin":{}}]}}]}"#;

fn used(world: &World) -> Vec<Arc<str>> {
    world.endpoints().iter().map(|endpoint| endpoint.id.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_uses_a_subset_and_replaces_only_who_leaves_it() {
    let servers: Vec<_> = (0..10).map(|_| Server::echo()).collect();
    let world = World::with(&servers.iter().collect::<Vec<_>>(), Config::default(), THREE_OF_ALL);
    world.ready(3).await;
    for _ in 0..30 {
        world.call(GET, b"x").await.expect("echo");
    }
    let mut calls: Vec<_> = servers.iter().map(Server::calls).filter(|calls| *calls > 0).collect();
    calls.sort_unstable();
    assert_eq!(calls, [10, 10, 10]);

    let before = used(&world);
    let without = |id: &str| (1..=10).map(endpoint).filter(|e| &*e.id != id).collect::<Vec<_>>();
    let stay = |now: &[Arc<str>]| before.iter().filter(|id| now.contains(id)).count();
    let gone = before[0].clone();
    world.list.set(&t(), without(&gone));
    wait_for(|| !used(&world).contains(&gone), || format!("{:?}", used(&world))).await;
    assert_eq!((used(&world).len(), stay(&used(&world))), (3, 2));

    // One that fails its check makes room for a healthy one, too.
    let ill = before[1].clone();
    let mut all = without(&gone);
    all.iter_mut().filter(|e| e.id == ill).for_each(|e| e.health = Health::Critical);
    world.list.set(&t(), all);
    wait_for(|| !used(&world).contains(&ill), || format!("{:?}", used(&world))).await;
    assert_eq!((used(&world).len(), stay(&used(&world))), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_has_just_come_is_given_its_share_little_by_little() {
    let servers = [Server::echo(), Server::echo()];
    let config = r#"{"loadBalancingConfig":[{"round_robin":{}}],"sinewSlowStart":{"window":"100s"}}"#;
    let world = World::with(&servers.each_ref(), Config::default(), config);
    world.list.set(&t(), vec![endpoint(1)]);
    world.ready(1).await;
    pause(200_000).await;
    world.list.set(&t(), vec![endpoint(1), endpoint(2)]);
    world.ready(2).await;
    let mut shares = Vec::new();
    for _ in 0..4 {
        let before = servers[1].calls();
        for _ in 0..1_000 {
            world.call(GET, b"x").await.expect("echo");
        }
        shares.push(servers[1].calls() - before);
        pause(45_000).await;
    }
    // As if it weighed a tenth of the other at first, then 0.45, 0.9 and 1.
    for (share, expected) in shares.iter().zip([91, 310, 474, 500]) {
        assert!(share.abs_diff(expected) <= 50, "{shares:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_called_when_the_others_are_gone() {
    let servers = [Server::echo(), Server::echo()];
    let world = World::of(&servers.each_ref());
    let standby = Endpoint { priority: 1, ..endpoint(2) };
    world.list.set(&t(), vec![endpoint(1), standby.clone()]);
    world.ready(2).await;
    for _ in 0..20 {
        world.call(GET, b"x").await.expect("echo");
    }
    assert_eq!((servers[0].calls(), servers[1].calls()), (20, 0));
    world.network.refuse(1);
    servers[0].cut();
    world.ready(1).await;
    for _ in 0..20 {
        world.call(GET, b"x").await.expect("by the standby");
    }
    assert_eq!(servers[1].calls(), 20);
}

/// A retry is for another endpoint of the first choice, or for the same once more; not for those that stand by.
#[tokio::test(start_paused = true)]
async fn a_retry_does_not_go_to_a_standby() {
    let (failing, standby) = (Server::failing("14"), Server::echo());
    let world = World::with(&[&failing, &standby], Config::default(), RETRY);
    world.list.set(&t(), vec![endpoint(1), Endpoint { priority: 1, ..endpoint(2) }]);
    world.ready(2).await;
    world.call(GET, b"x").await.expect_err("three times by the first choice");
    assert_eq!((failing.calls(), standby.calls()), (3, 0));
}

/// One that refuses calls and says for how long is not asked meanwhile.
#[tokio::test(start_paused = true)]
async fn one_that_pushes_back_is_left_alone_until_then() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    let busy = Server::new(move |_, respond| {
        counted.fetch_add(1, Relaxed);
        async move { status(respond, "8", &[("grpc-retry-pushback-ms", "500")]) }
    });
    let free = Server::new(|request, respond| async move {
        let message = read(request.into_body()).await;
        pause(2).await;
        answer(respond, message).await;
    });
    let world = World::of(&[&busy, &free]);
    world.ready(2).await;
    let mut refused = 0;
    for _ in 0..100 {
        refused += usize::from(world.call(GET, b"x").await.is_err());
    }
    assert!((1..=2).contains(&refused), "{refused} of 100 calls in 200 ms were refused");
}

#[tokio::test(start_paused = true)]
async fn a_field_of_the_request_keeps_calls_together() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let config = r#"{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashField":1}}]}"#;
    let world = World::with(&servers.each_ref(), Config::default(), config);
    world.ready(3).await;
    for user in 0..30u8 {
        let before: Vec<_> = servers.iter().map(Server::calls).collect();
        for other in 0..4u8 {
            // Field 1 is the user, field 2 is something else.
            let message = [0, 0, 0, 0, 4, 0x08, user, 0x10, other];
            let request = http::Request::post(GET).body(http_body_util::Full::new(Bytes::copy_from_slice(&message)));
            let answer = tower_service::Service::call(&mut world.channel.clone(), request.expect("valid")).await;
            crate::support::finish(answer.expect("echo")).await.expect("echo");
        }
        let taken = servers.iter().zip(before).filter(|(server, before)| server.calls() > *before).count();
        assert_eq!(taken, 1, "all four of user {user}");
    }
    assert!(servers.iter().all(|server| server.calls() > 0), "not all users have the same endpoint");
}
