//! Database URLs as they may be shown.

/// The URL with its password masked, for errors and logs.
pub(crate) fn redacted(url: &str) -> String {
    let (url, query) = url.split_once('?').map_or((url, None), |(url, query)| (url, Some(query)));
    let masked = url.split_once("://").and_then(|(scheme, rest)| {
        // The last @ ends the credentials: an unescaped one in a password must not uncover its tail.
        let (credentials, host) = rest.rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    });
    let mut shown = masked.unwrap_or_else(|| url.to_owned());
    for (i, pair) in query.into_iter().flat_map(|q| q.split('&')).enumerate() {
        shown.push(if i == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if name.contains("password") => shown.extend([name, "=***"]),
            _ => shown.push_str(pair),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for (url, shown) in [
            ("postgres://ann:secret@db/shop", "postgres://ann:***@db/shop"),
            ("postgres://ann:se:c@ret@db/shop", "postgres://ann:***@db/shop"),
            ("postgres://ann:se/cret@db/shop?a=b", "postgres://ann:***@db/shop?a=b"),
            ("postgres://db/shop?user=ann&password=secret", "postgres://db/shop?user=ann&password=***"),
            ("postgres://ann@db/shop", "postgres://ann@db/shop"),
            ("sqlite:///data/order.db", "sqlite:///data/order.db"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
