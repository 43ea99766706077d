//! Verification of tokens: JWTs signed with EdDSA (RFC 8037), and nothing else.
//!
//! The algorithm is fixed here, never taken from the token: `none` and a public key used as an HMAC secret are the two
//! classic forgeries. Claims that must be there: `sub`, `role`, `iss`, `aud`, `exp`.

use super::{JwkSet, KeyError, KeySource};
use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

/// How often an unknown key id may make us ask the source: made-up ids must not become a flood of requests.
const ASK_AT_MOST: Duration = Duration::from_secs(1);

/// How long the source may take. A key set is one small answer; whoever needs longer is frozen.
const ANSWER: Duration = Duration::from_secs(3);

/// How long a call waits for newer keys though the one it needs is at hand: as long as a healthy source takes to say that
/// a key was withdrawn. A source that failed last time is not waited for at all.
const PATIENCE: Duration = Duration::from_millis(250);

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

/// Verifies tokens with keys that it fetches and keeps. Keys at hand are used while the source is away: no call waits for
/// one that is gone or frozen.
pub struct Verifier {
    source: Arc<dyn KeySource>,
    validation: Validation,
    keys: Arc<ArcSwap<Keys>>,
    asking: Mutex<Option<Asking>>,
}

/// The last time the source was asked.
struct Asking {
    at: Instant,
    /// Whether the time before went well.
    healthy: bool,
    outcome: watch::Receiver<Option<Outcome>>,
    _task: AbortOnDropHandle<()>,
}

type Outcome = Result<(), KeyError>;

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
        Self { source, validation, keys: Arc::default(), asking: Mutex::default() }
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
        let kid = key_id(token)?;
        let (mut outcome, patience) = self.ask();
        // Whoever has no key can only wait; the asking itself is bounded.
        let known = self.keys.load().by_id.contains_key(&kid);
        let refreshed = timeout(if known { patience } else { 2 * ANSWER }, answer(&mut outcome)).await;
        match (self.keys.load().by_id.get(&kid), refreshed) {
            // Old keys are better than none while the source is away.
            (Some(key), _) => self.check(token, key),
            (None, Ok(Ok(()))) => Err(Status::unauthenticated("the token's key is unknown")),
            (None, _) => Err(Status::unavailable("the keys to verify tokens with cannot be had")),
        }
    }

    /// Fetches the keys, unless that was just done. Concurrent callers wait for one fetch.
    ///
    /// # Errors
    ///
    /// What the source says.
    ///
    /// # Cancel safety
    ///
    /// A dropped wait leaves the fetch going, for others.
    pub async fn refresh(&self) -> Result<(), KeyError> {
        answer(&mut self.ask().0).await
    }

    /// The asking that is under way or was just done, else a new one; and how long to wait for it with a key at hand.
    fn ask(&self) -> (watch::Receiver<Option<Outcome>>, Duration) {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let last = asking.as_ref().map(|last| (last, last.outcome.borrow().as_ref().map(Result::is_ok)));
        if let Some((last, done)) = &last
            && (done.is_none() || last.at.elapsed() < ASK_AT_MOST)
        {
            let patience = if last.healthy { PATIENCE.saturating_sub(last.at.elapsed()) } else { Duration::ZERO };
            return (last.outcome.clone(), patience);
        }
        let healthy = last.is_none_or(|(_, done)| done == Some(true));
        let (told, outcome) = watch::channel(None);
        let (source, keys) = (self.source.clone(), self.keys.clone());
        let task = tokio::spawn(async move {
            let late = || KeyError { origin: format!("{source:?}"), reason: format!("no answer within {ANSWER:?}") };
            let answer = timeout(ANSWER, source.keys()).await.map_err(|_| late()).flatten();
            let outcome = answer.map(|set| keys.store(Arc::new(Keys::new(&set))));
            if let Err(error) = &outcome {
                tracing::warn!(%error, "the keys to verify tokens with cannot be had; those at hand are used");
            }
            told.send_replace(Some(outcome));
        });
        *asking = Some(Asking { at: Instant::now(), healthy, outcome: outcome.clone(), _task: AbortOnDropHandle::new(task) });
        (outcome, if healthy { PATIENCE } else { Duration::ZERO })
    }

    fn check(&self, token: &str, key: &DecodingKey) -> Result<Claims, Status> {
        let verdict = jsonwebtoken::decode::<Claims>(token, key, &self.validation);
        verdict.map(|data| data.claims).map_err(|e| Status::unauthenticated(reason(e.kind())))
    }
}

/// What comes of an asking.
async fn answer(outcome: &mut watch::Receiver<Option<Outcome>>) -> Outcome {
    let told = outcome.wait_for(Option::is_some).await.ok().and_then(|told| told.clone());
    // Only the end of the runtime ends an asking without an outcome.
    told.unwrap_or_else(|| Err(KeyError { origin: "the keys".into(), reason: "the program is ending".into() }))
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
