//! Who may call which method: bearer tokens, verified again by every service.
//!
//! There is no identity header that the gateway sets and others believe: the token itself travels, and its signature is
//! checked here. A method's rule comes from its contract. A token that is present must be valid even where none is
//! needed: a client whose token went bad learns so at once, instead of being somebody else.

mod keys;
mod verifier;

pub use keys::{FileKeys, FixedKeys, Jwk, JwkSet, KeyError, KeySource};
pub use verifier::{Claims, Role, TokenRules, Verifier};

use http::{Request, Response, header::AUTHORIZATION};
use sinew_core::{Access, Policies};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Status, body::Body};
use tower_layer::Layer;
use tower_service::Service;

/// Adds [`Auth`].
#[derive(Debug, Clone)]
pub(crate) struct AuthLayer {
    verifier: Option<Arc<Verifier>>,
    policies: Arc<Policies>,
}

impl AuthLayer {
    pub(crate) fn new(verifier: Option<Arc<Verifier>>, policies: Arc<Policies>) -> Self {
        Self { verifier, policies }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Auth { inner, layer: self.clone() }
    }
}

/// Verifies the token, puts its [`Claims`] into the request, and applies the method's rule.
#[derive(Debug, Clone)]
pub(crate) struct Auth<S> {
    inner: S,
    layer: AuthLayer,
}

impl<S> Service<Request<Body>> for Auth<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = AuthFuture<S::Future, Verified<S>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let access = self.layer.policies.method(request.uri().path()).map_or(Access::Internal, |m| m.access);
        let token = match bearer(&request) {
            Ok(None) => {
                return match permit(access, None) {
                    Ok(()) => AuthFuture::Inner { inner: self.inner.call(request) },
                    Err(status) => AuthFuture::refused(status),
                };
            }
            Ok(Some(token)) => token,
            Err(status) => return AuthFuture::refused(status),
        };
        let Some(verifier) = self.layer.verifier.clone() else {
            return AuthFuture::refused(Status::unauthenticated("this service has no keys to verify tokens with"));
        };
        match verifier.verify_cached(&token) {
            Some(verdict) => match verdict.and_then(|claims| permit(access, Some(&claims)).map(|()| claims)) {
                Ok(claims) => {
                    request.extensions_mut().insert(claims);
                    AuthFuture::Inner { inner: self.inner.call(request) }
                }
                Err(status) => AuthFuture::refused(status),
            },
            // The key is unknown or our copy old: ask for it, and only then for the inner service.
            None => {
                let mut inner = self.inner.clone();
                AuthFuture::Fetching {
                    fetching: Box::pin(async move {
                        let claims = verifier.verify(&token).await?;
                        permit(access, Some(&claims))?;
                        request.extensions_mut().insert(claims);
                        Ok(inner.call(request))
                    }),
                }
            }
        }
    }
}

/// What comes out of asking for a key: the inner call.
type Verified<S> = Pin<Box<dyn Future<Output = Result<<S as Service<Request<Body>>>::Future, Status>> + Send>>;

pin_project_lite::pin_project! {
    /// The inner call, a refusal, or a look for the token's key.
    #[project = AuthState]
    pub(crate) enum AuthFuture<F, V> {
        Inner { #[pin] inner: F },
        Refused { status: Option<Box<Status>> },
        Fetching { fetching: V },
    }
}

impl<F, V> AuthFuture<F, V> {
    fn refused(status: Status) -> Self {
        Self::Refused { status: Some(Box::new(status)) }
    }
}

impl<F, E> Future for AuthFuture<F, Pin<Box<dyn Future<Output = Result<F, Status>> + Send>>>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match self.as_mut().project() {
                AuthState::Inner { inner } => return inner.poll(cx),
                AuthState::Refused { status } => {
                    let status = status.take().map_or_else(|| Status::unauthenticated("refused"), |s| *s);
                    return Poll::Ready(Ok(status.into_http()));
                }
                AuthState::Fetching { fetching } => match std::task::ready!(fetching.as_mut().poll(cx)) {
                    Ok(inner) => Self::Inner { inner },
                    Err(status) => Self::refused(status),
                },
            };
            self.set(next);
        }
    }
}

/// The bearer token, if there is an `authorization` header at all.
fn bearer(request: &Request<Body>) -> Result<Option<String>, Status> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Status::unauthenticated("more than one authorization header"));
    }
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(Some(token.trim().to_owned()))
        }
        _ => Err(Status::unauthenticated("the authorization header is no bearer token")),
    }
}

/// The method's rule.
fn permit(access: Access, claims: Option<&Claims>) -> Result<(), Status> {
    match (access, claims) {
        // Until connections are mutually authenticated, whoever reaches the mesh port is of the mesh.
        (Access::Public | Access::Internal, _) | (Access::User, Some(_)) => Ok(()),
        (Access::Admin, Some(claims)) if claims.role == Role::Admin => Ok(()),
        (Access::Admin, Some(_)) => Err(Status::permission_denied("only administrators may do this")),
        (Access::User | Access::Admin, None) => Err(Status::unauthenticated("a bearer token is needed")),
    }
}
