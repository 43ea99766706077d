//! Against a real Consul agent: what the mesh needs of it from register to withdraw.

#![allow(clippy::unwrap_used)]

use sinew_consul::{Consul, Settings};
use sinew_core::{Discover, Health, Register, Registration, ServiceName, Snapshot, State};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch::Receiver, time::timeout};

async fn until(watch: &mut Receiver<Arc<Snapshot>>, what: &str, mut ok: impl FnMut(&Snapshot) -> bool) {
    let limit = Duration::from_secs(15);
    let waited = timeout(limit, watch.wait_for(|s| ok(s))).await.map(|seen| seen.is_ok());
    assert_eq!(waited, Ok(true), "{what}; last seen: {:?}", watch.borrow());
}

fn registration() -> Registration {
    Registration {
        service: ServiceName::new("order").unwrap(),
        id: "order-0".into(),
        host: "127.0.0.1".into(),
        port: 4000,
        check: None,
        tags: vec!["v1".into()],
        meta: [("zone".to_owned(), "a".to_owned())].into(),
    }
}

#[tokio::test]
async fn an_instance_is_seen_survives_a_forgetful_agent_drains_and_leaves() {
    let mut server = testkit::consul::Consul::start().await.unwrap();
    let consul = Consul::new(Settings { address: server.url(), ..Settings::default() }).unwrap();
    let mut watch = consul.watch(&registration().service);
    until(&mut watch, "an answer", |s| s.state == State::Known && s.endpoints.is_empty()).await;

    let registered = consul.register(registration());
    until(&mut watch, "registered and passing", |s| s.endpoints.iter().any(|e| e.health == Health::Passing)).await;
    assert_eq!(watch.borrow().endpoints[0].zone.as_deref(), Some("a"));
    assert!(consul.services().await.unwrap().iter().any(|s| s.name == "order"));

    server.process().kill().unwrap();
    until(&mut watch, "the last good endpoints", |s| s.state == State::Stale && s.endpoints.len() == 1).await;
    server.process().restart().unwrap();
    server.ready().await.unwrap();
    until(&mut watch, "announced again", |s| s.state == State::Known && s.endpoints.len() == 1).await;

    registered.drain().await;
    until(&mut watch, "out of rotation", |s| s.endpoints.iter().all(|e| e.health == Health::Critical)).await;
    registered.withdraw().await;
    until(&mut watch, "gone, after a second opinion", |s| s.state == State::Known && s.endpoints.is_empty()).await;
}
