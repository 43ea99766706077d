//! The order service on a database of its own, with inventory and payment played in this process.

use crate::databases::Database;
use contracts::order::v1::{
    CancelOrderRequest, GetOrderRequest, ListOrdersRequest, ListOrdersResponse, Order, OrderState, PlaceOrderLine,
    PlaceOrderRequest, order_service_server::OrderService,
};
use shop_order::{
    Api, App, Config, Currency, Customer, CustomerId, Deps, Feeds, Inventory, Money, OrderId, Payments, Product, ProductId,
    Purchase, Receipt, SqlOrders,
};
use sinew::{Claims, Role};
use sinew_core::{BoxFuture, Context, SystemClock};
use sinew_events::{Publication, SubscriptionStatus, SubscriptionsAdmin};
use sinew_saga::{Failure, Reason, Timing};
use sinew_sql::Db;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use uuid::Uuid;

/// Inventory and payment: ten of each product, and cards that are good unless their token says otherwise.
#[derive(Default)]
pub(crate) struct Others {
    /// By order, what took effect, in order.
    pub(crate) effects: Mutex<BTreeMap<Uuid, Vec<&'static str>>>,
    /// Charges wait for a permit of this one, if there is one.
    pub(crate) hold: Option<Semaphore>,
    /// The traces in which somebody was asked for something.
    pub(crate) traces: Mutex<BTreeSet<Option<u128>>>,
}

impl Others {
    fn note(&self, order: OrderId, effect: &'static str) {
        self.traces.lock().unwrap().insert(Context::current().trace.map(|trace| trace.trace_id));
        let mut effects = self.effects.lock().unwrap();
        let effects = effects.entry(order.0).or_default();
        if !effects.contains(&effect) {
            effects.push(effect);
        }
    }

    pub(crate) fn effects(&self, order: &Order) -> Vec<&'static str> {
        let id = Uuid::try_parse(&order.order_id).unwrap();
        self.effects.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }
}

struct Played(Arc<Others>);

impl Inventory for Played {
    fn reserve<'a>(&'a self, order: OrderId, purchase: &'a Purchase) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if purchase.products().any(|(_, quantity)| quantity > 10) {
                return Err(Failure::Refused(Reason::new("INSUFFICIENT_STOCK", "too little stock")));
            }
            self.0.note(order, "reserved");
            Ok(())
        })
    }
    fn release(&self, order: OrderId) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.0.note(order, "released");
            Ok(())
        })
    }
}

impl Payments for Played {
    fn charge<'a>(&'a self, order: OrderId, purchase: &'a Purchase) -> BoxFuture<'a, Result<Receipt, Failure>> {
        Box::pin(async move {
            if let Some(hold) = &self.0.hold {
                hold.acquire().await.unwrap().forget();
            }
            match &*purchase.payment_token {
                "tok_declined" => return Err(Failure::Refused(Reason::new("PAYMENT_DECLINED", "declined"))),
                "tok_silent" => return Err(Failure::Unknown(Reason::new("UNAVAILABLE", "no answer"))),
                _ => {}
            }
            self.0.note(order, "charged");
            Ok(Receipt { reference: format!("ch_{}", order.0.simple()) })
        })
    }
    fn refund(&self, order: OrderId) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            self.0.note(order, "refunded");
            Ok(())
        })
    }
}

pub(crate) struct Shop {
    pub(crate) api: Api<SqlOrders>,
    pub(crate) db: Db,
    pub(crate) others: Arc<Others>,
    pub(crate) ann: Claims,
    pub(crate) products: Vec<String>,
    pub(crate) publication: Arc<dyn Publication>,
    task: JoinHandle<()>,
    database: Database,
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn customer(id: Uuid) -> Claims {
    Claims { sub: id.to_string(), role: Role::Customer }
}

pub(crate) fn product(price: i64, currency: &str) -> Product {
    let price = Money { amount: price, currency: Currency::parse(currency).unwrap() };
    Product { id: ProductId(Uuid::now_v7()), name: format!("for {}", price.amount), price, version: 1 }
}

pub(crate) fn key() -> String {
    Uuid::now_v7().to_string()
}

impl Shop {
    pub(crate) async fn open(database: Database, others: Others) -> Self {
        Self::open_following(database, others, None).await
    }

    pub(crate) async fn open_following(database: Database, others: Others, feeds: Option<Feeds>) -> Self {
        let mut config = Config::with_url(&*database.url);
        config.timing = Timing { patience: Duration::from_millis(100), backoff: Duration::from_millis(10), ..Timing::default() };
        let others = Arc::new(others);
        let deps = Deps { feeds, ..Deps::new(Played(others.clone()), Played(others.clone())) };
        let app = App::build(config, deps).await.unwrap();
        let id = CustomerId(Uuid::now_v7());
        let ann = Customer { id, name: "Ann".into(), version: 1 };
        let products = [product(250, "EUR"), product(i64::MAX, "EUR"), product(100, "USD")];
        app.seed(&[ann], &products).await.unwrap();
        let (api, db, publication) = (app.api(), app.db().clone(), app.publication());
        let task = tokio::spawn(app.run(CancellationToken::new()));
        let products = products.iter().map(|product| product.id.0.to_string()).collect();
        Self { api, db, others, ann: customer(id.0), products, publication, task, database }
    }

    pub(crate) fn wish(&self, quantity: i64, token: &str) -> PlaceOrderRequest {
        let product_id = self.products[0].clone();
        PlaceOrderRequest {
            idempotency_key: key(),
            lines: vec![PlaceOrderLine { product_id, quantity }],
            payment_token: token.into(),
        }
    }

    pub(crate) fn wish_for(&self, product: Uuid, quantity: i64) -> PlaceOrderRequest {
        let lines = vec![PlaceOrderLine { product_id: product.to_string(), quantity }];
        PlaceOrderRequest { lines, ..self.wish(quantity, "tok_ok") }
    }

    /// Waits until a subscription is so.
    pub(crate) async fn subscribed(&self, publisher: &str, so: impl Fn(&SubscriptionStatus) -> bool) -> SubscriptionStatus {
        let admin = SubscriptionsAdmin::new(self.db.clone(), Arc::new(SystemClock));
        let look = async || {
            let all = admin.list().await.unwrap();
            let found = all.iter().find(|s| s.publisher == publisher && so(s)).cloned();
            found.ok_or_else(|| format!("{all:?}"))
        };
        testkit::wait_for("the subscription", Duration::from_secs(20), look).await.unwrap()
    }

    pub(crate) async fn place(&self, wish: PlaceOrderRequest) -> Result<Order, Status> {
        self.place_as(&self.ann, wish).await
    }

    pub(crate) async fn place_as(&self, who: &Claims, wish: PlaceOrderRequest) -> Result<Order, Status> {
        Ok(self.api.place_order(by(who, wish)).await?.into_inner().order.unwrap())
    }

    pub(crate) async fn get_as(&self, who: &Claims, order_id: &str) -> Result<Order, Status> {
        let request = GetOrderRequest { order_id: order_id.into() };
        Ok(self.api.get_order(by(who, request)).await?.into_inner().order.unwrap())
    }

    pub(crate) async fn list_as(&self, who: &Claims, request: ListOrdersRequest) -> Result<ListOrdersResponse, Status> {
        Ok(self.api.list_orders(by(who, request)).await?.into_inner())
    }

    pub(crate) async fn cancel_as(&self, who: &Claims, order_id: &str, key: &str) -> Result<Order, Status> {
        let request = CancelOrderRequest { idempotency_key: key.into(), order_id: order_id.into() };
        Ok(self.api.cancel_order(by(who, request)).await?.into_inner().order.unwrap())
    }

    /// Waits for the order's end.
    pub(crate) async fn end(&self, order: &Order) -> Order {
        self.until(order, |order| matches!(order.state(), OrderState::Completed | OrderState::Failed)).await
    }

    pub(crate) async fn until(&self, order: &Order, wanted: impl Fn(&Order) -> bool) -> Order {
        let look = async || {
            let order = self.get_as(&self.ann, &order.order_id).await.unwrap();
            if wanted(&order) { Ok(order) } else { Err(format!("{order:?}")) }
        };
        testkit::wait_for("the order", Duration::from_secs(20), look).await.unwrap()
    }

    /// Ends this replica's work as a crash does.
    pub(crate) async fn stopped(mut self) -> Self {
        self.task.abort();
        let _ = (&mut self.task).await;
        self
    }

    /// Ends this replica as a crash does; another goes on, with these around it.
    pub(crate) async fn another(mut self, others: Others) -> Self {
        self.task.abort();
        self.others = Arc::new(others);
        let deps = Deps::new(Played(self.others.clone()), Played(self.others.clone()));
        let app = App::build(Config::with_url(&*self.database.url), deps).await.unwrap();
        self.api = app.api();
        self.task = tokio::spawn(app.run(CancellationToken::new()));
        self
    }

    /// The traces of the order's events, in order.
    pub(crate) async fn traces(&self, order: &Order) -> Vec<Option<String>> {
        let id = Uuid::try_parse(&order.order_id).unwrap();
        let mut tx = self.db.snapshot().await.unwrap();
        let sql = "SELECT traceparent FROM outbox WHERE aggregate = $1 ORDER BY seq";
        tx.q(sql).bind(id).all::<(Option<String>,)>().await.unwrap().into_iter().map(|(trace,)| trace).collect()
    }

    /// The kinds and versions of the order's events, in order.
    pub(crate) async fn events(&self, order: &Order) -> Vec<(String, i64)> {
        let id = Uuid::try_parse(&order.order_id).unwrap();
        let mut tx = self.db.snapshot().await.unwrap();
        tx.q("SELECT kind, version FROM outbox WHERE aggregate = $1 ORDER BY seq").bind(id).all().await.unwrap()
    }
}

fn by<T>(who: &Claims, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(who.clone());
    request
}
