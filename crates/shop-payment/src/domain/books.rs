//! The port to where payments are kept.

use super::{Charge, Error, Payment, PaymentId, StateName};

/// What [`Books::open`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The payment as it stands.
    pub payment: Payment,
    /// Whether this call wrote it: then nobody has asked the provider yet.
    pub new: bool,
}

/// A page in the order of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only in this state.
    pub state: Option<StateName>,
    /// Only ids after this one.
    pub after: Option<PaymentId>,
    /// At most so many.
    pub limit: i64,
}

/// Keeps payments. Each method is one transaction: after an error nothing has changed.
///
/// # Cancel safety
///
/// A dropped future has either changed everything or nothing.
pub trait Books: Send + Sync + 'static {
    /// Records the intent to charge, or finds what was recorded under that id.
    fn open(&self, charge: &Charge) -> impl Future<Output = Result<Opened, Error>> + Send;

    /// Records the intent to refund: Pending and Charged become Refunding, nothing becomes a tombstone, all else stays.
    fn open_refund(&self, id: PaymentId) -> impl Future<Output = Result<Payment, Error>> + Send;

    /// Records `next` with its event if the payment is still at the version before it; answers what is recorded in
    /// the end, by whomever.
    fn record(&self, next: &Payment) -> impl Future<Output = Result<Payment, Error>> + Send;

    /// One payment.
    fn get(&self, id: PaymentId) -> impl Future<Output = Result<Payment, Error>> + Send;

    /// A page of payments.
    fn list(&self, page: Page) -> impl Future<Output = Result<Vec<Payment>, Error>> + Send;
}
