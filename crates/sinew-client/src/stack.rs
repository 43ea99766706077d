//! What happens to a call, in order: the one place where the layers are put together, for production and tests alike.

use crate::{
    balance::Balance,
    deadline::{Deadline, DeadlineLayer},
    destination::Shared,
    fault::{FaultLayer, Faults},
    observe::{Observe, ObserveLayer},
    retry::{Retry, RetryLayer},
};
use std::sync::Arc;
use tower::ServiceBuilder;

/// The stack of one destination.
pub(crate) type Stack = Deadline<Observe<Retry<Faults<Balance>>>>;

/// Builds it. `poll_ready` of every layer is ready at once: clones of a channel would reserve and leak, so permits are
/// taken in `call`.
pub(crate) fn build(destination: &Arc<Shared>) -> Stack {
    ServiceBuilder::new()
        // The end of the call is known before anything is spent on it.
        .layer(DeadlineLayer::new(&destination.config))
        // One record per call, however many attempts it takes.
        .layer(ObserveLayer::new(destination.clone()))
        // Attempts, each with an endpoint of its own.
        .layer(RetryLayer::new(destination.clone()))
        // Faults of no endpoint, where they are asked for.
        .layer(FaultLayer::new(destination.clone()))
        // Picks the endpoint, with its breaker's permit and a place for a stream, and sends the attempt there:
        // `endpoint` (in flight, statistics, verdict for the breaker), then `connection` (one HTTP/2 stream).
        .service(Balance::new(destination.clone()))
}
