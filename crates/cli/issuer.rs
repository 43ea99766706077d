//! The development issuer: tokens for people who try the system out before there is anybody to log in.
//!
//! Its Ed25519 key and the matching JSON Web Key Set lie in the data directory, readable by their owner alone. Services
//! verify its tokens by that set, exactly as they verify a real issuer's.

use crate::exit::Exit;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{
    Signer, SigningKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding},
};
use rand::RngCore;
use serde_json::json;
use sha2::{Digest, Sha256};
use sinew_server::{Role, TokenRules};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A key of one data directory.
pub(crate) struct Issuer {
    key: SigningKey,
    jwks: PathBuf,
}

impl Issuer {
    /// Opens the issuer of a data directory, making it first where there is none.
    pub(crate) fn open(data: &Path) -> Result<Self, Exit> {
        let folder = data.join("dev-issuer");
        let cannot = |e: &dyn std::fmt::Display| {
            Exit::unavailable(format!(
                "the development issuer in {} cannot be used: {e}; delete it to have a new one",
                folder.display()
            ))
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|e| cannot(&e))?;
        let (pem, jwks) = (folder.join("key.pem"), folder.join("jwks.json"));
        let text = match fs::read_to_string(&pem) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let mut secret = [0; 32];
                rand::rng().fill_bytes(&mut secret);
                let made = SigningKey::from_bytes(&secret).to_pkcs8_pem(LineEnding::LF).map_err(|e| cannot(&e))?;
                // Two commands may get here together: whoever links first decides for both.
                publish(&pem, made.as_bytes(), Publish::Once).map_err(|e| cannot(&e))?;
                fs::read_to_string(&pem).map_err(|e| cannot(&e))?
            }
            Err(e) => return Err(cannot(&e)),
        };
        let key = SigningKey::from_pkcs8_pem(&text).map_err(|e| cannot(&e))?;
        let issuer = Self { key, jwks };
        let set = issuer.set();
        if fs::read_to_string(&issuer.jwks).ok().as_deref() != Some(set.as_str()) {
            publish(&issuer.jwks, set.as_bytes(), Publish::Replace).map_err(|e| cannot(&e))?;
        }
        Ok(issuer)
    }

    /// The file with which its tokens are verified.
    #[cfg(test)]
    pub(crate) fn jwks(&self) -> &Path {
        &self.jwks
    }

    /// A token for `user`, good for `ttl` from `now` on.
    pub(crate) fn token(&self, user: &str, role: Role, now: SystemTime, ttl: Duration) -> String {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid() });
        let rules = TokenRules::default();
        let claims = json!({
            "iss": rules.issuer,
            "aud": rules.audience,
            "sub": user,
            "role": role,
            "iat": now,
            "exp": now + ttl.as_secs(),
        });
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
    }

    fn x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    /// The key's thumbprint (RFC 7638, RFC 8037): the same key has the same name everywhere.
    fn kid(&self) -> String {
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.x());
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
    }

    fn set(&self) -> String {
        let key = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid(), "x": self.x() });
        format!("{:#}\n", json!({ "keys": [key] }))
    }
}

/// What a file that is there already means.
enum Publish {
    Once,
    Replace,
}

/// Puts a file in place whole, readable by its owner alone: no reader ever sees half of it.
fn publish(path: &Path, content: &[u8], how: Publish) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    match how {
        Publish::Replace => fs::rename(&draft, path),
        Publish::Once => {
            let linked = fs::hard_link(&draft, path);
            fs::remove_file(&draft)?;
            linked.or_else(|e| if e.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(e) })
        }
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sinew_core::{Clock, SystemClock};
    use sinew_server::{FileKeys, Verifier};
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn services_verify_its_tokens_by_the_published_set() {
        let data = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(data.path()).unwrap();
        let verifier = Verifier::new(std::sync::Arc::new(FileKeys::new(issuer.jwks())), &TokenRules::default());
        let (now, minute) = (SystemClock.now(), Duration::from_secs(60));
        let claims = verifier.verify(&issuer.token("ada", Role::Admin, now, minute)).await.unwrap();
        assert_eq!((claims.sub.as_str(), claims.role), ("ada", Role::Admin));

        let old = issuer.token("ada", Role::Customer, now - 10 * minute, minute);
        assert_eq!(verifier.verify(&old).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    }

    #[test]
    fn the_key_stays() {
        let data = tempfile::tempdir().unwrap();
        let token = || Issuer::open(data.path()).unwrap().token("ada", Role::Customer, UNIX_EPOCH, Duration::from_secs(1));
        assert_eq!(token(), token());
    }

    #[test]
    fn only_its_owner_reads_the_key() {
        let data = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(data.path()).unwrap();
        for file in [issuer.jwks().to_owned(), issuer.jwks().with_file_name("key.pem")] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_key_is_refused_with_a_way_out() {
        let data = tempfile::tempdir().unwrap();
        let pem = Issuer::open(data.path()).unwrap().jwks().with_file_name("key.pem");
        fs::write(pem, "no key").unwrap();
        let refused = Issuer::open(data.path()).unwrap_err();
        assert_eq!(refused.code(), 69);
        assert!(refused.to_string().contains("delete it to have a new one"), "{refused}");
    }
}
