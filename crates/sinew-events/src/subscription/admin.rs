//! `sinew.events.v1.SubscriptionsService` for the admin port: how far a service is with others' events.

use super::store::{self, SubscriptionStatus};
use crate::envelope::timestamp;
use sinew_core::Clock;
use sinew_proto::events::v1::{
    self as proto,
    subscriptions_service_server::{SubscriptionsService, SubscriptionsServiceServer},
};
use sinew_sql::Db;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The subscriptions of one database. For admin ports only: whoever reaches it may have everything read again.
#[derive(Debug, Clone)]
pub struct SubscriptionsAdmin {
    db: Db,
    clock: Arc<dyn Clock>,
}

impl SubscriptionsAdmin {
    /// Of this database.
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        Self { db, clock }
    }

    /// The service, to be added to the admin port.
    pub fn service(&self) -> SubscriptionsServiceServer<Self> {
        SubscriptionsServiceServer::new(self.clone())
    }

    /// Every subscription, by publisher.
    pub async fn list(&self) -> sinew_sql::Result<Vec<SubscriptionStatus>> {
        store::all(&self.db).await
    }

    /// Has a publisher's snapshot taken again; false when nothing of it is followed here.
    pub async fn rebuild(&self, publisher: &str) -> sinew_sql::Result<bool> {
        store::begin_anew(&self.db, publisher, sinew_sql::now(&*self.clock)).await
    }
}

#[tonic::async_trait]
impl SubscriptionsService for SubscriptionsAdmin {
    async fn list_subscriptions(
        &self,
        _: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        let subscriptions = self.list().await.map_err(failed)?.into_iter().map(subscription).collect();
        Ok(Response::new(proto::ListSubscriptionsResponse { subscriptions }))
    }

    async fn rebuild(&self, request: Request<proto::RebuildRequest>) -> Result<Response<proto::RebuildResponse>, Status> {
        let publisher = request.into_inner().publisher;
        if !SubscriptionsAdmin::rebuild(self, &publisher).await.map_err(failed)? {
            return Err(Status::not_found(format!("nothing of {publisher:?} is followed here")));
        }
        tracing::info!(publisher, "the subscription begins anew, as an operator asked");
        Ok(Response::new(proto::RebuildResponse {}))
    }
}

fn subscription(status: SubscriptionStatus) -> proto::Subscription {
    proto::Subscription {
        consumer: status.consumer,
        publisher: status.publisher,
        position: status.position,
        head: status.head,
        owner: status.owner.unwrap_or_default(),
        trouble: status.trouble.unwrap_or_default(),
        updated_at: Some(timestamp(status.updated_at)),
    }
}

fn failed(error: sinew_sql::Error) -> Status {
    tracing::warn!(%error, "subscriptions cannot be looked at");
    Status::unavailable("the store cannot answer now")
}
