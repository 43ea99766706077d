//! What Sinew's client says of its endpoints while things happen to them.

use super::DEADLINE;
use anyhow::ensure;
use sinew_client::{Client, ConnectionState};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// When the client noticed.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    pub(super) out: Vec<Duration>,
    pub(super) back: Vec<Duration>,
}

impl Noticed {
    /// Whether each was soon enough.
    pub(super) fn within(&self, out: Duration, back: Duration) -> bool {
        self.out.iter().all(|time| *time <= out) && self.back.iter().all(|time| *time <= back)
    }
}

/// The longest, in milliseconds; none of nothing.
pub(super) fn longest_ms(times: &[Duration]) -> Option<f64> {
    times.iter().max().map(|time| time.as_secs_f64() * 1_000.0)
}

/// Endpoints in the rotation.
pub(super) fn ready(client: &Client) -> usize {
    let endpoints = client.describe().into_iter().flat_map(|destination| destination.endpoints);
    endpoints.filter(|endpoint| endpoint.connection == ConnectionState::Ready).count()
}

/// How long it takes until so many endpoints are in the rotation.
pub(super) async fn until(client: &Client, count: usize, began: Instant) -> anyhow::Result<Duration> {
    let mut ticks = interval(Duration::from_millis(1));
    while ready(client) != count {
        ticks.tick().await;
        ensure!(began.elapsed() < DEADLINE, "{} in the rotation, not {count}, after {DEADLINE:?}", ready(client));
    }
    Ok(began.elapsed())
}

/// When the last call was sent to an endpoint that answers none, while it is away: those under way can only become more.
pub(super) async fn last_call(client: &Client, endpoint: usize, began: Instant, away: Duration) -> Duration {
    let (mut ticks, mut last, mut most) = (interval(Duration::from_millis(1)), Duration::ZERO, 0);
    while began.elapsed() < away {
        ticks.tick().await;
        let endpoints = client.describe().into_iter().flat_map(|destination| destination.endpoints);
        let under_way = endpoints.skip(endpoint).map(|endpoint| endpoint.in_flight).next().unwrap_or_default();
        if under_way > most {
            (last, most) = (began.elapsed(), under_way);
        }
    }
    last
}
