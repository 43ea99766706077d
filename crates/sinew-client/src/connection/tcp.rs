//! The real network.

use sinew_core::{BoxFuture, BoxIo, Connector, Endpoint};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};

/// How long an address of several is tried alone: the recommendation of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// How long what was sent may stay unacknowledged before the kernel gives the connection up: as long as a silent peer has to
/// answer PINGs. Without it the kernel would go on for a quarter of an hour with what was written to a peer that is gone.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Opens TCP connections: resolves names, and of several addresses takes the one that answers first (RFC 8305, "happy
/// eyeballs"): families in turn, each 250 ms after the one before, or as soon as that failed. Sets TCP_NODELAY (HTTP/2
/// writes whole frames; waiting for more to send only adds the peer's delayed acknowledgement) and, on Linux,
/// TCP_USER_TIMEOUT to 3 s.
///
/// Silent peers are noticed by HTTP/2 PINGs, which unlike TCP keepalive prove that the process lives.
///
/// # Cancel safety
///
/// Dropping `connect`'s future ends all attempts.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl Connector for TcpConnector {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> BoxFuture<'a, io::Result<BoxIo>> {
        Box::pin(async move {
            let addresses: Vec<_> = lookup_host((&*endpoint.host, endpoint.port)).await?.collect();
            let stream = match addresses.as_slice() {
                [only] => TcpStream::connect(only).await?,
                _ => first(in_turn(addresses), TcpStream::connect::<SocketAddr>).await?,
            };
            stream.set_nodelay(true)?;
            #[cfg(target_os = "linux")]
            socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
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

    #[tokio::test]
    async fn a_name_of_both_families_finds_the_one_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let endpoint = Endpoint::new("t-0", "localhost", port);
        let connected = timeout(Duration::from_secs(5), TcpConnector.connect(&endpoint)).await;
        connected.expect("in time").expect("by IPv4, whatever localhost is first");
    }
}
