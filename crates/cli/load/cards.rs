//! Which payment tokens are used, and how often.

use std::str::FromStr;

/// Shares of payment tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cards(Vec<(&'static str, u32)>);

const KNOWN: [(&str, &str); 3] = [("ok", "tok_ok"), ("declined", "tok_declined"), ("timeout", "tok_timeout")];

impl Cards {
    /// The token of the n-th order: as evenly spread as the shares allow, and the same in every run.
    pub(crate) fn pick(&self, n: u32) -> &'static str {
        let total: u64 = self.0.iter().map(|(_, share)| u64::from(*share)).sum();
        // A step that has no divisor in common with most totals goes through all of them before it repeats.
        let mut at = u64::from(n) * 7_919 % total.max(1);
        for (token, share) in &self.0 {
            match at.checked_sub(u64::from(*share)) {
                Some(rest) => at = rest,
                None => return token,
            }
        }
        KNOWN[0].1
    }
}

impl FromStr for Cards {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no mix; write ok=90,declined=8,timeout=2");
        let mut cards = Vec::new();
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or_else(wrong)?;
            let (_, token) = KNOWN.iter().find(|(known, _)| *known == name.trim()).ok_or_else(wrong)?;
            cards.push((*token, share.trim().parse::<u32>().ok().filter(|s| *s <= 1_000_000).ok_or_else(wrong)?));
        }
        if cards.iter().all(|(_, share)| *share == 0) { Err(wrong()) } else { Ok(Self(cards)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_and_nonsense_is_refused() {
        let cards: Cards = "ok=90,declined=8,timeout=2".parse().unwrap();
        let count = |token| (0..1_000).filter(|n| cards.pick(*n) == token).count();
        assert_eq!((count("tok_ok"), count("tok_declined"), count("tok_timeout")), (900, 80, 20));
        for bad in ["", "ok", "ok=x", "gold=1", "ok=0"] {
            assert!(bad.parse::<Cards>().is_err(), "{bad}");
        }
    }
}
