//! Every user as an event: for consumers that are new, or too late for what is kept.

use super::SqlDirectory;
use crate::{
    api::user as wire,
    domain::{Directory, Page, User, UserId},
};
use contracts::user::v1::UserUpdated;
use sinew_core::BoxFuture;
use sinew_events::{NewEvent, Owned, PublicationError};
use uuid::Uuid;

impl Owned for SqlDirectory {
    fn page(&self, after: Option<Uuid>, limit: usize) -> BoxFuture<'_, Result<Vec<NewEvent<'static>>, PublicationError>> {
        Box::pin(async move {
            let page = Page { after: after.map(UserId), limit: i64::try_from(limit).unwrap_or(i64::MAX) };
            let users = self.list(page).await.map_err(|error| PublicationError(error.into()))?;
            Ok(users.iter().map(event).collect())
        })
    }
}

fn event(user: &User) -> NewEvent<'static> {
    NewEvent::new(user.id.0, user.version, "user.updated", &UserUpdated { user: Some(wire(user)) }, user.updated)
}
