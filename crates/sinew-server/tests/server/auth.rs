//! Who gets in: every rule against every kind of token.

use crate::harness::{Running, config, start};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{SigningKey, pkcs8::EncodePrivateKey};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sinew_core::BoxFuture;
use sinew_proto::{
    admin::v1::{GetInfoRequest, ListDestinationsRequest, admin_service_client::AdminServiceClient},
    events::v1::{GetLagRequest, SnapshotRequest, events_service_client::EventsServiceClient},
};
use sinew_server::{Claims, FileKeys, Jwk, JwkSet, KeyError, KeySource, Role, TokenRules, Verifier};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tonic::{Code, Request};

struct Issuer(SigningKey, &'static str);

impl Issuer {
    fn new(seed: u8, kid: &'static str) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]), kid)
    }
    fn public(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.verifying_key().as_bytes())
    }
    fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: self.public(),
            kid: self.1.into(),
            alg: "EdDSA".into(),
            usage: "sig".into(),
        }
    }
    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.1.into());
        let key = EncodingKey::from_ed_der(self.0.to_pkcs8_der().unwrap().as_bytes());
        jsonwebtoken::encode(&header, claims, &key).unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens live in real time")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims(role: &str) -> Value {
    json!({"sub": "u1", "role": role, "iss": "sinew", "aud": "sinew", "exp": now() + 900})
}

fn with(mut claims: Value, key: &str, value: Value) -> Value {
    claims[key] = value;
    claims
}

/// Keys that a test can change.
#[derive(Debug, Clone, Default)]
struct Keys(Arc<Mutex<(JwkSet, usize)>>);

/// Has none to give.
#[derive(Debug)]
struct NoKeys;

impl KeySource for NoKeys {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        Box::pin(async { Err(KeyError { origin: "nowhere".into(), reason: "gone".into() }) })
    }
}

impl KeySource for Keys {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        Box::pin(async {
            let mut keys = self.0.lock().unwrap();
            keys.1 += 1;
            Ok(keys.0.clone())
        })
    }
}

async fn server(keys: &Keys) -> Running {
    let mut config = config();
    config.verifier = Some(Arc::new(Verifier::new(Arc::new(keys.clone()), &TokenRules::default())));
    start(config).await
}

fn request<T>(message: T, authorization: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", value.parse().unwrap());
    }
    request
}

/// Codes for a PUBLIC, USER, ADMIN and INTERNAL method.
async fn codes(server: &Running, authorization: Option<&str>) -> [Code; 4] {
    let mut admin = AdminServiceClient::new(server.channel().await);
    let mut events = EventsServiceClient::new(server.channel().await);
    [
        admin.get_info(request(GetInfoRequest {}, authorization)).await.map_or_else(|s| s.code(), |_| Code::Ok),
        admin.list_destinations(request(ListDestinationsRequest {}, authorization)).await.map_or_else(|s| s.code(), |_| Code::Ok),
        events.snapshot(request(SnapshotRequest::default(), authorization)).await.map_or_else(|s| s.code(), |_| Code::Ok),
        events.get_lag(request(GetLagRequest {}, authorization)).await.map_or_else(|s| s.code(), |_| Code::Ok),
    ]
}

#[tokio::test]
async fn each_rule_lets_in_whom_it_should() {
    let (keys, issuer) = (Keys::default(), Issuer::new(1, "k1"));
    keys.0.lock().unwrap().0.keys.push(issuer.jwk());
    let server = server(&keys).await;
    let bearer = |role| format!("Bearer {}", issuer.sign(&claims(role)));
    assert_eq!(codes(&server, None).await, [Code::Ok, Code::Unauthenticated, Code::Unauthenticated, Code::Ok]);
    assert_eq!(codes(&server, Some(&bearer("customer"))).await, [Code::Ok, Code::Ok, Code::PermissionDenied, Code::Ok]);
    assert_eq!(codes(&server, Some(&bearer("admin"))).await, [Code::Ok; 4]);
    assert_eq!(*server.handlers.claims.lock().unwrap(), Some(Claims { sub: "u1".into(), role: Role::Admin }));
}

#[tokio::test]
async fn every_bad_token_is_refused_everywhere() {
    let (keys, issuer, stranger) = (Keys::default(), Issuer::new(1, "k1"), Issuer::new(2, "k1"));
    keys.0.lock().unwrap().0.keys.push(issuer.jwk());
    let server = server(&keys).await;
    let part = |v: Value| URL_SAFE_NO_PAD.encode(v.to_string());
    let good = claims("admin");
    let none = format!("{}.{}.", part(json!({"alg": "none", "kid": "k1"})), part(good.clone()));
    // Key confusion: the public key as an HMAC secret.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".into());
    let confused = jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(issuer.public().as_bytes())).unwrap();
    let mut no_kid = Header::new(Algorithm::EdDSA);
    no_kid.kid = None;
    let key = EncodingKey::from_ed_der(issuer.0.to_pkcs8_der().unwrap().as_bytes());
    let no_kid = jsonwebtoken::encode(&no_kid, &good, &key).unwrap();
    let mut lacking = good.clone();
    lacking.as_object_mut().unwrap().remove("aud");
    let swapped = {
        let (signed, other) = (issuer.sign(&claims("customer")), issuer.sign(&good));
        let (a, b): (Vec<_>, Vec<_>) = (signed.split('.').collect(), other.split('.').collect());
        format!("{}.{}.{}", a[0], b[1], a[2])
    };
    for (what, authorization) in [
        ("alg none", format!("Bearer {none}")),
        ("key confusion", format!("Bearer {confused}")),
        ("another's signature", format!("Bearer {}", stranger.sign(&good))),
        ("another's claims", format!("Bearer {swapped}")),
        ("unknown key", format!("Bearer {}", Issuer::new(1, "k9").sign(&good))),
        ("no key id", format!("Bearer {no_kid}")),
        ("expired", format!("Bearer {}", issuer.sign(&with(good.clone(), "exp", json!(now() - 60))))),
        ("not yet valid", format!("Bearer {}", issuer.sign(&with(good.clone(), "nbf", json!(now() + 600))))),
        ("another issuer", format!("Bearer {}", issuer.sign(&with(good.clone(), "iss", json!("else"))))),
        ("another audience", format!("Bearer {}", issuer.sign(&with(good.clone(), "aud", json!("else"))))),
        ("no audience", format!("Bearer {}", issuer.sign(&lacking))),
        ("unknown role", format!("Bearer {}", issuer.sign(&with(good.clone(), "role", json!("root"))))),
        ("no scheme", issuer.sign(&good)),
        ("another scheme", format!("Basic {}", issuer.sign(&good))),
        ("nothing behind it", "Bearer ".to_owned()),
        ("no token at all", "Bearer a.b.c".to_owned()),
    ] {
        assert_eq!(codes(&server, Some(&authorization)).await, [Code::Unauthenticated; 4], "{what}");
    }
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let (keys, issuer) = (Keys::default(), Issuer::new(1, "k1"));
    keys.0.lock().unwrap().0.keys.push(issuer.jwk());
    let server = server(&keys).await;
    let mut request = request(GetInfoRequest {}, Some(&format!("Bearer {}", issuer.sign(&claims("admin")))));
    request.metadata_mut().append("authorization", "Bearer x".parse().unwrap());
    let status = AdminServiceClient::new(server.channel().await).get_info(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_made_up_ones_cost_little() {
    let (keys, old, new) = (Keys::default(), Issuer::new(1, "k1"), Issuer::new(2, "k2"));
    keys.0.lock().unwrap().0.keys.push(old.jwk());
    let server = server(&keys).await;
    assert_eq!(codes(&server, Some(&format!("Bearer {}", old.sign(&claims("admin"))))).await, [Code::Ok; 4]);
    let made_up = format!("Bearer {}", Issuer::new(3, "k3").sign(&claims("admin")));
    for _ in 0..5 {
        assert_eq!(codes(&server, Some(&made_up)).await, [Code::Unauthenticated; 4]);
    }
    let asked = keys.0.lock().unwrap().1;
    assert!(asked <= 3, "asked {asked} times");
    keys.0.lock().unwrap().0.keys.push(new.jwk());
    let bearer = format!("Bearer {}", new.sign(&claims("admin")));
    let accepted = async { while codes(&server, Some(&bearer)).await != [Code::Ok; 4] {} };
    tokio::time::timeout(crate::harness::LIMIT, accepted).await.expect("the new key is found");
}

#[tokio::test]
async fn without_keys_nobody_is_judged() {
    let verifier = Verifier::new(Arc::new(NoKeys), &TokenRules::default());
    let token = Issuer::new(1, "k1").sign(&claims("admin"));
    // The second is not even asked for, and must not read as a verdict on the token.
    for _ in 0..2 {
        assert_eq!(verifier.verify(&token).await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_read_again() {
    let (old, new) = (Issuer::new(1, "k1"), Issuer::new(2, "k2"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let write = |issuer: &Issuer| {
        let set = JwkSet { keys: vec![issuer.jwk()] };
        std::fs::write(&path, serde_json::to_vec(&set).unwrap()).unwrap();
    };
    write(&old);
    let verifier = Verifier::new(Arc::new(FileKeys::new(&path)), &TokenRules::default());
    verifier.verify(&old.sign(&claims("admin"))).await.unwrap();
    write(&new);
    verifier.verify(&old.sign(&claims("admin"))).await.expect("nobody looks at the file for every call");
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(verifier.verify(&old.sign(&claims("admin"))).await.unwrap_err().code(), Code::Unauthenticated);
    verifier.verify(&new.sign(&claims("admin"))).await.unwrap();
    // A file that cannot be read leaves the keys that were.
    std::fs::write(&path, "half").unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    verifier.verify(&new.sign(&claims("admin"))).await.unwrap();
}

/// Answers until it is frozen.
#[derive(Debug, Clone)]
struct Freezing {
    set: JwkSet,
    frozen: Arc<std::sync::atomic::AtomicBool>,
}

impl sinew_server::KeySource for Freezing {
    fn keys(&self) -> sinew_core::BoxFuture<'_, Result<JwkSet, sinew_server::KeyError>> {
        Box::pin(async {
            if self.frozen.load(std::sync::atomic::Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Ok(self.set.clone())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_source_of_keys_holds_up_no_call_whose_key_is_known() {
    let (issuer, stranger) = (Issuer::new(1, "k1"), Issuer::new(2, "k2"));
    let frozen = Arc::default();
    let source = Freezing { set: JwkSet { keys: vec![issuer.jwk()] }, frozen: Arc::clone(&frozen) };
    let verifier = Verifier::new(Arc::new(source), &TokenRules::default());
    let token = issuer.sign(&claims("admin"));
    verifier.verify(&token).await.unwrap();
    frozen.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(301)).await;
    // The first waits as long as a healthy source would need, once; the others not at all, for as long as it lasts.
    let start = tokio::time::Instant::now();
    for _ in 0..100 {
        verifier.verify(&token).await.unwrap();
    }
    assert!(start.elapsed() <= Duration::from_millis(250), "{:?}", start.elapsed());
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let start = tokio::time::Instant::now();
        verifier.verify(&token).await.unwrap();
        assert!(start.elapsed().is_zero(), "{:?}", start.elapsed());
    }
    // Who needs a key that nobody knows is told within bounds that it cannot be judged.
    let start = tokio::time::Instant::now();
    assert_eq!(verifier.verify(&stranger.sign(&claims("admin"))).await.unwrap_err().code(), Code::Unavailable);
    assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
    frozen.store(false, std::sync::atomic::Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(3)).await;
    tokio::task::yield_now().await;
    assert_eq!(verifier.verify(&stranger.sign(&claims("admin"))).await.unwrap_err().code(), Code::Unauthenticated);
}
