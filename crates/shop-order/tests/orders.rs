//! Orders from placing to their end, as callers see them, on both databases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests count as tests")]

mod copies;
#[path = "../../sinew-sql/tests/databases/mod.rs"]
mod databases;
mod shop;

use contracts::order::v1::{FailureReason, ListOrdersRequest, OrderState, PlaceOrderLine, PlaceOrderRequest};
use databases::{Database, on_both};
use serde_json::Value;
use shop::{Others, Shop, customer, key, product};
use shop_order::{Catalogue, SqlCatalogue};
use sinew::{Claims, Role};
use sinew_core::{Context, context::scope, trace::TraceContext};
use std::{collections::BTreeSet, future::poll_fn, task::Poll};
use tokio::sync::Semaphore;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

on_both! {
    an_order_completes_and_tells
    all_of_an_order_is_one_trace_whoever_carries_it_out
    a_declined_card_gives_the_stock_back
    too_little_stock_charges_nothing
    a_silent_payment_service_is_given_up_and_undone
    sagas_that_earlier_versions_left_are_finished
    a_repeat_answers_with_the_first_ones_order
    concurrent_repeats_place_one_order
    an_order_that_is_given_up_anywhere_is_whole_or_not_there
    a_cancel_in_time_undoes_the_order
    a_cancel_is_refused_after_the_end
    users_see_their_own_orders_and_administrators_all
    pages_are_complete_and_newest_first
    what_is_not_known_is_waited_for
    what_cannot_be_priced_is_refused
    every_bad_field_is_named
}

fn reason(status: &Status) -> String {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    status.get_details_error_info().unwrap().reason
}

fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|violation| violation.field).collect()
}

async fn an_order_completes_and_tells(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let placed = shop.place(shop.wish(3, "tok_ok")).await.unwrap();
    assert_eq!((placed.state(), placed.version), (OrderState::Started, 1));
    assert_eq!((&*placed.customer_name, placed.total.clone().unwrap().amount), ("Ann", 750));
    let ended = shop.end(&placed).await;
    assert_eq!(ended.state(), OrderState::Completed);
    assert_eq!(shop.others.effects(&placed), ["reserved", "charged"]);
    assert_eq!(shop.events(&placed).await, [("order.placed".into(), 1), ("order.completed".into(), ended.version)]);
}

/// Rows as version 1 wrote them, at every place where a saga may be when its replica is replaced by newer code.
async fn sagas_that_earlier_versions_left_are_finished(database: Database) {
    let golden: Vec<Value> = serde_json::from_str(include_str!("golden/sagas-v1.json")).unwrap();
    let held = Others { hold: Some(Semaphore::new(0)), ..Others::default() };
    let shop = Shop::open(database, held).await;
    let mut left = Vec::new();
    for row in &golden {
        let order = shop.place(shop.wish(3, "tok_ok")).await.unwrap();
        shop.until(&order, |order| order.state() == OrderState::Processing).await;
        left.push((row, order));
    }
    let db = shop.db.clone();
    let mut tx = db.snapshot().await.unwrap();
    let written: Vec<(String, i64, String)> = tx.q("SELECT phase, version, CAST(data AS text) FROM sagas").all().await.unwrap();
    drop(tx);
    let shape = |data: &Value| data.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
    for (phase, version, data) in written {
        assert_eq!((&*phase, version), ("processing", 1), "a new version wants a golden file of its own");
        assert_eq!(shape(&serde_json::from_str(&data).unwrap()), shape(&golden[0]["data"]), "what is written has changed");
    }
    // The replica dies, and what it left is what version 1 would have.
    let shop = shop.stopped().await;
    for (row, order) in &left {
        let mut tx = db.begin().await.unwrap();
        let sql =
            "UPDATE sagas SET phase = $2, step = $3, uncertain = $4, version = 1, data = $5, outputs = '{}', reason_code = $6,
                     reason_detail = $6, attempt = 0, owner = NULL, due_at = started_at WHERE saga_id = $1";
        let code = row["reason"].as_str().map(str::to_owned);
        let set = tx.q((
            "UPDATE sagas SET phase = $2, step = $3, uncertain = $4, version = 1, data = CAST($5 AS jsonb), outputs = '{}', reason_code = $6,
               reason_detail = $6, attempt = 0, owner = NULL, due_at = started_at WHERE saga_id = $1",
            sql,
        ));
        let id = Uuid::try_parse(&order.order_id).unwrap();
        let set = set.bind(id).bind(row["phase"].as_str().unwrap()).bind(row["step"].as_i64().unwrap());
        let set = set.bind(row["uncertain"].as_bool().unwrap()).bind(row["data"].to_string()).bind(code);
        assert_eq!(set.run().await.unwrap(), 1);
        tx.commit().await.unwrap();
    }
    let shop = shop.another(Others::default()).await;
    for (row, order) in &left {
        let ended = shop.end(order).await;
        assert_eq!(format!("{:?}", ended.state()), row["ends"].as_str().unwrap(), "{row}");
        let effects: Vec<_> = row["effects"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().to_owned()).collect();
        assert_eq!(shop.others.effects(order), effects, "{row}");
    }
}

async fn a_declined_card_gives_the_stock_back(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let placed = shop.place(shop.wish(1, "tok_declined")).await.unwrap();
    let ended = shop.end(&placed).await;
    assert_eq!((ended.state(), ended.failure_reason()), (OrderState::Failed, FailureReason::PaymentDeclined));
    assert_eq!(shop.others.effects(&placed), ["reserved", "released"]);
    assert_eq!(shop.events(&placed).await, [("order.placed".into(), 1), ("order.failed".into(), ended.version)]);
}

async fn too_little_stock_charges_nothing(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let placed = shop.place(shop.wish(11, "tok_ok")).await.unwrap();
    let ended = shop.end(&placed).await;
    assert_eq!(ended.failure_reason(), FailureReason::InsufficientStock);
    assert!(shop.others.effects(&placed).is_empty());
}

async fn a_silent_payment_service_is_given_up_and_undone(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let placed = shop.place(shop.wish(1, "tok_silent")).await.unwrap();
    let ended = shop.end(&placed).await;
    assert_eq!((ended.state(), ended.failure_reason()), (OrderState::Failed, FailureReason::TimedOut));
    assert_eq!(shop.others.effects(&placed), ["reserved", "refunded", "released"]);
}

async fn a_repeat_answers_with_the_first_ones_order(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let wish = shop.wish(1, "tok_ok");
    let placed = shop.place(wish.clone()).await.unwrap();
    let ended = shop.end(&placed).await;
    assert_eq!(shop.place(wish.clone()).await.unwrap(), ended, "as it is now");
    for other in [
        PlaceOrderRequest { payment_token: "tok_other".into(), ..wish.clone() },
        PlaceOrderRequest { lines: vec![PlaceOrderLine { quantity: 2, ..wish.lines[0].clone() }], ..wish.clone() },
    ] {
        assert_eq!(fields(&shop.place(other).await.unwrap_err()), ["idempotency_key"]);
    }
    assert_eq!(shop.list_as(&shop.ann, ListOrdersRequest::default()).await.unwrap().orders.len(), 1);
}

async fn concurrent_repeats_place_one_order(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let wish = shop.wish(1, "tok_ok");
    let place = async || shop.place(wish.clone()).await.unwrap().order_id;
    let (a, b, c, d) = tokio::join!(place(), place(), place(), place());
    assert!(a == b && b == c && c == d);
    assert_eq!(shop.list_as(&shop.ann, ListOrdersRequest::default()).await.unwrap().orders.len(), 1);
}

/// A caller that goes away drops its handler wherever it is, which ends what it did as a crash does.
async fn an_order_that_is_given_up_anywhere_is_whole_or_not_there(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let mut answered = 0;
    for polls in 0..80 {
        let mut call = Box::pin(shop.place(shop.wish(1, "tok_ok")));
        let mut left = polls;
        answered += poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Pending if left > 0 => {
                left -= 1;
                Poll::Pending
            }
            polled => Poll::Ready(u32::from(polled.is_ready())),
        })
        .await;
    }
    assert!((1..80).contains(&answered), "{answered} were answered, and nothing was given up or everything");
    let mut tx = shop.db.snapshot().await.unwrap();
    let sql = "SELECT (SELECT count(*) FROM sagas WHERE saga_id = order_id),
                      (SELECT count(*) FROM outbox WHERE aggregate = order_id AND kind = 'order.placed') FROM orders";
    let placed: Vec<(i64, i64)> = tx.q(sql).all().await.unwrap();
    assert!(placed.len() >= answered as usize && placed.iter().all(|with| *with == (1, 1)), "sagas and events: {placed:?}");
}

async fn a_cancel_in_time_undoes_the_order(database: Database) {
    let shop = Shop::open(database, Others { hold: Some(Semaphore::new(0)), ..Others::default() }).await;
    let placed = shop.place(shop.wish(1, "tok_ok")).await.unwrap();
    shop.until(&placed, |order| order.state() == OrderState::Processing).await;
    let cancel = key();
    shop.cancel_as(&shop.ann, &placed.order_id, &cancel).await.unwrap();
    shop.others.hold.as_ref().unwrap().add_permits(1);
    let ended = shop.end(&placed).await;
    assert_eq!((ended.state(), ended.failure_reason()), (OrderState::Failed, FailureReason::Cancelled));
    assert_eq!(shop.others.effects(&placed), ["reserved", "charged", "refunded", "released"]);
    assert_eq!(shop.events(&placed).await.last().unwrap().0, "order.cancelled");
    for key in [cancel, key()] {
        assert_eq!(shop.cancel_as(&shop.ann, &placed.order_id, &key).await.unwrap(), ended, "a repeat changes nothing");
    }
}

async fn a_cancel_is_refused_after_the_end(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    for (token, expected) in [("tok_ok", "ORDER_COMPLETED"), ("tok_declined", "ORDER_FAILED")] {
        let placed = shop.place(shop.wish(1, token)).await.unwrap();
        let ended = shop.end(&placed).await;
        assert_eq!(reason(&shop.cancel_as(&shop.ann, &placed.order_id, &key()).await.unwrap_err()), expected);
        assert_eq!(shop.get_as(&shop.ann, &placed.order_id).await.unwrap(), ended);
    }
    let unknown = shop.cancel_as(&shop.ann, &key(), &key()).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

async fn users_see_their_own_orders_and_administrators_all(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let order = shop.place(shop.wish(1, "tok_ok")).await.unwrap();
    let (bob, admin) = (customer(Uuid::now_v7()), Claims { sub: key(), role: Role::Admin });
    assert_eq!(shop.get_as(&bob, &order.order_id).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(shop.cancel_as(&bob, &order.order_id, &key()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(shop.get_as(&admin, &order.order_id).await.unwrap().order_id, order.order_id);
    let of = |user: &str| ListOrdersRequest { user_id: user.into(), ..Default::default() };
    assert_eq!(shop.list_as(&bob, of(&shop.ann.sub)).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(shop.list_as(&bob, of("")).await.unwrap().orders.is_empty());
    for user in ["", &shop.ann.sub] {
        assert_eq!(shop.list_as(&admin, of(user)).await.unwrap().orders.len(), 1);
    }
    let nobody = Claims { sub: "service".into(), role: Role::Admin };
    assert_eq!(shop.get_as(&nobody, &order.order_id).await.unwrap_err().code(), Code::Unauthenticated);
}

async fn pages_are_complete_and_newest_first(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let mut placed = Vec::new();
    for _ in 0..7 {
        placed.push(shop.place(shop.wish(1, "tok_ok")).await.unwrap().order_id);
    }
    placed.reverse();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOrdersRequest { page_size: 3, page_token, ..Default::default() };
        let page = shop.list_as(&shop.ann, request).await.unwrap();
        seen.extend(page.orders.into_iter().map(|order| order.order_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, placed);
}

async fn what_is_not_known_is_waited_for(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let news = product(5, "EUR");
    let wish = |product_id: String| PlaceOrderRequest {
        lines: vec![PlaceOrderLine { product_id, quantity: 1 }],
        ..shop.wish(1, "tok_ok")
    };
    let catalogue = SqlCatalogue::new(shop.db.clone());
    let (placed, put) = tokio::join!(shop.place(wish(news.id.0.to_string())), catalogue.put_product(&news));
    put.unwrap();
    assert_eq!(placed.unwrap().lines[0].product_name, "for 5");
    let unknown = key();
    let status = shop.place(wish(unknown.clone())).await.unwrap_err();
    assert_eq!(reason(&status), "PRODUCT_UNKNOWN");
    assert_eq!(status.get_details_precondition_failure().unwrap().violations[0].subject, unknown);
    let stranger = customer(Uuid::now_v7());
    assert_eq!(reason(&shop.place_as(&stranger, shop.wish(1, "tok_ok")).await.unwrap_err()), "CUSTOMER_UNKNOWN");
}

async fn what_cannot_be_priced_is_refused(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let wish = |lines: &[(usize, i64)]| PlaceOrderRequest {
        lines: lines.iter().map(|&(n, quantity)| PlaceOrderLine { product_id: shop.products[n].clone(), quantity }).collect(),
        ..shop.wish(1, "tok_ok")
    };
    assert_eq!(fields(&shop.place(wish(&[(1, 2)])).await.unwrap_err()), ["lines"]);
    assert_eq!(fields(&shop.place(wish(&[(0, 1), (1, 1)])).await.unwrap_err()), ["lines"]);
    assert_eq!(reason(&shop.place(wish(&[(0, 1), (2, 1)])).await.unwrap_err()), "MIXED_CURRENCIES");
    // An older version of a product changes nothing, a newer one the next order's price.
    let catalogue = SqlCatalogue::new(shop.db.clone());
    let mut changed = product(300, "EUR");
    changed.id = shop_order::ProductId(Uuid::try_parse(&shop.products[0]).unwrap());
    // The same version again mends a damaged copy.
    for (version, price, total) in [(3, 300, 300), (2, 250, 300), (3, 310, 310)] {
        changed.version = version;
        changed.price.amount = price;
        catalogue.put_product(&changed).await.unwrap();
        assert_eq!(shop.place(wish(&[(0, 1)])).await.unwrap().total.unwrap().amount, total, "version {version}");
    }
}

async fn all_of_an_order_is_one_trace_whoever_carries_it_out(database: Database) {
    let placed = TraceContext { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span_id: 7, sampled: true };
    let held = Others { hold: Some(Semaphore::new(0)), ..Others::default() };
    let shop = Shop::open(database, held).await;
    let context = Context { trace: Some(placed), ..Context::default() };
    let order = scope(context, shop.place(shop.wish(2, "tok_ok"))).await.unwrap();
    shop.until(&order, |order| order.state() == OrderState::Processing).await;
    assert_eq!(*shop.others.traces.lock().unwrap(), BTreeSet::from([Some(placed.trace_id)]));
    // The one that carries it out dies before it has charged.
    let shop = shop.another(Others::default()).await;
    shop.end(&order).await;
    assert_eq!(*shop.others.traces.lock().unwrap(), BTreeSet::from([Some(placed.trace_id)]));
    let traces = shop.traces(&order).await;
    assert_eq!(traces, vec![Some(placed.to_string()); 2], "placed and completed");
}

async fn every_bad_field_is_named(database: Database) {
    let shop = Shop::open(database, Others::default()).await;
    let line = |product_id: &str, quantity| PlaceOrderLine { product_id: product_id.into(), quantity };
    let good = &shop.products[0];
    let place =
        async |lines: Vec<PlaceOrderLine>| fields(&shop.place(PlaceOrderRequest { lines, ..shop.wish(1, "t") }).await.unwrap_err());
    assert_eq!(place(vec![]).await, ["lines"]);
    assert_eq!(place(vec![line("x", 1), line("", 1)]).await, ["lines[0].product_id", "lines[1].product_id"]);
    for quantity in [i64::MIN, -1, 0, 1_001] {
        assert_eq!(place(vec![line(good, quantity)]).await, ["lines[0].quantity"]);
    }
    assert_eq!(place(vec![line(good, 1), line(good, 2)]).await, ["lines[1].product_id"]);
    let all = PlaceOrderRequest { idempotency_key: "k".repeat(65), lines: vec![], payment_token: "\n".into() };
    assert_eq!(fields(&shop.place(all).await.unwrap_err()), ["idempotency_key", "lines", "payment_token"]);
    assert_eq!(fields(&shop.get_as(&shop.ann, "1").await.unwrap_err()), ["order_id"]);
    let list = ListOrdersRequest { user_id: "1".into(), page_size: 501, page_token: "x".into() };
    assert_eq!(fields(&shop.list_as(&shop.ann, list).await.unwrap_err()), ["user_id", "page_size", "page_token"]);
    assert_eq!(fields(&shop.cancel_as(&shop.ann, "1", "").await.unwrap_err()), ["idempotency_key", "order_id"]);
}
