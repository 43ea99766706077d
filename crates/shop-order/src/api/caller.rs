//! Who asks, by the token that the server layer verified.

use crate::domain::{Caller, CustomerId};
use sinew::{Claims, Role};
use tonic::{Request, Status};
use uuid::Uuid;

/// The holder of the token.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let claims = request.extensions().get::<Claims>().ok_or_else(|| Status::unauthenticated("a bearer token is needed"))?;
    let id = Uuid::try_parse(&claims.sub).map_err(|_| Status::unauthenticated("the token's subject is no user id"))?;
    Ok(Caller { id: CustomerId(id), admin: claims.role == Role::Admin })
}
