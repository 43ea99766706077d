//! What keeps calls together: the hash of a header, or of a field of the request.

use crate::{call::Call, message_limit::PREFIX, request_body::RequestBody};
use http::{HeaderMap, HeaderName};
use sinew_core::service_config::HashKey;
use xxhash_rust::xxh64::xxh64;

/// The call's hash; none without the header, with a field that has its default and so is not in the message, or with a message
/// that is compressed.
pub(super) fn hash<B>(key: &HashKey, call: &Call<RequestBody<B>>) -> Option<u64> {
    match key {
        HashKey::Header(name) => of_header(&call.headers, name),
        HashKey::Field(number) => match &call.body {
            // The first byte of the prefix says whether the message is compressed.
            RequestBody::Whole(body) if body.first() == Some(&0) => of_field(body.get(PREFIX..)?, *number),
            RequestBody::Whole(_) | RequestBody::Stream(_) => None,
        },
    }
}

/// Of all its values, joined with commas, as gRFC A76 has it.
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let rest: Vec<_> = values.map(|value| value.as_bytes()).collect();
    if rest.is_empty() {
        return Some(xxh64(first.as_bytes(), 0));
    }
    let all: Vec<_> = std::iter::once(first.as_bytes()).chain(rest).collect();
    Some(xxh64(&all.join(&b','), 0))
}

/// Of the field's last value, as protobuf has it, in a message that is not compressed. What is no message has none.
fn of_field(mut message: &[u8], number: u32) -> Option<u64> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let value = value(&mut message, tag & 7)?;
        if tag >> 3 == u64::from(number) {
            found = Some(value);
        }
    }
    found.map(|value| xxh64(value, 0))
}

/// The bytes of a field of this wire type. <https://protobuf.dev/programming-guides/encoding/>
fn value<'a>(message: &mut &'a [u8], wire_type: u64) -> Option<&'a [u8]> {
    let length = match wire_type {
        0 => {
            let before = *message;
            varint(message)?;
            return before.get(..before.len() - message.len());
        }
        1 => 8,
        2 => varint(message)?,
        5 => 4,
        // Groups have not been written for ten years.
        _ => return None,
    };
    let (value, rest) = message.split_at_checked(usize::try_from(length).ok()?)?;
    *message = rest;
    Some(value)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn all_values_of_a_header_count() {
        let name = HeaderName::from_static("x-user");
        let hash = |values: &[&'static str]| {
            let all = values.iter().map(|value| (name.clone(), HeaderValue::from_static(value)));
            of_header(&all.collect(), &name)
        };
        assert_eq!(hash(&[]), None);
        assert_eq!(hash(&["a"]), Some(xxh64(b"a", 0)));
        assert_eq!(hash(&["a", "b"]), Some(xxh64(b"a,b", 0)));
    }

    #[test]
    fn the_last_value_of_a_field_counts() {
        // 1: varint 300, 2: "ab", 3: fixed32, 4: fixed64, 2: "c".
        let message = b"\x08\xac\x02\x12\x02ab\x1d\x01\0\0\0\x21\x02\0\0\0\0\0\0\0\x12\x01c";
        let expected: [&[u8]; 4] = [b"\xac\x02", b"c", b"\x01\0\0\0", b"\x02\0\0\0\0\0\0\0"];
        for (number, value) in (1..).zip(expected) {
            assert_eq!(of_field(message, number), Some(xxh64(value, 0)), "field {number}");
        }
        assert_eq!((of_field(message, 5), of_field(b"", 1)), (None, None));
        // Cut off, a group, a number without an end.
        for broken in
            [&message[..message.len() - 1], b"\x0b\x0c", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x12\xff\x7f"]
        {
            assert_eq!(of_field(broken, 1), None, "{broken:?}");
        }
    }
}
