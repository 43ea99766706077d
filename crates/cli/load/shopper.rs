//! One customer: makes an account, logs in, places orders and asks what became of them.

use super::key;
use crate::{
    demo,
    exit::Exit,
    http::{Answer, Ask, Http},
};
use http::StatusCode;
use rand::distr::{Alphanumeric, SampleString};
use serde_json::json;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Tokens are good for 15 minutes.
const TOKEN_AGE: Duration = Duration::from_secs(600);

/// How often an order is sent whose outcome is not known, the first time included. With the pauses between, more than
/// two seconds: a restarting gateway is back by then.
const ATTEMPTS: u32 = 6;

/// The pause after the first try; doubled with each.
const PAUSE: Duration = Duration::from_millis(100);

/// Characters of a password: nobody guesses it, and nobody has to know it.
const PASSWORD: usize = 24;

/// What became of an order that was to be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    /// The order's id, or why there is none.
    pub(super) order: Result<Accepted, String>,
    /// Requests beyond the first.
    pub(super) retries: u32,
}

/// An order that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) id: String,
    pub(super) customer: String,
}

/// How an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    NotYet,
    /// Well, or for this reason.
    As(String),
    /// The service does not know an order that it accepted.
    Lost,
}

/// A customer.
#[derive(Debug)]
pub(super) struct Shopper {
    http: Http,
    key: Option<String>,
    id: String,
    email: String,
    password: String,
    products: Vec<String>,
    token: Mutex<(String, Instant)>,
    /// Only one logs in at a time.
    logging_in: tokio::sync::Mutex<()>,
}

impl Shopper {
    /// Makes so many, each with an account of its own.
    pub(super) async fn make(http: &Http, key: Option<&str>, count: u32, products: &[String]) -> Result<Vec<Arc<Self>>, Exit> {
        let mut shoppers = Vec::new();
        for n in 0..count {
            let run = Uuid::now_v7().simple().to_string();
            let (email, password) = (format!("load-{run}@load.example"), Alphanumeric.sample_string(&mut rand::rng(), PASSWORD));
            let body = json!({ "email": email, "name": format!("Load {n}"), "password": password });
            let headers = key::headers(key);
            let made = http.expect(Ask { headers: &headers, ..Ask::post("/api/v1/users", &body).key(&run) }).await?;
            let id = made["user"]["userId"].as_str().unwrap_or_default().to_owned();
            let token = demo::log_in(http, &email, &password).await?;
            shoppers.push(Arc::new(Self {
                http: http.clone(),
                key: key.map(str::to_owned),
                id,
                email,
                password,
                products: products.to_vec(),
                token: Mutex::new((token, Instant::now())),
                logging_in: tokio::sync::Mutex::default(),
            }));
        }
        Ok(shoppers)
    }

    /// The customer's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Places one order. What may be repeated is, with the same key: it is placed once, however often it is asked for.
    pub(super) async fn place(&self, card: &str) -> Placed {
        let key = Uuid::now_v7().to_string();
        let product = self.products.get(rand::random_range(0..self.products.len().max(1)));
        let body = json!({ "lines": [{ "product_id": product, "quantity": 1 }], "payment_token": card });
        let mut retries = 0;
        loop {
            let error = match self.ask(Ask::post("/api/v1/orders", &body).key(&key)).await {
                Ok(answer) if answer.status == StatusCode::CREATED => {
                    let id = answer.json["order"]["orderId"].as_str().unwrap_or_default().to_owned();
                    return Placed { order: Ok(Accepted { id, customer: self.id.clone() }), retries };
                }
                Ok(answer) if !may_be_repeated(answer.status) => return Placed { order: Err(answer.to_string()), retries },
                Ok(answer) => answer.to_string(),
                Err(error) => error,
            };
            if retries + 1 >= ATTEMPTS {
                return Placed { order: Err(error), retries };
            }
            sleep(PAUSE * 2u32.pow(retries)).await;
            retries += 1;
        }
    }

    /// How an order ended.
    pub(super) async fn ended(&self, order: &str) -> Ended {
        match self.ask(Ask::get(&format!("/api/v1/orders/{order}"))).await {
            Ok(answer) if answer.status == StatusCode::NOT_FOUND => Ended::Lost,
            Ok(answer) => match answer.json["order"]["state"].as_str() {
                Some("ORDER_STATE_COMPLETED") => Ended::As("completed".to_owned()),
                Some("ORDER_STATE_FAILED") => {
                    let reason = answer.json["order"]["failureReason"].as_str().unwrap_or_default();
                    Ended::As(reason.trim_start_matches("FAILURE_REASON_").to_lowercase())
                }
                _ => Ended::NotYet,
            },
            Err(_) => Ended::NotYet,
        }
    }

    async fn ask(&self, ask: Ask<'_>) -> Result<Answer, String> {
        let token = self.fresh_token().await;
        let headers = key::headers(self.key.as_deref());
        let sent = self.http.send(Ask { headers: &headers, ..ask.bearer(&token) }).await;
        sent.map_err(|error| crate::exit::chain(&error))
    }

    /// The token at hand, or a new one in time; the old one where nobody gives one.
    async fn fresh_token(&self) -> String {
        let at_hand = || self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (token, since) = at_hand();
        if since.elapsed() < TOKEN_AGE {
            return token;
        }
        let _one = self.logging_in.lock().await;
        let (token, since) = at_hand();
        if since.elapsed() < TOKEN_AGE {
            return token;
        }
        match demo::log_in(&self.http, &self.email, &self.password).await {
            Ok(new) => {
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = (new.clone(), Instant::now());
                new
            }
            Err(_) => token,
        }
    }
}

/// The outcome is unknown, or there was none: 502, 503, 504, and 429, which says to come back.
fn may_be_repeated(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    )
}
