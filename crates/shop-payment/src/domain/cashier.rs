//! Charging and refunding over a provider that may be slow, silent or repeated.
//!
//! No transaction is open while the provider is asked. The order is always: write down what is about to be asked, ask,
//! write down the answer. Whoever comes upon an intent without an answer asks the provider about it first, so dying at
//! any place costs at most a second look.

use super::{Books, Charge, Error, Outcome, Page, Payment, PaymentId, PaymentState, Provider, ProviderError};
use sinew_core::{Clock, failpoint, planted};
use std::{sync::Arc, time::Duration};

/// How long one question to the provider may take. Card networks answer within seconds; the caller's own deadline
/// (10 s unless it says otherwise) must leave room for the look-up that follows a charge without an answer.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(3);

/// Charges and refunds.
#[derive(Debug)]
pub struct Cashier<B, P> {
    books: B,
    provider: P,
    clock: Arc<dyn Clock>,
}

impl<B: Books, P: Provider> Cashier<B, P> {
    /// Over these books and this provider.
    pub fn new(books: B, provider: P, clock: Arc<dyn Clock>) -> Self {
        Self { books, provider, clock }
    }

    /// Takes the money once, however often it is asked to.
    ///
    /// [`Error::Declined`] and [`Error::Refunded`] are final; [`Error::OutcomeUnknown`], [`Error::Provider`] and
    /// [`Error::Unavailable`] ask for a repeat.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any place, a repeat ends as if nothing had happened.
    pub async fn charge(&self, charge: &Charge) -> Result<Payment, Error> {
        let opened = self.books.open(charge).await?;
        failpoint!("payment.charge.after_intent");
        let payment = opened.payment;
        if !payment.is_for(charge) {
            return Err(Error::OtherCharge);
        }
        if payment.state != PaymentState::Pending {
            return payment.answer();
        }
        // Another request, maybe in a process that is gone, may have charged already.
        let known = if opened.new || planted!(ChargeWithoutAsking) { None } else { self.find(charge.id).await? };
        let outcome = match known {
            Some(outcome) => outcome,
            None => self.take(charge).await?,
        };
        failpoint!("payment.charge.after_provider");
        let recorded = match payment.settled(&outcome, self.now()) {
            Some(next) => self.books.record(&next).await?,
            // Closed: a refund was faster. It has said so in the books before it told the provider.
            None => self.books.get(charge.id).await?,
        };
        failpoint!("payment.charge.after_commit");
        recorded.answer()
    }

    /// Gives back whatever was or will have been taken; a charge that arrives later is refused.
    ///
    /// A payment that was declined stays so, and one that never was becomes [`PaymentState::Voided`].
    ///
    /// # Cancel safety
    ///
    /// Dropped at any place, a repeat ends as if nothing had happened.
    pub async fn refund(&self, id: PaymentId) -> Result<Payment, Error> {
        let payment = self.books.open_refund(id).await?;
        failpoint!("payment.refund.after_intent");
        if payment.state != PaymentState::Refunding {
            return Ok(payment);
        }
        failpoint!("payment.refund.before_provider");
        let undone = in_time(self.provider.undo(id)).await?;
        failpoint!("payment.refund.after_provider");
        let Some(next) = payment.undone(undone, self.now()) else { return Ok(payment) };
        let recorded = self.books.record(&next).await?;
        failpoint!("payment.refund.after_commit");
        Ok(recorded)
    }

    /// One payment.
    pub async fn get(&self, id: PaymentId) -> Result<Payment, Error> {
        self.books.get(id).await
    }

    /// A page of payments in the order of their ids.
    pub async fn list(&self, page: Page) -> Result<Vec<Payment>, Error> {
        self.books.list(page).await
    }

    async fn take(&self, charge: &Charge) -> Result<Outcome, Error> {
        failpoint!("payment.charge.before_provider");
        match in_time(self.provider.charge(charge)).await {
            Ok(outcome) => Ok(outcome),
            // It may have been taken and only the answer lost. Not found proves nothing: it may still be on its way.
            Err(ProviderError::OutcomeUnknown) => self.find(charge.id).await?.ok_or(Error::OutcomeUnknown),
            Err(error) => Err(error.into()),
        }
    }

    async fn find(&self, id: PaymentId) -> Result<Option<Outcome>, Error> {
        Ok(in_time(self.provider.find(id)).await?)
    }

    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now().into()
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    tokio::time::timeout(PROVIDER_TIMEOUT, question).await.unwrap_or(Err(ProviderError::OutcomeUnknown))
}
