//! Customers and products reach the order path by their owners' events alone.

use crate::{
    databases::{self, Database, on_both},
    shop::{Others, Shop, customer},
};
use contracts::{
    order::v1::{OrderCompleted, OrderFailed},
    product::v1::{Product, ProductCreated, ProductUpdated},
    r#type::v1::Money,
    user::v1::{User, UserCreated, UserUpdated},
};
use futures_util::{StreamExt, stream};
use prost::Message;
use shop_order::Feeds;
use sinew_core::BoxFuture;
use sinew_events::{Batch, Batches, Event, Feed, FeedError, Page};
use std::sync::Arc;
use tonic::Code;
use uuid::Uuid;

on_both! {
    what_is_told_of_users_and_products_can_be_ordered
    older_news_and_unknown_words_change_nothing
    a_product_without_a_price_is_told_and_not_passed_over
    every_order_is_told_as_it_is_to_whoever_comes_late
}

/// Tells these, and then nothing.
#[derive(Debug, Default)]
struct Told(Vec<Event>);

impl Feed for Told {
    fn follow<'a>(&'a self, _: &'a str, after: i64) -> BoxFuture<'a, Result<Batches, FeedError>> {
        let events: Vec<_> = self.0.iter().filter(|e| e.pos > after).cloned().collect();
        let batch = Batch { events, head: self.0.len() as i64, receipt: None };
        Box::pin(async move { Ok(stream::iter([Ok(batch)]).chain(stream::pending()).boxed() as Batches) })
    }

    fn page<'a>(&'a self, _: &'a str, _: Option<&'a str>) -> BoxFuture<'a, Result<Page, FeedError>> {
        Box::pin(async { Ok(Page::default()) })
    }
}

impl Told {
    fn and(mut self, aggregate: Uuid, version: i64, kind: &str, message: &impl Message) -> Self {
        self.0.push(Event {
            pos: self.0.len() as i64 + 1,
            event_id: Uuid::now_v7(),
            aggregate,
            version,
            kind: kind.into(),
            schema: 1,
            payload: message.encode_to_vec(),
            occurred_at: sinew_sql::now(&sinew_core::SystemClock),
            traceparent: None,
        });
        self
    }
}

fn user(id: Uuid, name: &str, version: i64) -> Option<User> {
    Some(User { user_id: id.to_string(), name: name.into(), version, ..User::default() })
}

fn product(id: Uuid, name: &str, amount: i64, version: i64) -> Option<Product> {
    let price = Some(Money { amount, currency: "EUR".into() });
    Some(Product { product_id: id.to_string(), name: name.into(), price, version, ..Product::default() })
}

async fn shop(database: Database, users: Told, products: Told) -> Shop {
    let feeds = Feeds { users: Arc::new(users), products: Arc::new(products), instance: "order-0".into() };
    Shop::open_following(database, Others::default(), Some(feeds)).await
}

async fn what_is_told_of_users_and_products_can_be_ordered(database: Database) {
    let (bea, cup) = (Uuid::now_v7(), Uuid::now_v7());
    let users = Told::default().and(bea, 1, "user.created", &UserCreated { user: user(bea, "Bea", 1) });
    let products = Told::default().and(cup, 1, "product.created", &ProductCreated { product: product(cup, "Cup", 650, 1) });
    let shop = shop(database, users, products).await;
    // Placing waits for news that is on its way.
    let order = shop.place_as(&customer(bea), shop.wish_for(cup, 2)).await.unwrap();
    assert_eq!((&*order.customer_name, &*order.lines[0].product_name), ("Bea", "Cup"));
    assert_eq!(order.total.map(|total| total.amount), Some(1_300));
}

async fn older_news_and_unknown_words_change_nothing(database: Database) {
    let (bea, cup) = (Uuid::now_v7(), Uuid::now_v7());
    let users = Told::default()
        .and(bea, 2, "user.updated", &UserUpdated { user: user(bea, "Bea B.", 2) })
        .and(bea, 1, "user.created", &UserCreated { user: user(bea, "Bea", 1) })
        .and(bea, 3, "user.waved", &UserUpdated::default());
    let news = [(3, "Mug"), (2, "Cup"), (5, "Jug"), (4, "Jar")];
    let products = news.into_iter().fold(Told::default(), |told, (version, name)| {
        told.and(cup, version, "product.updated", &ProductUpdated { product: product(cup, name, 650, version) })
    });
    let shop = shop(database, users, products).await;
    shop.subscribed("user", |s| s.position == Some(3)).await;
    shop.subscribed("product", |s| s.position == Some(4)).await;
    let order = shop.place_as(&customer(bea), shop.wish_for(cup, 1)).await.unwrap();
    assert_eq!((&*order.customer_name, &*order.lines[0].product_name), ("Bea B.", "Jug"), "all of them came at once");
}

async fn a_product_without_a_price_is_told_and_not_passed_over(database: Database) {
    let (bea, pan, cup, pot) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let users = Told::default().and(bea, 1, "user.created", &UserCreated { user: user(bea, "Bea", 1) });
    let products = [(pan, 1), (cup, 0), (pot, 1)].into_iter().fold(Told::default(), |told, (id, amount)| {
        told.and(id, 1, "product.created", &ProductCreated { product: product(id, "Thing", amount, 1) })
    });
    let shop = shop(database, users, products).await;
    let stuck = shop.subscribed("product", |s| s.trouble.is_some()).await;
    assert!(stuck.position == Some(1) && stuck.trouble.as_deref().is_some_and(|t| t.contains("price")), "{stuck:?}");
    shop.place_as(&customer(bea), shop.wish_for(pan, 1)).await.expect("what came before it did not wait with it");
    let refused = shop.place_as(&customer(bea), shop.wish_for(pot, 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

async fn every_order_is_told_as_it_is_to_whoever_comes_late(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let mut ended = Vec::new();
    for token in ["tok_ok", "tok_declined", "tok_ok"] {
        let order = shop.place(shop.wish(2, token)).await.unwrap();
        ended.push(shop.end(&order).await);
    }
    let (mut told, mut after) = (Vec::new(), None);
    loop {
        let page = shop.publication.owned().page(after, 2).await.unwrap();
        after = page.last().map(|last| last.aggregate);
        let last = page.len() < 2;
        for event in page {
            let order = match event.kind {
                "order.completed" => OrderCompleted::decode(&*event.payload).unwrap().order,
                _ => OrderFailed::decode(&*event.payload).unwrap().order,
            };
            told.push((event.kind, event.version, order.unwrap()));
        }
        if last {
            break;
        }
    }
    let kinds = ["order.completed", "order.failed", "order.completed"];
    assert!(told.into_iter().eq(kinds.into_iter().zip(ended).map(|(kind, order)| (kind, order.version, order))));
}
