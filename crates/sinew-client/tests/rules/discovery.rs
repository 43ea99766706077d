//! What the registry says, and what it means for calls.

use crate::support::{GET, Server, World, endpoint, t, wait_for};
use sinew_client::{Client, Config, Ports};
use sinew_core::{Discover, Endpoint, Health, ServiceName, Snapshot, State};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use tonic::Code;

/// A registry played by the test.
#[derive(Debug)]
struct Played(watch::Sender<Arc<Snapshot>>);

impl Discover for Played {
    fn watch(&self, _: &ServiceName) -> watch::Receiver<Arc<Snapshot>> {
        self.0.subscribe()
    }
}

fn played(server: &Server) -> (World, Arc<Played>) {
    let mut world = World::of(&[server]);
    let played = Arc::new(Played(watch::Sender::new(Arc::new(Snapshot::unknown()))));
    let mut ports = Ports::real(played.clone());
    ports.connector = Some(world.network.clone());
    world.client = Client::new(ports, Config::default(), Arc::default()).expect("valid");
    world.channel = world.client.channel(&t());
    (world, played)
}

fn known(state: State) -> Arc<Snapshot> {
    Arc::new(Snapshot { state, ..Snapshot::known(vec![Arc::new(endpoint(1))]) })
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_registrys_first_answer_but_not_for_ever() {
    let server = Server::echo();
    let (world, registry) = played(&server);
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        registry.0.send_replace(known(State::Known));
    };
    let (answered, ()) = tokio::join!(world.call(GET, b"x"), late);
    assert_eq!(answered.expect("after a second"), "x");

    let (world, _registry) = played(&server);
    let start = Instant::now();
    let error = world.call(GET, b"x").await.expect_err("never answers");
    assert_eq!((error.code(), error.message()), (Code::Unavailable, "t: the registry has not answered yet"));
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_serves_while_the_registry_is_away_and_after_its_watch_has_ended() {
    let server = Server::echo();
    let (world, registry) = played(&server);
    registry.0.send_replace(known(State::Known));
    world.call(GET, b"x").await.expect("known");
    registry.0.send_replace(known(State::Stale));
    wait_for(|| world.client.describe()[0].state == State::Stale, || "stale".into()).await;
    world.call(GET, b"x").await.expect("stale");
    let World { ref client, .. } = world;
    assert_eq!(client.describe()[0].endpoints.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn failing_endpoints_are_used_only_when_there_is_nobody_else() {
    let (sick, well) = (Server::echo(), Server::echo());
    let world = World::of(&[&sick, &well]);
    world.ready(2).await;
    let mut failing = endpoint(1);
    failing.health = Health::Critical;
    world.list.set(&t(), vec![failing.clone(), endpoint(2)]);
    wait_for(|| world.endpoints()[0].health == Health::Critical, || format!("{:?}", world.endpoints())).await;
    for _ in 0..10 {
        world.call(GET, b"x").await.expect("by the other");
    }
    assert_eq!((sick.calls(), well.calls()), (0, 10));

    let mut also = endpoint(2);
    also.health = Health::Critical;
    world.list.set(&t(), vec![failing, also]);
    wait_for(|| world.endpoints()[1].health == Health::Critical, || format!("{:?}", world.endpoints())).await;
    for _ in 0..20 {
        world.call(GET, b"x").await.expect("the registry may be wrong about everybody");
    }
    assert!(sick.calls() > 0 && well.calls() > 10);
}

#[tokio::test(start_paused = true)]
async fn nobody_connected_fails_at_once_and_says_why() {
    let world = World::of(&[&Server::echo(), &Server::echo()]);
    world.network.refuse(1);
    world.network.refuse(2);
    let start = Instant::now();
    let error = world.call(GET, b"x").await.expect_err("refused");
    assert_eq!(error.code(), Code::Unavailable);
    let text = "t: none of 2 endpoints can take the call: 2 not connected (connect: connection refused)";
    assert_eq!(error.message(), text);
    assert!(start.elapsed() < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_method_that_waits_for_ready_waits_until_its_deadline() {
    let config = r#"{"methodConfig":[{"name":[{}],"waitForReady":true,"timeout":"8s"}]}"#;
    let server = Server::echo();
    let world = World::with(&[&server], Config::default(), config);
    world.network.refuse(1);
    let late = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        world.network.serve(1, &server);
    };
    let (answered, ()) = tokio::join!(world.call(GET, b"x"), late);
    assert_eq!(answered.expect("once it is back"), "x");

    world.list.set(&t(), vec![]);
    wait_for(|| world.endpoints().is_empty(), || "an empty list".into()).await;
    assert_eq!(world.call(GET, b"x").await.expect_err("nobody comes").code(), Code::DeadlineExceeded);
}

/// Consul keeps ids apart within a node only.
#[tokio::test(start_paused = true)]
async fn of_several_endpoints_with_one_id_one_is_used_and_none_is_left_behind() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let world = World::of(&servers.each_ref());
    world.ready(3).await;
    let namesake = Endpoint { id: "t-1".into(), ..endpoint(3) };
    world.list.set(&t(), vec![endpoint(1), namesake, endpoint(2)]);
    world.ready(2).await;
    let addresses = || world.endpoints().iter().map(|e| e.address.clone()).collect::<Vec<_>>();
    wait_for(|| addresses() == ["memory:3", "memory:2"], || format!("{:?}", world.endpoints())).await;
    wait_for(|| servers[0].connections() == 0, || "the other is still connected".to_owned()).await;
    world.list.set(&t(), vec![endpoint(1), endpoint(2)]);
    wait_for(|| addresses() == ["memory:1", "memory:2"], || format!("{:?}", world.endpoints())).await;
}
