//! Verification of tokens: JWTs signed with EdDSA (RFC 8037), and nothing else.
//!
//! The algorithm is fixed here, never taken from the token: `none` and a public key used as an HMAC secret are the two
//! classic forgeries. Claims that must be there: `sub`, `role`, `iss`, `aud`, `exp`.

use super::{JwkSet, KeyError, KeySource};
use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, fmt, sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};
use tonic::Status;

/// How often an unknown key id may make us ask the source: made-up ids must not become a flood of requests.
const ASK_AT_MOST: Duration = Duration::from_secs(1);

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user's id.
    pub sub: String,
    /// What the user may do.
    pub role: Role,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Own things only.
    Customer,
    /// Everything.
    Admin,
}

/// Which tokens are meant for us.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// `iss`: who made it.
    pub issuer: String,
    /// `aud`: whom it is for.
    pub audience: String,
    /// Difference between clocks that is let pass.
    pub leeway: Duration,
}

impl Default for TokenRules {
    fn default() -> Self {
        // Half a minute: NTP keeps clocks far closer, and it is little beside a token's 15 minutes.
        Self { issuer: "sinew".into(), audience: "sinew".into(), leeway: Duration::from_secs(30) }
    }
}

/// Verifies tokens with keys that it fetches and keeps.
pub struct Verifier {
    source: Arc<dyn KeySource>,
    validation: Validation,
    keys: ArcSwap<Keys>,
    asked: Mutex<Option<Asked>>,
}

/// The last time the source was asked, and what came of it.
struct Asked {
    at: Instant,
    outcome: Result<(), KeyError>,
}

#[derive(Default)]
struct Keys {
    by_id: HashMap<String, DecodingKey>,
    fetched: Option<Instant>,
}

impl Keys {
    fn new(set: &JwkSet) -> Self {
        let usable = set.keys.iter().filter(|k| k.kty == "OKP" && k.crv == "Ed25519" && (k.alg.is_empty() || k.alg == "EdDSA"));
        let by_id = usable.filter_map(|k| Some((k.kid.clone(), DecodingKey::from_ed_components(&k.x).ok()?))).collect();
        Self { by_id, fetched: Some(Instant::now()) }
    }
}

impl Verifier {
    /// Keys are fetched when first needed.
    pub fn new(source: Arc<dyn KeySource>, rules: &TokenRules) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&rules.issuer]);
        validation.set_audience(&[&rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = rules.leeway.as_secs();
        Self { source, validation, keys: ArcSwap::default(), asked: Mutex::new(None) }
    }

    /// Verifies with the keys at hand; `None` when the source must be asked first.
    pub(crate) fn verify_cached(&self, token: &str) -> Option<Result<Claims, Status>> {
        let kid = match key_id(token) {
            Ok(kid) => kid,
            Err(status) => return Some(Err(status)),
        };
        let keys = self.keys.load();
        let fresh = keys.fetched.is_some_and(|at| at.elapsed() < self.source.max_age());
        keys.by_id.get(&kid).filter(|_| fresh).map(|key| self.check(token, key))
    }

    /// Verifies, and asks the source for keys where that is needed.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED for a token that is no good; UNAVAILABLE when the source gives no keys.
    pub async fn verify(&self, token: &str) -> Result<Claims, Status> {
        if let Some(verdict) = self.verify_cached(token) {
            return verdict;
        }
        let refreshed = self.refresh().await;
        let kid = key_id(token)?;
        match (self.keys.load().by_id.get(&kid), refreshed) {
            // Old keys are better than none while the source is away.
            (Some(key), _) => self.check(token, key),
            (None, Ok(())) => Err(Status::unauthenticated("the token's key is unknown")),
            (None, Err(error)) => {
                tracing::debug!(%error, "no keys to verify tokens with");
                Err(Status::unavailable("the keys to verify tokens with cannot be had"))
            }
        }
    }

    /// Fetches the keys, unless that was just done. Concurrent callers wait for one fetch.
    ///
    /// # Errors
    ///
    /// What the source says.
    pub async fn refresh(&self) -> Result<(), KeyError> {
        let mut asked = self.asked.lock().await;
        if let Some(last) = asked.as_ref().filter(|last| last.at.elapsed() < ASK_AT_MOST) {
            return last.outcome.clone();
        }
        let at = Instant::now();
        let outcome = self.source.keys().await.map(|set| self.keys.store(Arc::new(Keys::new(&set))));
        if let Err(error) = &outcome {
            tracing::warn!(%error, "the keys to verify tokens with cannot be had; those at hand are used");
        }
        *asked = Some(Asked { at, outcome: outcome.clone() });
        outcome
    }

    fn check(&self, token: &str, key: &DecodingKey) -> Result<Claims, Status> {
        let verdict = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        verdict.map(|data| data.claims).map_err(|e| Status::unauthenticated(reason(e.kind())))
    }
}

/// The key that the token names. Its algorithm is looked at here so that the answer can say what was wrong.
fn key_id(token: &str) -> Result<String, Status> {
    let header = jsonwebtoken::decode_header(token).map_err(|_| Status::unauthenticated("the token is malformed"))?;
    if header.alg != Algorithm::EdDSA {
        return Err(Status::unauthenticated("the token is not signed with EdDSA"));
    }
    header.kid.ok_or_else(|| Status::unauthenticated("the token names no key"))
}

fn reason(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is from another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks a claim",
        _ => "the token is malformed",
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("source", &self.source).finish_non_exhaustive()
    }
}
