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
