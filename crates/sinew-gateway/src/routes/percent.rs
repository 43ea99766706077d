//! Percent-decoding of paths and queries (RFC 3986).

use std::borrow::Cow;

/// Text that does not decode to UTF-8, or holds a `%` without two hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not percent-encoded UTF-8")]
pub(crate) struct NotText;

/// Decodes a path segment, or with `plus` a part of a query, where `+` is a space.
pub(crate) fn decode(text: &str, plus: bool) -> Result<Cow<'_, str>, NotText> {
    if !text.bytes().any(|b| b == b'%' || (plus && b == b'+')) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16)).ok_or(NotText);
                // Two digits make at most 255.
                u8::try_from(digit()? * 16 + digit()?).map_err(|_| NotText)?
            }
            b'+' if plus => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| NotText)
}

#[cfg(test)]
mod tests {
    use super::{NotText, decode};

    #[test]
    fn only_text_comes_out() {
        assert_eq!(decode("a%20b%C3%A4+", false).as_deref(), Ok("a bä+"));
        assert_eq!(decode("a+b", true).as_deref(), Ok("a b"));
        for bad in ["%", "%2", "%zz", "%ff", "%c3"] {
            assert_eq!(decode(bad, false), Err(NotText), "{bad}");
        }
    }
}
