//! A steady load: each call begins when it is due, whether or not earlier ones were answered, so that a server which is slow or
//! away cannot slow down those who measure it.

use std::time::Duration;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};

/// Makes `rate` calls a second as long as `goes_on`, and waits for the last of them. Calls are told their number and when they
/// are due, from the beginning on; `ended` is told each one's end.
///
/// # Cancel safety
///
/// Dropping it drops the calls under way.
pub(crate) async fn steady<F>(
    rate: u32,
    goes_on: impl Fn(Duration) -> bool,
    mut call: impl FnMut(u32, Duration) -> F,
    mut ended: impl FnMut(Result<F::Output, JoinError>),
) where
    F: Future<Output: Send> + Send + 'static,
{
    let (start, mut calls) = (Instant::now(), JoinSet::new());
    for n in 0u32.. {
        let due = Duration::from_secs(1) * n / rate;
        if !goes_on(due) {
            break;
        }
        sleep_until(start + due).await;
        calls.spawn(call(n, due));
        while let Some(one) = calls.try_join_next() {
            ended(one);
        }
    }
    while let Some(one) = calls.join_next().await {
        ended(one);
    }
}
