//! An order and how it comes to its end.

use super::Money;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// An order's id, UUIDv7: ids sort as orders were placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub Uuid);

/// A customer's id: the subject of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CustomerId(pub Uuid);

/// A product's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProductId(pub Uuid);

/// Who asks, by a verified token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Whom the token is of.
    pub id: CustomerId,
    /// Whether they may see everybody's orders.
    pub admin: bool,
}

impl Caller {
    /// Users see their own orders, administrators all.
    pub fn may_see(&self, customer: CustomerId) -> bool {
        self.admin || self.id == customer
    }
}

/// Where an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// Accepted.
    Started,
    /// Being carried out.
    Processing,
    /// Carried out. Terminal.
    Completed,
    /// Being undone.
    Compensating,
    /// Undone. Terminal.
    Failed,
}

/// Why an order failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// There was too little of a product.
    InsufficientStock,
    /// The payment was declined.
    PaymentDeclined,
    /// Its customer cancelled it.
    Cancelled,
    /// It could not be carried out in time.
    TimedOut,
    /// A service refused for another reason.
    Refused,
}

impl FailureReason {
    /// The code a cancelled saga carries.
    pub const CANCELLED: &'static str = "CANCELLED";

    /// From the code of whoever refused.
    pub fn from_code(code: &str) -> Self {
        match code {
            "INSUFFICIENT_STOCK" => Self::InsufficientStock,
            "PAYMENT_DECLINED" => Self::PaymentDeclined,
            Self::CANCELLED => Self::Cancelled,
            // Codes of outcomes that stayed unknown for too long.
            "TIMED_OUT" | "UNAVAILABLE" | "DEADLINE_EXCEEDED" | "INTERNAL" | "UNKNOWN" | "ABORTED" | "RESOURCE_EXHAUSTED"
            | "DATA_LOSS" => Self::TimedOut,
            _ => Self::Refused,
        }
    }
}

/// So many of one product, at the name and price of the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLine {
    /// Which.
    pub product: ProductId,
    /// Its name then.
    pub name: String,
    /// How many.
    pub quantity: i64,
    /// For one, then.
    pub unit_price: Money,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id, and that of its saga, reservation and payment.
    pub id: OrderId,
    /// Whose.
    pub customer: CustomerId,
    /// The customer's name then.
    pub customer_name: String,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// The sum of the lines.
    pub total: Money,
    /// Where it is.
    pub state: OrderState,
    /// Why it failed or is being undone, and in words.
    pub failure: Option<(FailureReason, String)>,
    /// Grows by one with every change.
    pub version: i64,
    /// When it was placed.
    pub created: DateTime<Utc>,
    /// When it last changed.
    pub updated: DateTime<Utc>,
}

/// What the saga says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step is done.
    Processing,
    /// All are.
    Completed,
    /// It is being undone, for this reason.
    Compensating(FailureReason, String),
    /// It is undone, for this reason.
    Failed(FailureReason, String),
}

impl Order {
    /// Takes in what the saga says; whether that changed anything. An order that has ended stays as it is.
    pub fn advance(&mut self, progress: Progress, now: DateTime<Utc>) -> bool {
        let (state, failure) = match (self.state, progress) {
            (OrderState::Completed | OrderState::Failed, _) | (OrderState::Processing, Progress::Processing) => return false,
            (OrderState::Compensating, Progress::Processing | Progress::Completed | Progress::Compensating(..)) => return false,
            (OrderState::Started, Progress::Processing) => (OrderState::Processing, None),
            (OrderState::Started | OrderState::Processing, Progress::Completed) => (OrderState::Completed, None),
            (OrderState::Started | OrderState::Processing, Progress::Compensating(reason, message)) => {
                (OrderState::Compensating, Some((reason, message)))
            }
            (_, Progress::Failed(reason, message)) => (OrderState::Failed, Some((reason, message))),
        };
        (self.state, self.failure, self.updated) = (state, failure, now);
        self.version += 1;
        true
    }
}
