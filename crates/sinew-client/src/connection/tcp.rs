//! The real network.

use crate::config::ConnectionConfig;
use sinew_core::{BoxFuture, BoxIo, Connector, Endpoint};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};

/// How long an address of several is tried alone: the recommendation of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// Opens TCP connections: resolves names, and of several addresses takes the one that answers first (RFC 8305, "happy
/// eyeballs"): families in turn, each 250 ms after the one before, or as soon as that failed. Sets TCP_NODELAY (HTTP/2
/// writes whole frames; waiting for more to send only adds the peer's delayed acknowledgement) and, on Linux,
/// TCP_USER_TIMEOUT.
///
/// Silent peers are noticed by HTTP/2 PINGs, which unlike TCP keepalive prove that the process lives.
///
/// # Cancel safety
///
/// Dropping `connect`'s future ends all attempts.
#[derive(Debug, Clone, Copy)]
pub struct TcpConnector {
    /// How long what was sent may stay unacknowledged before the kernel gives the connection up. Without it the kernel would
    /// go on for a quarter of an hour with what was written to a peer that is gone.
    unacknowledged: Duration,
}

impl Default for TcpConnector {
    /// For the default settings: TCP_USER_TIMEOUT is 3 s.
    fn default() -> Self {
        Self::new(&ConnectionConfig::default())
    }
}

impl TcpConnector {
    /// TCP_USER_TIMEOUT is as long as a peer may be silent while calls are under way: `keepalive_interval` and
    /// `keepalive_timeout` together.
    pub fn new(config: &ConnectionConfig) -> Self {
        Self { unacknowledged: config.keepalive_interval.saturating_add(config.keepalive_timeout) }
    }

    fn set_up(self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(stream).set_tcp_user_timeout(Some(self.unacknowledged))?;
        Ok(())
    }
}

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let addresses: Vec<_> = lookup_host((&*endpoint.host, endpoint.port)).await?.collect();
            let stream = match addresses.as_slice() {
                [only] => TcpStream::connect(only).await?,
                _ => first(in_turn(addresses), TcpStream::connect::<SocketAddr>).await?,
            };
            self.set_up(&stream)?;
            Ok(Box::new(stream) as BoxIo)
        })
    }
}

/// Both families in turn, each in the resolver's order, beginning with the one that it prefers.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == preferred);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all = Vec::with_capacity(one.len() + other.len());
    while one.len() + other.len() > 0 {
        all.extend(one.next());
        all.extend(other.next());
    }
    all
}

/// The first connection of these addresses, or the error of the first that failed.
async fn first<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let (mut attempts, mut failed, mut left) = (JoinSet::new(), None, addresses.into_iter());
    loop {
        if let Some(address) = left.next() {
            attempts.spawn(connect(address));
        }
        tokio::select! {
            biased;
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(connected))) => return Ok(connected),
                Some(Ok(Err(error))) => failed = failed.or(Some(error)),
                Some(Err(panicked)) => failed = failed.or(Some(io::Error::other(panicked))),
                None => return Err(failed.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))),
            },
            () = sleep(HEAD_START), if left.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_core::Endpoint;
    use tokio::{
        net::TcpListener,
        time::{Instant, timeout},
    };

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split(' ').map(|address| address.parse().expect("an address")).collect()
    }

    #[test]
    fn families_take_turns() {
        let all = in_turn(addresses("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1"));
        assert_eq!(all, addresses("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"));
    }

    /// An address's port says what becomes of it: after so many milliseconds it answers, or fails if it is odd.
    async fn dial(address: SocketAddr) -> io::Result<u16> {
        sleep(Duration::from_millis(address.port().into())).await;
        if address.port() % 2 == 1 { Err(io::Error::other(address.to_string())) } else { Ok(address.port()) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_delays_the_next_by_a_quarter_of_a_second() {
        for (all, expected, ms) in [
            ("[::1]:60000 1.1.1.1:10", Some(10), 260),
            // Within its head start it is the only one.
            ("[::1]:200 1.1.1.1:10", Some(200), 200),
            // One that fails is followed at once.
            ("[::1]:5 1.1.1.1:10", Some(10), 15),
            ("[::1]:5 1.1.1.1:7", None, 12),
            ("[::1]:300 1.1.1.1:100", Some(300), 300),
        ] {
            let start = Instant::now();
            let connected = first(addresses(all), dial).await;
            assert_eq!((connected.as_ref().ok().copied(), start.elapsed().as_millis()), (expected, ms), "{all}");
            if let Err(error) = connected {
                assert_eq!(error.to_string(), "[::1]:5", "the first failure");
            }
        }
        assert_eq!(first(vec![], dial).await.expect_err("no address").kind(), io::ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_gives_up_when_the_settings_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis(1));
        for (interval, answer, expected) in
            [(second, 2 * second, 3 * second), (10 * second, 5 * second, 15 * second), (ms, ms, 2 * ms)]
        {
            let config =
                ConnectionConfig { keepalive_interval: interval, keepalive_timeout: answer, ..ConnectionConfig::default() };
            let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
            TcpConnector::new(&config).set_up(&stream).expect("set up");
            let set = socket2::SockRef::from(&stream).tcp_user_timeout().expect("read");
            assert_eq!(set, Some(expected), "{interval:?}, {answer:?}");
        }
        assert_eq!(TcpConnector::default().unacknowledged, 3 * second);
    }

    #[tokio::test]
    async fn a_name_of_both_families_finds_the_one_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let endpoint = Endpoint::new("t-0", "localhost", port);
        let connected = timeout(Duration::from_secs(5), TcpConnector::default().connect(&endpoint)).await;
        connected.expect("in time").expect("by IPv4, whatever localhost is first");
    }
}
