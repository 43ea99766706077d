//! Every payment as an event: for consumers that are new, or too late for what is kept.

use super::{SqlBooks, events::event};
use crate::domain::{Books, Page, PaymentId};
use sinew_core::BoxFuture;
use sinew_events::{NewEvent, Owned, PublicationError};
use uuid::Uuid;

impl Owned for SqlBooks {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(async move {
            let (mut events, mut after) = (Vec::new(), after.map(PaymentId));
            // Those whose outcome is open have nothing to tell, so a page may take more than one look.
            while events.len() < limit {
                let missing = limit - events.len();
                let page = Page { after, limit: i64::try_from(missing).unwrap_or(i64::MAX), state: None };
                let payments = self.list(page).await.map_err(|error| PublicationError(error.into()))?;
                events.extend(payments.iter().filter_map(event));
                match payments.last() {
                    Some(last) if payments.len() == missing => after = Some(last.id),
                    _ => break,
                }
            }
            Ok(events)
        })
    }
}
