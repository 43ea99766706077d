//! Waiting for a condition instead of for time, and ports to wait on.

use anyhow::{Context, bail};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tokio::time::Instant;

/// Often enough that a test ends within a blink of its condition, seldom enough to leave two cores to what is tested.
const POLL: Duration = Duration::from_millis(10);

/// Asks `probe` until it answers `Ok`, and fails with the last state it told once `limit` has passed.
///
/// A probe that hangs is cut off at the limit. Not for tests with paused time: there the clock runs ahead of the world.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut probe: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let deadline = Instant::now() + limit;
    let mut state = "never answered".to_owned();
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(now)) => state = now,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}; last state: {state}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until something accepts TCP connections on this loopback port.
pub async fn wait_for_port(what: &str, port: u16, limit: Duration) -> anyhow::Result<()> {
    wait_for(what, limit, async || {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        tokio::net::TcpStream::connect(to).await.map(drop).map_err(|e| format!("{to}: {e}"))
    })
    .await
}

/// A loopback port that is free now, for programs that cannot be asked to take port 0 and tell which they got.
///
/// It lies below the range from which Linux takes the ports of outgoing connections, so that none of those steals it
/// before its program starts, and each process searches from a place of its own.
pub fn free_port() -> anyhow::Result<u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // 7919 is prime to COUNT: processes with neighbouring ids start far apart.
        let step = std::process::id().wrapping_mul(7919).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + step % COUNT).context("a port")?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_condition_that_never_holds_ends_with_its_last_state() {
        let mut asked = 0;
        let failed = wait_for("the moon", Duration::from_millis(30), async || {
            asked += 1;
            Err::<(), _>(format!("asked {asked} times"))
        })
        .await
        .unwrap_err();
        assert!(failed.to_string().starts_with("the moon: not within 30ms; last state: asked"), "{failed}");
    }

    #[tokio::test]
    async fn a_probe_that_hangs_is_cut_off() {
        let failed = wait_for("an answer", Duration::from_millis(30), async || std::future::pending::<Result<(), String>>().await);
        assert!(failed.await.unwrap_err().to_string().contains("never answered"));
    }

    #[test]
    fn ports_differ_and_are_free() {
        let (one, two) = (free_port().unwrap(), free_port().unwrap());
        assert_ne!(one, two);
        TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
    }
}
