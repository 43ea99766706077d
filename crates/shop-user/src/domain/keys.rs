//! When a token key is made, signs, and is forgotten.
//!
//! ```text
//!        made, published            signs                    next one signs       last token expired
//!   ──────────┬───────── ANNOUNCE ────┬──── ROTATE_EVERY ────────┬── TOKEN_LIFE + SKEW ──┐
//!             └──────────────────────── in the published set ────────────────────────────┘
//! ```
//!
//! A key is published before it signs, so that a verifier who asks for the set now and then has it when the first
//! token comes; and it stays published until the last token it signed is dead. The first key of all signs at once.

use chrono::{DateTime, TimeDelta, Utc};
use std::fmt;

/// How long a token is good for: short, because it cannot be taken back.
pub const TOKEN_LIFE: TimeDelta = TimeDelta::minutes(15);
/// How long a key signs. A day bounds what a stolen key is worth and keeps the set at two or three keys.
pub const ROTATE_EVERY: TimeDelta = TimeDelta::hours(24);
/// How long a key is published before it signs: longer than any verifier keeps its copy of the set.
pub const ANNOUNCE: TimeDelta = TimeDelta::minutes(30);
/// How far the clocks of replicas and verifiers may differ.
pub const SKEW: TimeDelta = TimeDelta::minutes(1);

/// An Ed25519 key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Counts the keys of this issuer; two replicas that make the same generation agree on the first.
    pub generation: i64,
    /// Its name in tokens and in the set.
    pub kid: String,
    /// The 32 secret bytes.
    pub secret: [u8; 32],
    /// From when it signs, until the next one does.
    pub signs_from: DateTime<Utc>,
}

/// All keys that are kept, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRing(Vec<SigningKey>);

impl KeyRing {
    /// In any order.
    pub fn new(mut keys: Vec<SigningKey>) -> Self {
        keys.sort_by_key(|key| key.generation);
        Self(keys)
    }

    /// The key to sign with.
    pub fn signing(&self, now: DateTime<Utc>) -> Option<&SigningKey> {
        self.0.iter().rfind(|key| key.signs_from <= now)
    }

    /// The keys whose tokens may be alive, or will be.
    pub fn published(&self, now: DateTime<Utc>) -> impl Iterator<Item = &SigningKey> {
        let next = self.0.iter().skip(1).map(|next| Some(next.signs_from)).chain([None]);
        let alive = move |(_, until): &(_, Option<DateTime<Utc>>)| until.is_none_or(|until| now < until + TOKEN_LIFE + SKEW);
        self.0.iter().zip(next).filter(alive).map(|(key, _)| key)
    }

    /// The generation to make now, and from when it signs; none while the newest will do.
    pub fn due(&self, now: DateTime<Utc>) -> Option<(i64, DateTime<Utc>)> {
        let Some(newest) = self.0.last() else { return Some((1, now)) };
        let end = newest.signs_from + ROTATE_EVERY;
        // After a long sleep of all replicas the old key signs on until the new one was announced.
        (end - ANNOUNCE <= now).then(|| (newest.generation + 1, end.max(now + ANNOUNCE)))
    }

    /// The oldest generation to keep.
    pub fn keep_from(&self, now: DateTime<Utc>) -> i64 {
        self.published(now).map(|key| key.generation).min().unwrap_or(0)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("signs_from", &self.signs_from).finish_non_exhaustive()
    }
}
