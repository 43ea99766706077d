//! What the contract of `sinew.events.v1` promises to whoever follows.

use crate::{
    databases::{self, Database, on_both},
    world::{SOON, World, settled},
};
use futures_util::StreamExt;
use sinew_events::EventsServer;
use sinew_proto::events::v1::{
    GetLagRequest, SnapshotRequest, SubscribeRequest, events_service_client::EventsServiceClient,
    events_service_server::EventsServiceServer,
};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::Code;
use uuid::Uuid;

on_both! {
    a_silent_publisher_says_every_second_that_it_lives
    nonsense_is_refused_by_name
    pages_are_in_order_and_hold_everything_once
    lag_tells_who_follows_and_how_far
    batches_are_bounded_in_bytes
}

fn client(world: &World) -> EventsServiceClient<EventsServiceServer<EventsServer>> {
    EventsServiceClient::new(world.server.service())
}

fn follow(after: i64) -> SubscribeRequest {
    SubscribeRequest { consumer: "test".into(), after, batch_size: 0 }
}

async fn a_silent_publisher_says_every_second_that_it_lives(database: Database) {
    let world = World::start(database).await;
    world.change(Uuid::now_v7()).await;
    let head = settled(&world).await;
    let mut responses = client(&world).subscribe(follow(head)).await.unwrap().into_inner();
    let start = Instant::now();
    for _ in 0..3 {
        let response = timeout(SOON, responses.next()).await.expect("a response").expect("no end").unwrap();
        assert_eq!((response.events.len(), response.head), (0, head));
    }
    // The first comes at once; two more within their seconds, and not in a rush.
    assert!((Duration::from_millis(1_500)..Duration::from_secs(5)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

async fn nonsense_is_refused_by_name(database: Database) {
    let world = World::start(database).await;
    let code = |request: SubscribeRequest| {
        let mut client = client(&world);
        async move { client.subscribe(request).await.map(drop).unwrap_err().code() }
    };
    assert_eq!(code(follow(-1)).await, Code::InvalidArgument);
    assert_eq!(code(SubscribeRequest { consumer: String::new(), ..follow(0) }).await, Code::InvalidArgument);
    assert_eq!(code(SubscribeRequest { batch_size: 1_001, ..follow(0) }).await, Code::InvalidArgument);
    assert_eq!(code(follow(1)).await, Code::OutOfRange);
    for page_token in ["1", "x:01900000-0000-7000-8000-000000000101", "1:teapot", "-1:01900000-0000-7000-8000-000000000101"] {
        let request = SnapshotRequest { page_token: page_token.into(), ..SnapshotRequest::default() };
        let refused = client(&world).snapshot(request).await.map(drop).unwrap_err();
        assert!(refused.code() == Code::InvalidArgument && refused.message().contains("page_token"), "{refused:?}");
    }
}

async fn pages_are_in_order_and_hold_everything_once(database: Database) {
    let world = World::start(database).await;
    for _ in 0..25 {
        world.change(Uuid::now_v7()).await;
    }
    let head = settled(&world).await;
    let (mut subjects, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = SnapshotRequest { consumer: "test".into(), page_size: 10, page_token };
        let page = client(&world).snapshot(request).await.unwrap().into_inner();
        assert!(page.events.len() <= 10 && page.position == head && page.events.iter().all(|e| e.position == 0));
        subjects.extend(page.events.into_iter().map(|e| e.subject));
        // What happens after the first page is in the events after its position.
        world.change(Uuid::now_v7()).await;
        pages += 1;
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(pages >= 3 && subjects.len() >= 25 && subjects.is_sorted_by(|a, b| a < b), "{pages} pages: {subjects:?}");
}

async fn lag_tells_who_follows_and_how_far(database: Database) {
    let world = World::start(database).await;
    world.change(Uuid::now_v7()).await;
    let head = settled(&world).await;
    let mut responses = client(&world).subscribe(follow(0)).await.unwrap().into_inner();
    let first = timeout(SOON, responses.next()).await.expect("a response").expect("no end").unwrap();
    assert_eq!((first.events.len(), first.head), (1, head));
    let lag = client(&world).get_lag(GetLagRequest {}).await.unwrap().into_inner();
    assert_eq!((lag.head, lag.pending), (head, 0));
    assert!(matches!(&*lag.consumers, [c] if c.consumer == "test" && c.sent == head && c.sent_at.is_some()), "{lag:?}");
}

async fn batches_are_bounded_in_bytes(database: Database) {
    let world = World::start(database).await;
    let mut tx = world.db.begin().await.unwrap();
    for version in 1..=5 {
        let large = sinew_events::NewEvent { payload: vec![7; 700_000], ..crate::world::event(Uuid::now_v7(), version) };
        world.outbox.append(&mut tx, large).await.unwrap();
    }
    tx.commit().await.unwrap();
    settled(&world).await;
    let mut responses = client(&world).subscribe(follow(0)).await.unwrap().into_inner();
    let mut positions = Vec::new();
    while positions.len() < 5 {
        let response = timeout(SOON, responses.next()).await.expect("a response").expect("no end").unwrap();
        assert!(response.events.iter().map(|e| e.data.len()).sum::<usize>() <= 1 << 20);
        positions.extend(response.events.iter().map(|e| e.position));
    }
    assert_eq!(positions, [1, 2, 3, 4, 5]);
}
