//! Key rotation over any history of checks, and who may log in.

use super::*;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

fn key(generation: i64, signs_from: DateTime<Utc>) -> SigningKey {
    SigningKey { generation, kid: format!("k{generation}"), secret: [0; 32], signs_from }
}

#[test]
fn the_first_key_signs_at_once() {
    let now = DateTime::<Utc>::UNIX_EPOCH;
    assert_eq!(KeyRing::default().due(now), Some((1, now)));
    assert_eq!(KeyRing::default().signing(now), None);
}

proptest! {
    /// However irregularly a replica checks, there is always a key to sign with, every key but the first was published
    /// ANNOUNCE before it signs, and a key leaves the set only when its last token is dead.
    #[test]
    fn rotation_never_leaves_a_gap(steps in proptest::collection::vec(1i64..5_000, 1..400)) {
        let mut now = DateTime::<Utc>::UNIX_EPOCH;
        let mut ring = KeyRing::default();
        let mut kept: Vec<SigningKey> = Vec::new();
        let mut signed: Vec<(i64, DateTime<Utc>)> = Vec::new();
        for minutes in steps {
            if let Some((generation, signs_from)) = ring.due(now) {
                prop_assert!(generation == 1 || signs_from >= now + ANNOUNCE);
                kept.retain(|key| key.generation >= ring.keep_from(now));
                kept.push(key(generation, signs_from));
                ring = KeyRing::new(kept.clone());
            }
            prop_assert_eq!(ring.due(now), None);
            signed.push((ring.signing(now).unwrap().generation, now + TOKEN_LIFE));
            signed.retain(|(_, dies)| *dies > now);
            let published: Vec<i64> = ring.published(now).map(|key| key.generation).collect();
            prop_assert!(signed.iter().all(|(by, _)| published.contains(by)), "{:?} {:?}", signed, published);
            prop_assert!(kept.len() <= 3);
            now += TimeDelta::minutes(minutes);
        }
    }
}
