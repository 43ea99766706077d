//! The keys that verify tokens, from the user service that signs them.

use contracts::user::v1::{GetJwksRequest, user_service_client::UserServiceClient};
use sinew::{Channel, Jwk, JwkSet, KeyError, KeySource, Mesh, TokenRules, Verifier};
use sinew_core::BoxFuture;
use sinew_proto::auth::v1::Jwk as Message;
use std::sync::Arc;

/// The verifier that the settings ask for, or one with the keys that the user service publishes over the mesh.
pub(crate) fn verifier(mesh: &Mesh) -> Arc<Verifier> {
    let published = || Arc::new(OverTheMesh(UserServiceClient::new(mesh.channel("user"))));
    mesh.verifier().cloned().unwrap_or_else(|| Arc::new(Verifier::new(published(), &TokenRules::default())))
}

/// The same for the user service itself, which has them at hand.
pub(crate) fn own(mesh: &Mesh, app: &shop_user::App) -> Arc<Verifier> {
    mesh.verifier().cloned().unwrap_or_else(|| Arc::new(Verifier::new(app.keys(), &TokenRules::default())))
}

#[derive(Debug)]
struct OverTheMesh(UserServiceClient<Channel>);

impl KeySource for OverTheMesh {
    fn keys(&self) -> BoxFuture<'_, Result<JwkSet, KeyError>> {
        let mut users = self.0.clone();
        Box::pin(async move {
            let published = users.get_jwks(GetJwksRequest {}).await;
            let published =
                published.map_err(|e| KeyError { origin: "the user service".into(), reason: e.message().to_owned() })?;
            Ok(JwkSet { keys: published.into_inner().keys.into_iter().map(key).collect() })
        })
    }
}

fn key(key: Message) -> Jwk {
    Jwk { kty: key.kty, crv: key.crv, x: key.x, kid: key.kid, alg: key.alg, usage: key.r#use }
}
