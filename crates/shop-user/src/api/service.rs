//! The rpcs: check what came and who asks, ask the accounts, answer.

use super::wire;
use crate::{
    domain::{
        Accounts, Caller, Changes, Directory, DisplayName, Email, KeyStore, NewUser, Page, Password, Passwords, Role, UserId,
    },
    infrastructure::Issuer,
};
use contracts::user::v1::{
    AuthenticateRequest, AuthenticateResponse, CreateUserRequest, CreateUserResponse, GetJwksRequest, GetJwksResponse,
    GetUserRequest, GetUserResponse, ListUsersRequest, ListUsersResponse, UpdateUserRequest, UpdateUserResponse,
    user_service_server::UserService,
};
use sinew::{Claims, Violations};
use sinew_proto::auth::v1::Jwk;
use tonic::{Extensions, Request, Response, Status};

/// `shop.user.v1.UserService` over accounts and an issuer of tokens.
#[derive(Debug, Clone)]
pub struct Api<D, P, K> {
    accounts: Accounts<D, P, Issuer<K>>,
    issuer: Issuer<K>,
}

impl<D: Directory, P: Passwords, K: KeyStore + Clone> Api<D, P, K> {
    /// Over these.
    pub fn new(directory: D, passwords: P, issuer: Issuer<K>) -> Self {
        Self { accounts: Accounts::new(directory, passwords, issuer.clone()), issuer }
    }
}

#[tonic::async_trait]
impl<D: Directory, P: Passwords, K: KeyStore + Clone> UserService for Api<D, P, K> {
    async fn create_user(&self, request: Request<CreateUserRequest>) -> Result<Response<CreateUserResponse>, Status> {
        let caller = caller(request.extensions());
        let request = request.into_inner();
        let mut bad = Violations::default();
        bad.idempotency_key(&request.idempotency_key);
        let email = bad.valid("email", Email::new(&request.email));
        let name = bad.valid("name", DisplayName::new(&request.name));
        let password = bad.valid("password", Password::choose(request.password));
        bad.check()?;
        let (Some(email), Some(name), Some(password)) = (email, name, password) else { return Err(let_through()) };
        // Administrators are made by whoever runs the shop, never over the network.
        let user = NewUser { email, name, role: Role::Customer, password, key: request.idempotency_key, caller };
        let user = self.accounts.create(&user).await?;
        Ok(Response::new(CreateUserResponse { user: Some(wire::user(&user)) }))
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Result<Response<GetUserResponse>, Status> {
        let mut bad = Violations::default();
        let id = UserId(bad.id("user_id", &request.get_ref().user_id));
        bad.check()?;
        allowed(request.extensions(), id)?;
        let user = self.accounts.get(id).await?;
        Ok(Response::new(GetUserResponse { user: Some(wire::user(&user)) }))
    }

    async fn update_user(&self, request: Request<UpdateUserRequest>) -> Result<Response<UpdateUserResponse>, Status> {
        let mut bad = Violations::default();
        bad.idempotency_key(&request.get_ref().idempotency_key);
        let id = UserId(bad.id("user_id", &request.get_ref().user_id));
        let (caller, permitted) = (caller(request.extensions()), allowed(request.extensions(), id));
        let request = request.into_inner();
        if request.version < 0 {
            bad.add("version", "must not be negative");
        }
        let email = request.email.and_then(|text| bad.valid("email", Email::new(&text)));
        let name = request.name.and_then(|text| bad.valid("name", DisplayName::new(&text)));
        let password = request.password.and_then(|text| bad.valid("password", Password::choose(text)));
        bad.check()?;
        permitted?;
        let version = (request.version > 0).then_some(request.version);
        let changes = Changes { id, version, email, name, password, key: request.idempotency_key, caller };
        let user = self.accounts.update(&changes).await?;
        Ok(Response::new(UpdateUserResponse { user: Some(wire::user(&user)) }))
    }

    async fn list_users(&self, request: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let size = bad.page_size(request.page_size);
        let after = bad.page_token(&request.page_token).map(UserId);
        bad.check()?;
        // One more than asked for tells whether a page follows.
        let mut found = self.accounts.list(Page { after, limit: size as i64 + 1 }).await?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = found.last().filter(|_| more).map(|last| last.id.0.to_string()).unwrap_or_default();
        Ok(Response::new(ListUsersResponse { users: found.iter().map(wire::user).collect(), next_page_token }))
    }

    async fn authenticate(&self, request: Request<AuthenticateRequest>) -> Result<Response<AuthenticateResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let email = bad.valid("email", Email::new(&request.email));
        if !(1..=Password::MAX).contains(&request.password.chars().count()) {
            bad.add("password", format!("must be 1 to {} characters", Password::MAX));
        }
        bad.check()?;
        let Some(email) = email else { return Err(let_through()) };
        let (user, token) = self.accounts.authenticate(&email, &Password::claimed(request.password)).await?;
        Ok(Response::new(AuthenticateResponse {
            access_token: token.bearer,
            token_type: "Bearer".into(),
            expires_in: token.expires_in,
            user: Some(wire::user(&user)),
        }))
    }

    async fn get_jwks(&self, _: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        let keys = self.issuer.published().await?.into_iter().map(|key| Jwk {
            kty: key.kty,
            crv: key.crv,
            x: key.x,
            kid: key.kid,
            alg: key.alg,
            r#use: key.usage,
        });
        Ok(Response::new(GetJwksResponse { keys: keys.collect() }))
    }
}

/// Whose idempotency keys these are.
fn caller(extensions: &Extensions) -> Caller {
    Caller(extensions.get::<Claims>().map_or_else(|| "anonymous".to_owned(), |claims| claims.sub.clone()))
}

/// Users reach themselves, administrators everybody.
fn allowed(extensions: &Extensions, id: UserId) -> Result<(), Status> {
    match extensions.get::<Claims>() {
        Some(claims) if claims.role == sinew::Role::Admin || claims.sub == id.0.to_string() => Ok(()),
        Some(_) => Err(Status::permission_denied("this is another user")),
        None => Err(Status::unauthenticated("a bearer token is needed")),
    }
}

/// A violation was not reported as one: a fault of ours.
fn let_through() -> Status {
    Status::internal("a bad field was let through")
}
