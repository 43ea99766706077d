//! The order saga: reserve stock, charge the payment, confirm the order; undone in reverse.

use crate::domain::{Inventory, OrderId, Payments, Purchase, Receipt};
use sinew_core::BoxFuture;
use sinew_saga::{Definition, Failure, Instance, Recorder, Step, StepTiming, Timing};
use std::sync::Arc;

/// The saga's name: in its rows, metrics and failpoints.
pub(crate) const NAME: &str = "order";

/// The saga over these services, telling this recorder.
pub(crate) fn definition(
    inventory: Arc<dyn Inventory>,
    payments: Arc<dyn Payments>,
    recorder: impl Recorder<Purchase> + 'static,
    timing: Timing,
) -> Definition<Purchase> {
    // A card network may take 3 s, and a look after a lost answer another 3.
    let slow = StepTiming { attempt: Some(timing.attempt * 4), ..StepTiming::default() };
    Definition::new(NAME, recorder)
        .step(ReserveStock(inventory))
        .step_in(slow, ChargePayment(payments))
        .step(ConfirmOrder)
        .timing(timing)
}

struct ReserveStock(Arc<dyn Inventory>);

impl Step<Purchase> for ReserveStock {
    const NAME: &'static str = "reserve";
    type Output = ();

    fn act<'a>(&'a self, saga: &'a Instance<Purchase>) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.reserve(OrderId(saga.id), &saga.data)
    }

    fn undo<'a>(&'a self, saga: &'a Instance<Purchase>) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.release(OrderId(saga.id))
    }
}

struct ChargePayment(Arc<dyn Payments>);

impl Step<Purchase> for ChargePayment {
    const NAME: &'static str = "charge";
    /// Whoever gives money back by hand needs the bank's own reference, when the payment service cannot be asked.
    type Output = Receipt;

    fn act<'a>(&'a self, saga: &'a Instance<Purchase>) -> BoxFuture<'a, Result<Receipt, Failure>> {
        self.0.charge(OrderId(saga.id), &saga.data)
    }

    fn undo<'a>(&'a self, saga: &'a Instance<Purchase>) -> BoxFuture<'a, Result<(), Failure>> {
        self.0.refund(OrderId(saga.id))
    }
}

/// Has its effect in the recorder alone: the order is completed, or cancelled, in the transaction that says so.
struct ConfirmOrder;

impl Step<Purchase> for ConfirmOrder {
    const NAME: &'static str = "confirm";
    type Output = ();

    fn act<'a>(&'a self, _: &'a Instance<Purchase>) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
}

/// The places where a test may end the process: `SINEW_FAILPOINT=<name>=kill`, see [`mod@sinew_core::failpoint`]. Those of
/// undoing the confirmation are left out: it is its own commit, so nobody doubts it, and after it nothing is undone.
pub fn failpoints() -> Vec<String> {
    let own = ["order.place.before_commit", "order.place.after_commit", "order.cancel.before_commit", "order.cancel.after_commit"];
    let steps = [ReserveStock::NAME, ChargePayment::NAME, ConfirmOrder::NAME];
    let steps = steps.into_iter().flat_map(|step| sinew_saga::failpoints(NAME, step));
    let never = format!("{NAME}.saga.{}.undo.", ConfirmOrder::NAME);
    own.into_iter().map(str::to_owned).chain(steps).filter(|place| !place.starts_with(&never)).collect()
}
