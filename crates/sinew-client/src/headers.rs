//! The gRPC headers this crate reads and writes. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sinew_core::classify::Code;
use std::time::Duration;

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(crate) const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
pub(crate) const REPEATED: HeaderName = HeaderName::from_static(sinew_core::context::REPEATED);
pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
pub(crate) const CRITICALITY: HeaderName = HeaderName::from_static(sinew_core::criticality::HEADER);
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Faults that a call asks for itself: those of Envoy's fault filter and of gRFC A33.
pub(crate) const FAULT_ABORT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-grpc-request");
pub(crate) const FAULT_ABORT_PERCENT: HeaderName = HeaderName::from_static("x-envoy-fault-abort-request-percentage");
pub(crate) const FAULT_DELAY: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request");
pub(crate) const FAULT_DELAY_PERCENT: HeaderName = HeaderName::from_static("x-envoy-fault-delay-request-percentage");

/// Up to so many headers are looked through one by one, which is cheaper than to hash the name that is looked for.
const FEW: usize = 8;

/// The first value under this name.
pub(crate) fn get<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    if headers.len() > FEW {
        return headers.get(name);
    }
    headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
}

/// The longest time `grpc-timeout` can say: eight digits of hours.
const LONGEST: Duration = Duration::from_secs(99_999_999 * 3600);

/// Reads `grpc-timeout`; malformed ones are as good as absent.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = get(headers, &GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

/// Writes `grpc-timeout` in the finest unit whose eight digits hold it, rounded down: a server that gives up a little
/// early does no work in vain.
///
/// The value is marked sensitive unless it is a whole number of seconds: what hardly repeats must not push what does
/// out of the connection's HPACK table.
pub(crate) fn timeout_value(timeout: Duration) -> HeaderValue {
    const DIGITS: u128 = 99_999_999;
    let timeout = timeout.min(LONGEST);
    let (value, unit) = if timeout.subsec_nanos() == 0 && u128::from(timeout.as_secs()) <= DIGITS {
        (u128::from(timeout.as_secs()), 'S')
    } else if timeout.as_micros() <= DIGITS {
        (timeout.as_micros(), 'u')
    } else if timeout.as_millis() <= DIGITS {
        (timeout.as_millis(), 'm')
    } else if u128::from(timeout.as_secs()) <= DIGITS {
        (u128::from(timeout.as_secs()), 'S')
    } else {
        (u128::from(timeout.as_secs() / 3600), 'H')
    };
    let mut header = HeaderValue::try_from(format!("{value}{unit}")).unwrap_or(HeaderValue::from_static("0S"));
    header.set_sensitive(unit != 'S');
    header
}

/// The server's own word on when to come back: `grpc-retry-pushback-ms`.
pub(crate) enum Pushback {
    After(Duration),
    /// Negative or unreadable, which gRFC A6 takes for a no.
    Never,
}

pub(crate) fn pushback(headers: &HeaderMap) -> Option<Pushback> {
    let value = get(headers, &PUSHBACK)?;
    let ms = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    Some(ms.map_or(Pushback::Never, |ms| Pushback::After(Duration::from_millis(ms.into()))))
}

/// The status in headers or trailers, if they carry one.
pub(crate) fn code(headers: &HeaderMap) -> Option<Code> {
    let value = get(headers, &GRPC_STATUS)?;
    // The usual answer, without parsing.
    if value.as_bytes() == b"0" {
        return Some(Code::Ok);
    }
    Some(value.to_str().ok().and_then(|s| s.parse().ok()).map_or(Code::Unknown, Code::from_number))
}

/// What an HTTP status means where no gRPC status came (`http-grpc-status-mapping.md`).
pub(crate) fn code_of_http(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_round_trip_in_the_finest_unit_that_fits() {
        for (duration, text) in [
            (Duration::from_secs(10), "10S"),
            (Duration::from_millis(1500), "1500000u"),
            (Duration::from_nanos(1_999), "1u"),
            (Duration::from_millis(100_000_001), "100000S"),
            (Duration::from_millis(99_999_999), "99999999m"),
            (Duration::MAX, "99999999H"),
        ] {
            let value = timeout_value(duration);
            assert_eq!(value.to_str().expect("ascii"), text, "{duration:?}");
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, value)]);
            assert!(timeout(&headers).expect("valid") <= duration);
        }
    }

    #[test]
    fn malformed_time_outs_are_absent() {
        for bad in ["", "S", "10", "1x", "123456789S", "-1S", "1.5S", "+1S"] {
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_static(bad))]);
            assert_eq!(timeout(&headers), None, "{bad}");
        }
    }

    #[test]
    fn statuses_that_make_no_sense_are_unknown() {
        for (text, code_) in [("0", Code::Ok), ("14", Code::Unavailable), ("99", Code::Unknown), ("x", Code::Unknown)] {
            let headers = HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(text))]);
            assert_eq!(code(&headers), Some(code_));
        }
        assert_eq!(code(&HeaderMap::new()), None);
    }
}
