//! How deep JSON nests, before any parser recurses into it.

/// Whether objects and lists nest deeper than `limit`. Looks at brackets outside of strings; whether the rest is JSON is
/// the parser's business.
pub(super) fn exceeds(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut bytes) = (0usize, json.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::exceeds;

    #[test]
    fn brackets_count_only_outside_of_strings() {
        assert!(!exceeds(br#"{"a":[{}]}"#, 3));
        assert!(exceeds(br#"{"a":[{}]}"#, 2));
        assert!(!exceeds(br#"{"a":"[[[[\"[[["}"#, 1));
        assert!(exceeds("[".repeat(1 << 20).as_bytes(), 32));
        assert!(!exceeds(br#"[],[],[]"#, 1));
        assert!(!exceeds(br#"["\"#, 1));
    }
}
