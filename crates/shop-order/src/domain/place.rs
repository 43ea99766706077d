//! Placing orders a moment before the news of their products arrives.

use super::{Error, Order, Orders, Place};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long to wait for news of a product: events take milliseconds, somebody waits for the answer, and an id that was
/// made up must not be waited for longer.
const PRODUCT: Duration = Duration::from_secs(1);

/// How long to wait for news of a customer. A verified token says that there is one, so only the news can be late: when
/// the replica that follows users dies just then, another does within 3 s.
const CUSTOMER: Duration = Duration::from_secs(4);

/// How often to look meanwhile: news may reach the store through another replica, so nobody tells us.
const LOOK: Duration = Duration::from_millis(50);

/// Places an order; a product that nobody knows yet is waited for up to 1 s, the customer up to 4 s.
///
/// # Cancel safety
///
/// As [`Orders::place`].
pub async fn place(orders: &impl Orders, wish: &Place) -> Result<Order, Error> {
    let start = Instant::now();
    loop {
        let result = orders.place(wish).await;
        let patience = match &result {
            Err(Error::ProductUnknown(_)) => PRODUCT,
            Err(Error::CustomerUnknown) => CUSTOMER,
            _ => return result,
        };
        if start.elapsed() + LOOK > patience {
            return result;
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cancel, Cart, CartLine, CustomerId, OrderId, Page, ProductId};
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    };
    use uuid::Uuid;

    #[derive(Clone, Copy)]
    enum What {
        Product,
        Customer,
    }

    /// Knows it at the n-th look, and refuses then: an order is not what is tested here.
    #[derive(Clone)]
    struct Late {
        late: What,
        at: u32,
        looks: Arc<AtomicU32>,
    }

    impl Orders for Late {
        async fn place(&self, wish: &Place) -> Result<Order, Error> {
            let known = self.looks.fetch_add(1, Relaxed) + 1 >= self.at;
            Err(match self.late {
                _ if known => Error::MixedCurrencies,
                What::Product => Error::ProductUnknown(vec![wish.cart.lines()[0].product]),
                What::Customer => Error::CustomerUnknown,
            })
        }
        async fn get(&self, _: OrderId) -> Result<Order, Error> {
            Err(Error::NotFound)
        }
        async fn list(&self, _: Page) -> Result<Vec<Order>, Error> {
            Ok(Vec::new())
        }
        async fn cancel(&self, _: &Cancel) -> Result<Order, Error> {
            Err(Error::NotFound)
        }
    }

    async fn place_at(late: What, at: u32) -> (Error, Duration) {
        let line = CartLine { product: ProductId(Uuid::from_u128(1)), quantity: 1 };
        let wish = Place {
            customer: CustomerId(Uuid::from_u128(2)),
            cart: Cart::new(vec![line]).unwrap(),
            payment_token: "tok_ok".into(),
            key: "k".into(),
        };
        let start = Instant::now();
        let error = place(&Late { late, at, looks: Arc::default() }, &wish).await.unwrap_err();
        (error, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_late_is_waited_for_as_long_as_it_deserves() {
        let (known, waited) = place_at(What::Product, 4).await;
        assert!(matches!(known, Error::MixedCurrencies) && waited == 3 * LOOK, "{known:?} after {waited:?}");
        let (unknown, waited) = place_at(What::Product, u32::MAX).await;
        assert!(matches!(unknown, Error::ProductUnknown(_)) && waited == PRODUCT, "{unknown:?} after {waited:?}");
        let (unknown, waited) = place_at(What::Customer, u32::MAX).await;
        assert!(matches!(unknown, Error::CustomerUnknown) && waited == CUSTOMER, "{unknown:?} after {waited:?}");
        let (refused, waited) = place_at(What::Product, 0).await;
        assert!(matches!(refused, Error::MixedCurrencies) && waited.is_zero());
    }
}
