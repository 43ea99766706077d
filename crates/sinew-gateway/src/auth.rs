//! Who calls, and what that one may call.
//!
//! The rules are those of sinew-server, which applies them again: the gateway's check saves the mesh the work, the
//! service's is the one that counts. The token itself travels on; there is no identity header to forge.

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use sinew::{Claims, Role, Verifier};
use sinew_core::Access;
use tonic::Status;

/// What is said to those without a token.
pub(crate) const NO_TOKEN: &str = "a bearer token is needed";

/// Verifies the request's token, if it has one. A token that is no good is refused even where none is needed: a client
/// whose token went bad learns so at once, instead of being somebody else.
///
/// # Errors
///
/// UNAUTHENTICATED for a token that is no good, UNAVAILABLE where the keys cannot be had.
pub(crate) async fn authenticate(headers: &HeaderMap, verifier: &Verifier) -> Result<Option<Claims>, Status> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Status::unauthenticated("more than one authorization header"));
    }
    let token = token(value).ok_or_else(|| Status::unauthenticated("the authorization header is no bearer token"))?;
    verifier.verify(token).await.map(Some)
}

fn token(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The method's rule.
pub(crate) fn permit(access: Access, claims: Option<&Claims>) -> Result<(), Status> {
    match (access, claims) {
        (Access::Public, _) | (Access::User, Some(_)) => Ok(()),
        (Access::Admin, Some(claims)) if claims.role == Role::Admin => Ok(()),
        (Access::Admin, Some(_)) => Err(Status::permission_denied("only administrators may do this")),
        (Access::User | Access::Admin, None) => Err(Status::unauthenticated(NO_TOKEN)),
        // The catalogue holds none of these; should one slip in, nobody may call it.
        (Access::Internal, _) => Err(Status::unimplemented("")),
    }
}
