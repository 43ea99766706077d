//! Placing orders a moment before the news of their products arrives.

use super::{Error, Order, Orders, Place};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long to wait for news of a product or customer: events take milliseconds, and somebody waits for the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often to look meanwhile: news may reach the store through another replica, so nobody tells us.
const LOOK: Duration = Duration::from_millis(50);

/// Places an order; what it names and nobody knows yet is waited for up to a second.
///
/// # Cancel safety
///
/// As [`Orders::place`].
pub async fn place(orders: &impl Orders, wish: &Place) -> Result<Order, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match orders.place(wish).await {
            Err(Error::ProductUnknown(_) | Error::CustomerUnknown) if Instant::now() + LOOK <= until => sleep(LOOK).await,
            result => return result,
        }
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

    /// Knows the product at the n-th look, and refuses it then: an order is not what is tested here.
    #[derive(Clone)]
    struct Late {
        at: u32,
        looks: Arc<AtomicU32>,
    }

    impl Orders for Late {
        async fn place(&self, wish: &Place) -> Result<Order, Error> {
            let known = self.looks.fetch_add(1, Relaxed) + 1 >= self.at;
            Err(if known { Error::MixedCurrencies } else { Error::ProductUnknown(vec![wish.cart.lines()[0].product]) })
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

    async fn place_at(at: u32) -> (Error, Duration) {
        let line = CartLine { product: ProductId(Uuid::from_u128(1)), quantity: 1 };
        let wish = Place {
            customer: CustomerId(Uuid::from_u128(2)),
            cart: Cart::new(vec![line]).unwrap(),
            payment_token: "tok_ok".into(),
            key: "k".into(),
        };
        let start = Instant::now();
        let error = place(&Late { at, looks: Arc::default() }, &wish).await.unwrap_err();
        (error, start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_products_are_waited_for_up_to_a_second() {
        let (known, waited) = place_at(4).await;
        assert!(matches!(known, Error::MixedCurrencies) && waited == 3 * LOOK, "{known:?} after {waited:?}");
        let (unknown, waited) = place_at(u32::MAX).await;
        assert!(matches!(unknown, Error::ProductUnknown(_)) && waited == PATIENCE, "{unknown:?} after {waited:?}");
        let (refused, waited) = place_at(0).await;
        assert!(matches!(refused, Error::MixedCurrencies) && waited.is_zero());
    }
}
