//! Who the client is, when proxies stand between.
//!
//! `X-Forwarded-For` is written by whoever sends it. Only the entries that a proxy of ours appended can be believed, so
//! the list is read from its end for as long as the hop before is one of ours.

use http::HeaderMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write 10.0.0.0/8 or an address")]
pub struct CidrError(String);

impl Cidr {
    /// Whether the address is in it. An IPv4 address that is written as IPv6 is the IPv4 one.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                (Ipv4Addr::to_bits(ours) ^ Ipv4Addr::to_bits(theirs)) & mask == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                (Ipv6Addr::to_bits(ours) ^ Ipv6Addr::to_bits(theirs)) & mask == 0
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| error())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(longest);
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(error()) }
    }
}

/// The client's address: the peer's own, unless it is a proxy of ours that says otherwise.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[Cidr]) -> IpAddr {
    let ours = |address: IpAddr| proxies.iter().any(|p| p.contains(address));
    let mut client = peer.to_canonical();
    if proxies.is_empty() || !ours(client) {
        return client;
    }
    let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|v| v.to_str().ok());
    let hops: Vec<_> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    for hop in hops.into_iter().rev() {
        // What is no address was not written by a proxy of ours.
        let Ok(hop) = hop.parse::<IpAddr>() else { break };
        client = hop.to_canonical();
        if !ours(client) {
            break;
        }
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let proxies = ["10.0.0.0/8", "fd00::/8"].map(|p| p.parse().expect("network"));
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(line).expect("ascii"));
        }
        client(peer.parse().expect("address"), &headers, &proxies).to_string()
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        assert_eq!(seen("203.0.113.9", &["1.1.1.1"]), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(seen("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        // What the client wrote itself stands further left.
        assert_eq!(seen("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["1.1.1.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9, unknown"]), "10.0.0.1");
        assert_eq!(seen("fd00::1", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn networks_are_read_and_what_is_none_is_refused() {
        let has = |net: &str, address: &str| net.parse::<Cidr>().expect("network").contains(address.parse().expect("address"));
        assert!(has("0.0.0.0/0", "8.8.8.8") && has("::/0", "2001::1") && has("192.0.2.1", "192.0.2.1"));
        assert!(!has("192.0.2.0/31", "192.0.2.2") && !has("10.0.0.0/8", "::1"));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "x", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
