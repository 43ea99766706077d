//! Where the keys that verify tokens come from.

use serde::{Deserialize, Serialize};
use sinew_core::BoxFuture;
use std::{fmt, path::PathBuf, time::Duration};

/// A JSON Web Key Set (RFC 7517).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JwkSet {
    /// The keys. Those of other kinds than Ed25519 are passed over.
    pub keys: Vec<Jwk>,
}

/// A public Ed25519 key (RFC 8037).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// Key type: "OKP".
    pub kty: String,
    /// Curve: "Ed25519".
    #[serde(default)]
    pub crv: String,
    /// The public key, base64url without padding.
    #[serde(default)]
    pub x: String,
    /// Id that tokens name.
    #[serde(default)]
    pub kid: String,
    /// "EdDSA".
    #[serde(default)]
    pub alg: String,
    /// "sig".
    #[serde(default, rename = "use")]
    pub usage: String,
}

/// Why keys could not be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("keys from {origin}: {reason}")]
pub struct KeyError {
    /// The file, or the service.
    pub origin: String,
    /// What went wrong.
    pub reason: String,
}

/// Gives the current keys. The caller keeps them and does not ask often.
pub trait KeySource: fmt::Debug + Send + Sync {
    /// All keys that may have signed a token that is still good.
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>>;

    /// How long keys are used without asking again: one that was withdrawn is refused after that. Five minutes where
    /// asking means a call, a third of a token's life.
    fn max_age(&self) -> Duration {
        Duration::from_secs(300)
    }
}

/// Keys in a file: a JSON Web Key Set.
#[derive(Debug, Clone)]
pub struct FileKeys {
    path: PathBuf,
}

impl FileKeys {
    /// Reads `path` whenever it is asked.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl KeySource for FileKeys {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        Box::pin(async move {
            let error = |reason: String| KeyError { origin: self.path.display().to_string(), reason };
            let text = tokio::fs::read(&self.path).await.map_err(|e| error(e.to_string()))?;
            serde_json::from_slice(&text).map_err(|e| error(e.to_string()))
        })
    }

    /// Reading a small file every few seconds costs nothing, and a changed one is honoured soon.
    fn max_age(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// Keys that never change.
#[derive(Debug, Clone)]
pub struct FixedKeys(pub JwkSet);

impl KeySource for FixedKeys {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}
