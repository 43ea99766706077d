//! The key of load generators: who shows it is in a class of its own.

use http::{HeaderMap, HeaderName};
use std::{fmt, str::FromStr, sync::Arc};

/// Where a request shows it. It never reaches a service: only headers that are known pass.
const HEADER: HeaderName = HeaderName::from_static("x-sinew-load-key");

/// The shortest key: 128 bits in hexadecimal digits.
const SHORTEST: usize = 32;

/// A secret between the gateway and load generators.
#[derive(Clone, PartialEq, Eq)]
pub struct LoadKey(Arc<str>);

impl LoadKey {
    /// Whether the request shows this key. Takes as long for a key that is nearly right as for one that is all wrong.
    pub(crate) fn shown(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let (mine, theirs) = (self.0.as_bytes(), value.as_bytes());
        mine.len() == theirs.len() && mine.iter().zip(theirs).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl FromStr for LoadKey {
    type Err = &'static str;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        let fits = key.len() >= SHORTEST && key.bytes().all(|b| b.is_ascii_alphanumeric());
        if fits { Ok(Self(key.into())) } else { Err("not a key; use 32 or more letters and digits") }
    }
}

impl fmt::Debug for LoadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoadKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_key_once_is_the_key() {
        let text = "0123456789abcdef0123456789abcdef";
        let key: LoadKey = text.parse().expect("a key");
        let shown = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, value.parse().expect("a header"));
            }
            key.shown(&headers)
        };
        assert!(shown(&[text]));
        for wrong in [&[][..], &[""], &["0123456789abcdef0123456789abcdeF"], &[text, text], &["0123"]] {
            assert!(!shown(wrong), "{wrong:?}");
        }
        assert!("short".parse::<LoadKey>().is_err() && !format!("{key:?}").contains("0123"));
    }
}
