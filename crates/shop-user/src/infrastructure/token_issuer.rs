//! Signs tokens with the keys that all replicas share, and makes the next key in time.

use crate::domain::{Error, KeyRing, KeyStore, Role, SigningKey, TOKEN_LIFE, Token, Tokens, User};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, SubsecRound, Utc};
use ed25519_dalek::{SigningKey as Ed25519, pkcs8::EncodePrivateKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rand::TryRngCore;
use serde::{Deserialize, Serialize};
use sinew::{Jwk, JwkSet, KeyError, KeySource};
use sinew_core::{BoxFuture, Clock};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};
use uuid::Uuid;

/// Who says so and to whom, in every token: what the servers' token rules ask for by default.
const ISSUER: &str = "sinew";
const AUDIENCE: &str = "sinew";

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who issued it.
    pub iss: String,
    /// For whom.
    pub aud: String,
    /// The user's id.
    pub sub: String,
    /// `customer` or `admin`.
    pub role: String,
    /// When it was issued, in seconds since 1970.
    pub iat: i64,
    /// Until when it is good.
    pub exp: i64,
    /// This token's own id.
    pub jti: String,
}

/// Issues tokens. Clones share what was last read of the keys.
#[derive(Debug, Clone)]
pub struct Issuer<K> {
    keys: K,
    clock: Arc<dyn Clock>,
    ring: Arc<RwLock<Arc<KeyRing>>>,
}

impl<K: KeyStore> Issuer<K> {
    /// Reads the keys, and makes the first if there is none.
    pub async fn new(keys: K, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let issuer = Self { keys, clock, ring: Arc::default() };
        issuer.refresh().await?;
        Ok(issuer)
    }

    /// Reads the keys again and makes the next one when it is due. To be called every minute or so: a key is announced
    /// long before it signs, so nobody minds when.
    pub async fn refresh(&self) -> Result<Arc<KeyRing>, Error> {
        let now = self.now();
        let mut ring = self.keys.keys().await?;
        if let Some((generation, signs_from)) = ring.due(now) {
            let keep_from = ring.keep_from(now);
            let key = new_key(generation, signs_from.trunc_subsecs(6))?;
            ring = self.keys.add(&key, keep_from).await?;
            tracing::info!(generation, %signs_from, "a token key was made");
        }
        let ring = Arc::new(ring);
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring.clone();
        Ok(ring)
    }

    /// The keys that verify what is, was lately and will soon be signed (RFC 8037).
    pub async fn published(&self) -> Result<Vec<Jwk>, Error> {
        let now = self.now();
        let public = |key: &SigningKey| Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: BASE64_URL_SAFE_NO_PAD.encode(Ed25519::from_bytes(&key.secret).verifying_key()),
            kid: key.kid.clone(),
            alg: "EdDSA".into(),
            usage: "sig".into(),
        };
        Ok(self.refresh().await?.published(now).map(public).collect())
    }

    fn now(&self) -> DateTime<Utc> {
        self.clock.now().into()
    }

    fn known(&self) -> Arc<KeyRing> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<K: KeyStore> Tokens for Issuer<K> {
    async fn issue(&self, user: &User) -> Result<Token, Error> {
        let now = self.now();
        let mut ring = self.known();
        if ring.due(now).is_some() {
            ring = self.refresh().await?;
        }
        let key = ring.signing(now).ok_or_else(|| Error::Crypto("no token key signs yet".into()))?;
        let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        let claims = Claims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: user.id.0.to_string(),
            role: match user.role {
                Role::Customer => "customer".into(),
                Role::Admin => "admin".into(),
            },
            iat: now.timestamp(),
            exp: (now + TOKEN_LIFE).timestamp(),
            jti: Uuid::now_v7().to_string(),
        };
        let secret = Ed25519::from_bytes(&key.secret).to_pkcs8_der().map_err(crypto)?;
        let bearer = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ed_der(secret.as_bytes())).map_err(crypto)?;
        Ok(Token { bearer, expires_in: TOKEN_LIFE.num_seconds() })
    }
}

impl<K: KeyStore + fmt::Debug> KeySource for Issuer<K> {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        Box::pin(async {
            let keys = self.published().await;
            let keys = keys.map_err(|e| KeyError { origin: "the store of token keys".into(), reason: e.to_string() })?;
            Ok(JwkSet { keys })
        })
    }
}

fn new_key(generation: i64, signs_from: DateTime<Utc>) -> Result<SigningKey, Error> {
    let mut secret = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut secret).map_err(crypto)?;
    Ok(SigningKey { generation, kid: Uuid::now_v7().to_string(), secret, signs_from })
}

fn crypto(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Crypto(Box::new(error))
}
