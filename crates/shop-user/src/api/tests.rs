//! The rpcs on a SQLite file, and tokens under the verifier that every server has.

use super::Api;
use crate::{App, Argon, Config, SqlDirectory, SqlKeys};
use contracts::user::v1::{user_service_server::UserService, *};
use sinew::{Claims, FixedKeys, Jwk, JwkSet, TokenRules, Verifier};
use std::sync::Arc;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

struct Service {
    api: Api<SqlDirectory, Argon, SqlKeys>,
    app: App,
    folder: tempfile::TempDir,
}

async fn service() -> Service {
    let folder = tempfile::tempdir().unwrap();
    let app = App::build(Config::in_folder(folder.path())).await.unwrap();
    Service { api: app.api(), app, folder }
}

impl Service {
    async fn create(&self, request: &CreateUserRequest) -> Result<User, Status> {
        Ok(self.api.create_user(Request::new(request.clone())).await?.into_inner().user.unwrap())
    }
    async fn log_in(&self, email: &str, password: &str) -> Result<AuthenticateResponse, Status> {
        let request = AuthenticateRequest { email: email.into(), password: password.into() };
        Ok(self.api.authenticate(Request::new(request)).await?.into_inner())
    }
    async fn update(&self, request: UpdateUserRequest, by: &str) -> Result<User, Status> {
        let mut request = Request::new(request);
        request.extensions_mut().insert(Claims { sub: by.into(), role: sinew::Role::Customer });
        Ok(self.api.update_user(request).await?.into_inner().user.unwrap())
    }
}

fn new_user(email: &str) -> CreateUserRequest {
    CreateUserRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        email: email.into(),
        name: "Ada".into(),
        password: "correct horse".into(),
    }
}

async fn verifier(api: &impl UserService) -> Verifier {
    let keys = api.get_jwks(Request::new(GetJwksRequest {})).await.unwrap().into_inner().keys.into_iter();
    let jwk = |k: sinew_proto::auth::v1::Jwk| Jwk { kty: k.kty, crv: k.crv, x: k.x, kid: k.kid, alg: k.alg, usage: k.r#use };
    Verifier::new(Arc::new(FixedKeys(JwkSet { keys: keys.map(jwk).collect() })), &TokenRules::default())
}

#[tokio::test]
async fn a_token_is_believed_by_every_server_and_made_with_the_key_all_replicas_share() {
    let service = service().await;
    let user = service.create(&new_user("ada@example.org")).await.unwrap();
    let session = service.log_in("ADA@example.org", "correct horse").await.unwrap();
    assert_eq!((session.token_type.as_str(), session.expires_in, session.user), ("Bearer", 900, Some(user.clone())));
    let replica = App::build(Config::in_folder(service.folder.path())).await.unwrap();
    for keys in [verifier(&service.api).await, verifier(&replica.api()).await] {
        let claims = keys.verify(&session.access_token).await.unwrap();
        assert_eq!((claims.sub, claims.role), (user.user_id.clone(), sinew::Role::Customer));
        let mut forged = session.access_token.clone().into_bytes();
        let last = forged.len() - 10;
        forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
        let refused = keys.verify(&String::from_utf8(forged).unwrap()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn wrong_password_and_unknown_user_are_answered_alike() {
    let service = service().await;
    service.create(&new_user("ada@example.org")).await.unwrap();
    let wrong = service.log_in("ada@example.org", "incorrect horse").await.unwrap_err();
    let unknown = service.log_in("bob@example.org", "correct horse").await.unwrap_err();
    assert_eq!((wrong.code(), wrong.message()), (unknown.code(), unknown.message()));
    assert_eq!(wrong.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_repeated_create_answers_the_first_user_and_only_for_the_same_body() {
    let service = service().await;
    let request = new_user("ada@example.org");
    let user = service.create(&request).await.unwrap();
    assert_eq!(service.create(&request).await.unwrap(), user);
    for other in [
        CreateUserRequest { name: "Bob".into(), ..request.clone() },
        CreateUserRequest { password: "another horse".into(), ..request.clone() },
    ] {
        let status = service.create(&other).await.unwrap_err();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "idempotency_key");
    }
    assert_eq!(service.create(&new_user("Ada@Example.org")).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn users_change_themselves_and_nobody_else() {
    let service = service().await;
    let ada = service.create(&new_user("ada@example.org")).await.unwrap();
    let bob = service.create(&new_user("bob@example.org")).await.unwrap();
    let change = UpdateUserRequest {
        idempotency_key: "k".into(),
        user_id: ada.user_id.clone(),
        version: 1,
        name: Some("Countess".into()),
        password: Some("a better horse".into()),
        ..Default::default()
    };
    assert_eq!(service.update(change.clone(), &bob.user_id).await.unwrap_err().code(), Code::PermissionDenied);
    let changed = service.update(change.clone(), &ada.user_id).await.unwrap();
    assert_eq!((changed.name.as_str(), changed.version), ("Countess", 2));
    assert_eq!(service.update(change.clone(), &ada.user_id).await.unwrap(), changed);
    let stale = UpdateUserRequest { idempotency_key: "l".into(), ..change.clone() };
    assert_eq!(service.update(stale, &ada.user_id).await.unwrap_err().code(), Code::Aborted);
    let taken = UpdateUserRequest { idempotency_key: "m".into(), version: 0, email: Some(bob.email), ..change };
    assert_eq!(service.update(taken, &ada.user_id).await.unwrap_err().code(), Code::AlreadyExists);
    assert!(service.log_in("ada@example.org", "a better horse").await.is_ok());
    assert!(service.log_in("ada@example.org", "correct horse").await.is_err());

    let outbox = sinew_events::Outbox::default();
    while outbox.sequence(service.app.db(), 100).await.unwrap() > 0 {}
    let told = outbox.read(service.app.db(), 0, 100).await.unwrap();
    let kinds: Vec<_> = told.iter().map(|event| (event.kind.as_str(), event.version)).collect();
    assert_eq!(kinds, [("user.created", 1), ("user.created", 1), ("user.updated", 2)]);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let service = service().await;
    let status = service.create(&CreateUserRequest { password: "short".into(), ..Default::default() }).await.unwrap_err();
    let fields: Vec<_> = status.get_details_bad_request().unwrap().field_violations.into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["idempotency_key", "email", "name", "password"]);
    let anonymous = service.api.get_user(Request::new(GetUserRequest { user_id: Uuid::now_v7().to_string() })).await;
    assert_eq!(anonymous.unwrap_err().code(), Code::Unauthenticated);
}
