//! The domain's values as messages.

use crate::domain::{Role, User};
use chrono::{DateTime, Utc};
use contracts::user::v1 as proto;
use prost_types::Timestamp;

pub(crate) fn user(user: &User) -> proto::User {
    let role = match user.role {
        Role::Customer => proto::Role::Customer,
        Role::Admin => proto::Role::Admin,
    };
    proto::User {
        user_id: user.id.0.to_string(),
        email: user.email.as_str().to_owned(),
        name: user.name.as_str().to_owned(),
        role: role.into(),
        version: user.version,
        created_at: Some(timestamp(user.created)),
        updated_at: Some(timestamp(user.updated)),
    }
}

fn timestamp(time: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos().cast_signed() }
}
