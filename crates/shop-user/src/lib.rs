//! The user service: who there is, and tokens that prove it.

mod api;
mod app;
mod config;
mod domain;
mod infrastructure;

pub use api::Api;
pub use app::{App, BuildError};
pub use config::Config;
pub use domain::{
    ANNOUNCE, Accounts, Caller, Changes, Directory, DisplayName, Done, Email, EmailError, Error, Hash, KeyRing, KeyStore,
    NameError, NewUser, Page, Password, PasswordError, Passwords, ROTATE_EVERY, Role, SKEW, SigningKey, TOKEN_LIFE, Token, Tokens,
    User, UserId,
};
pub use infrastructure::{Argon, Claims, Issuer, SqlDirectory, SqlKeys, migrations};
