//! The one who orders: keeps asking until answered, with the same key, and looks at everybody's books in the end.

use crate::{processes::channel, stage::Stage};
use anyhow::{Context, bail, ensure};
use checker::Books;
use contracts::order::v1::{
    CancelOrderRequest, Order, OrderState, PlaceOrderLine, PlaceOrderRequest, order_service_client::OrderServiceClient,
};
use sinew_client::Channel;
use sinew_core::Rng;
use std::{sync::Arc, time::Duration};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

/// A product of which there is plenty.
pub(crate) const PLENTY: &str = "01900000-0000-7000-8000-000000000101";
/// A product of which there are three.
pub(crate) const SCARCE: &str = "01900000-0000-7000-8000-000000000102";

/// What lies on the shelves.
pub(crate) const SHELVES: [(&str, i64); 2] = [(PLENTY, 1_000), (SCARCE, 3)];

/// What is wanted, how many, with which card, and whether it is taken back soon after.
const WISHES: [(&str, i64, &str, bool); 8] = [
    (PLENTY, 1, "tok_ok", false),
    (PLENTY, 2, "tok_declined", false),
    (SCARCE, 4, "tok_ok", false),
    (PLENTY, 1, "tok_timeout", false),
    (SCARCE, 2, "tok_ok", true),
    (PLENTY, 3, "tok_ok", true),
    (PLENTY, 1, "tok_ok", true),
    (SCARCE, 2, "tok_ok", false),
];

/// How many orders are placed.
pub(crate) const ORDERS: usize = WISHES.len();

/// How long one question may take before it is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Orders in the first so many milliseconds.
const ORDERING: u64 = 3_000;

/// A cancel comes within so many milliseconds: often while the saga is at work.
const REGRET: u64 = 60;

/// Orders everything, waits until everything has ended, and tells what everybody holds but the bank.
pub(crate) async fn shop(stage: Arc<Stage>) -> anyhow::Result<Books> {
    let order = channel(&stage, "order")?;
    let mut orders = JoinSet::new();
    for (n, wish) in WISHES.into_iter().enumerate() {
        orders.spawn_local(one(stage.clone(), order.clone(), n, wish));
    }
    while let Some(ended) = orders.join_next().await {
        ended??;
    }
    // Also those whose placing was never answered.
    let (inventory, payment) = (channel(&stage, "inventory")?, channel(&stage, "payment")?);
    loop {
        let on_hand = SHELVES.map(|(product, pieces)| (product.to_owned(), pieces)).into();
        let books: Result<Books, Status> = Books::collect(order.clone(), inventory.clone(), payment.clone(), on_hand).await;
        match books {
            Ok(books) if books.orders.iter().all(ended) => return Ok(books),
            Ok(_) | Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn one(stage: Arc<Stage>, channel: Channel, n: usize, wish: (&str, i64, &str, bool)) -> anyhow::Result<()> {
    let (product, quantity, card, regret) = wish;
    sleep(Duration::from_millis(stage.rng.below(ORDERING))).await;
    let request = PlaceOrderRequest {
        idempotency_key: format!("order-{n}"),
        lines: vec![PlaceOrderLine { product_id: product.to_owned(), quantity }],
        payment_token: card.to_owned(),
    };
    let client = OrderServiceClient::new(channel);
    let place = async || -> anyhow::Result<Order> {
        let placed = until_answered(&stage, async || client.clone().place_order(request.clone()).await).await?;
        placed.into_inner().order.context("an answer without an order")
    };
    let order = place().await?;
    stage.tell(format!("order {n} is placed"));
    let mut taken_back = false;
    if regret {
        sleep(Duration::from_millis(stage.rng.below(REGRET))).await;
        let cancel = CancelOrderRequest { idempotency_key: format!("cancel-{n}"), order_id: order.order_id.clone() };
        let cancelled = until_answered(&stage, async || client.clone().cancel_order(cancel.clone()).await).await;
        taken_back = cancelled.is_ok();
        stage.tell(format!("order {n} {}", if taken_back { "is taken back" } else { "cannot be taken back" }));
    }
    loop {
        // Its first answer may have been lost to somebody else: the key must lead to the same order for ever.
        let now = place().await?;
        ensure!(now.order_id == order.order_id, "key order-{n} made two orders: {order:?}, {now:?}");
        if ended(&now) {
            stage.tell(format!("order {n} is {:?} {:?}", now.state(), now.failure_reason()));
            ensure!(!taken_back || now.state() == OrderState::Failed, "order {n} was taken back and is done: {now:?}");
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn ended(order: &Order) -> bool {
    matches!(order.state(), OrderState::Completed | OrderState::Failed)
}

/// Asks again whenever the outcome is unknown.
async fn until_answered<T>(stage: &Stage, ask: impl AsyncFn() -> Result<T, Status>) -> anyhow::Result<T> {
    loop {
        match timeout(PATIENCE, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) if refused(status.code()) => bail!("refused: {status}"),
            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(20 + stage.rng.below(100))).await,
        }
    }
}

fn refused(code: Code) -> bool {
    matches!(code, Code::InvalidArgument | Code::NotFound | Code::AlreadyExists | Code::PermissionDenied | Code::FailedPrecondition)
}
