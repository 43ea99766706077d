//! What a saga's progress means for its order, in the transaction that records it.

use super::{
    events::{self, Kind},
    rows,
};
use crate::domain::{FailureReason, OrderId, Progress, Purchase};
use sinew_core::{BoxFuture, Clock};
use sinew_events::Outbox;
use sinew_saga::{Change, Instance, Phase, Reason, Recorder};
use sinew_sql::{Result, Tx};
use std::sync::Arc;

/// Moves the order along with its saga, and tells of its end.
#[derive(Debug, Clone)]
pub(crate) struct OrderRecorder {
    outbox: Outbox,
    clock: Arc<dyn Clock>,
}

impl OrderRecorder {
    pub(crate) fn new(outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        Self { outbox, clock }
    }

    async fn advance(&self, tx: &mut Tx, id: OrderId, progress: Progress) -> Result<()> {
        let Some(mut order) = rows::lock(tx, id).await? else {
            tracing::error!(order_id = %id.0, "a saga without its order");
            return Ok(());
        };
        if !order.advance(progress, sinew_sql::now(&*self.clock)) {
            return Ok(());
        }
        rows::update(tx, &order).await?;
        match Kind::of(&order) {
            Some(kind) => events::append(&self.outbox, tx, kind, &order).await,
            None => Ok(()),
        }
    }
}

impl Recorder<Purchase> for OrderRecorder {
    fn record<'a>(
        &'a self,
        tx: &'a mut Tx,
        saga: &'a Instance<Purchase>,
        _phase: Phase,
        change: &'a Change,
    ) -> BoxFuture<'a, Result<()>> {
        let because = |reason: &Reason| (FailureReason::from_code(&reason.code), reason.detail.clone());
        let progress = match change {
            Change::Done(_) => Some(Progress::Processing),
            Change::Completed => Some(Progress::Completed),
            Change::Compensating(reason) => {
                let (reason, message) = because(reason);
                Some(Progress::Compensating(reason, message))
            }
            Change::Failed(reason) => {
                let (reason, message) = because(reason);
                Some(Progress::Failed(reason, message))
            }
            // Between its turning back and its end nothing changes for the customer.
            Change::Undone(_) | Change::Parked(..) => None,
        };
        Box::pin(async move {
            match progress {
                Some(progress) => self.advance(tx, OrderId(saga.id), progress).await,
                None => Ok(()),
            }
        })
    }
}
