//! The port through which the rules reach what is stored.

use super::{Error, Lines, ProductId, Reservation, ReservationId, StateName, Stock};

/// Who asks: idempotency keys of different callers never meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub String);

/// A change of what lies in the warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// Of what.
    pub product: ProductId,
    /// How many came (positive) or went (negative).
    pub delta: i64,
    /// A repeat with the same key answers what the first one did.
    pub key: String,
    /// Whose key.
    pub caller: Caller,
}

/// A page in the order of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Only in this state.
    pub state: Option<StateName>,
    /// Only ids after this one.
    pub after: Option<ReservationId>,
    /// At most so many.
    pub limit: i64,
}

/// Where stock and reservations are kept. Each method is one transaction: after an error nothing has changed.
///
/// # Cancel safety
///
/// A dropped future has either changed everything or nothing; the same request may be sent again.
pub trait Warehouse: Clone + Send + Sync + 'static {
    /// The stock of one product; [`Error::NotFound`] when none was ever recorded.
    fn stock(&self, product: ProductId) -> impl Future<Output = Result<Stock, Error>> + Send;

    /// Changes what lies in the warehouse, and tells so by an event.
    fn adjust(&self, adjustment: &Adjustment) -> impl Future<Output = Result<Stock, Error>> + Send;

    /// Promises all lines or none. See [`reserve`](super::reserve) for repeats.
    fn reserve(&self, id: ReservationId, lines: &Lines) -> impl Future<Output = Result<Reservation, Error>> + Send;

    /// Takes the promise back; always succeeds, also before the reserve arrives.
    fn release(&self, id: ReservationId) -> impl Future<Output = Result<Reservation, Error>> + Send;

    /// A page of reservations in the order of their ids.
    fn reservations(&self, page: Page) -> impl Future<Output = Result<Vec<Reservation>, Error>> + Send;
}
