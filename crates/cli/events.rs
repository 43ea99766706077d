//! `sinew events`: how far consumers are behind their publishers, a copy taken anew, and what could not be read.

use crate::{
    dlq,
    exit::{Exit, chain},
    output::Format,
    registry::{Registry, admin_endpoints, direct},
};
use serde::Serialize;
use sinew_proto::events::v1::{
    GetLagRequest, GetLagResponse, ListSubscriptionsRequest, RebuildRequest, Subscription,
    events_service_client::EventsServiceClient, subscriptions_service_client::SubscriptionsServiceClient,
};
use std::collections::BTreeMap;
use tonic::Code;

/// Looks at the delivery of events.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,

    /// Consul's HTTP API: host:port or a URL.
    #[arg(long, global = true, env = "CONSUL_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:8500")]
    consul: String,

    /// How to write it.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How far each consumer is behind each publisher that it follows.
    Lag,
    /// Has a consumer take everything that a publisher owns again; what it holds meanwhile stays in use.
    Rebuild {
        /// Who follows: order.
        consumer: String,
        /// Whose events: user.
        publisher: String,
    },
    /// Events that a consumer could not read and the broker put aside.
    Dlq(dlq::Args),
}

/// One consumer of one publisher.
#[derive(Debug, Serialize, PartialEq)]
struct Lag {
    consumer: String,
    publisher: String,
    /// The last position that took effect; none while a snapshot is being taken.
    position: Option<i64>,
    /// The publisher's newest position; what the consumer last heard of where the publisher does not answer.
    head: i64,
    /// Committed events without a position, as far as the publisher tells.
    pending: Option<i64>,
    /// Events that the publisher has and the consumer has not; none while a snapshot is being taken.
    behind: Option<i64>,
    /// The replica that follows.
    owner: String,
    updated_at: String,
    trouble: String,
}

pub(crate) async fn run(args: Args) -> Result<(), Exit> {
    match args.command {
        Command::Dlq(dlq) => dlq::run(dlq, args.output).await,
        Command::Lag => {
            let registry = Registry::at(&args.consul)?;
            let lags = lags(&registry).await?;
            let headings = ["consumer", "publisher", "position", "head", "behind", "owner", "trouble"];
            args.output.print(&lags, &headings, |lags| lags.iter().map(Lag::cells).collect())
        }
        Command::Rebuild { consumer, publisher } => {
            let registry = Registry::at(&args.consul)?;
            let mut subscriptions = SubscriptionsServiceClient::new(registry.admin(&consumer).await?);
            match subscriptions.rebuild(RebuildRequest { publisher: publisher.clone() }).await {
                Ok(_) => {
                    eprintln!("{consumer} takes what {publisher} owns again; see `sinew events lag`");
                    Ok(())
                }
                Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => {
                    Err(Exit::no(format!("{consumer} does not follow {publisher}")))
                }
                Err(status) => Err(Exit::unavailable(format!("{consumer} cannot be asked: {}", chain(&status)))),
            }
        }
    }
}

/// Everything that every service follows, with what the publishers say of themselves.
async fn lags(registry: &Registry) -> Result<Vec<Lag>, Exit> {
    let (mut lags, mut publishers) = (Vec::new(), BTreeMap::new());
    for service in registry.services().await? {
        let endpoints = admin_endpoints(&service);
        if endpoints.is_empty() {
            continue;
        }
        let mut subscriptions = SubscriptionsServiceClient::new(direct(&service.name, endpoints)?);
        let listed = match subscriptions.list_subscriptions(ListSubscriptionsRequest {}).await {
            Ok(listed) => listed.into_inner().subscriptions,
            // Most services follow nobody.
            Err(status) if status.code() == Code::Unimplemented => continue,
            Err(status) => return Err(Exit::unavailable(format!("{} cannot be asked: {}", service.name, chain(&status)))),
        };
        for subscription in listed {
            if !publishers.contains_key(&subscription.publisher) {
                let lag = publisher(registry, &subscription.publisher).await?;
                publishers.insert(subscription.publisher.clone(), lag);
            }
            let lag = publishers.get(&subscription.publisher).cloned().flatten();
            lags.push(Lag::new(subscription, lag.as_ref()));
        }
    }
    Ok(lags)
}

/// How far a publisher is; none where it does not answer, which must not hide how far its consumers are.
async fn publisher(registry: &Registry, name: &str) -> Result<Option<GetLagResponse>, Exit> {
    let mut events = EventsServiceClient::new(registry.channel(name)?);
    match events.get_lag(GetLagRequest {}).await {
        Ok(lag) => Ok(Some(lag.into_inner())),
        Err(status) => {
            eprintln!("sinew: {name} does not say how far it is: {}", status.message());
            Ok(None)
        }
    }
}

impl Lag {
    fn new(subscription: Subscription, publisher: Option<&GetLagResponse>) -> Self {
        let head = publisher.map_or(subscription.head, |lag| lag.head);
        let pending = publisher.map(|lag| lag.pending);
        let behind = subscription.position.map(|position| (head - position).max(0) + pending.unwrap_or(0));
        Self {
            consumer: subscription.consumer,
            publisher: subscription.publisher,
            position: subscription.position,
            head,
            pending,
            behind,
            owner: subscription.owner.split('/').next().unwrap_or_default().to_owned(),
            updated_at: subscription.updated_at.map(|t| t.to_string()).unwrap_or_default(),
            trouble: subscription.trouble,
        }
    }

    fn cells(&self) -> Vec<String> {
        let number = |n: Option<i64>| n.map_or_else(|| "snapshot".to_owned(), |n| n.to_string());
        vec![
            self.consumer.clone(),
            self.publisher.clone(),
            number(self.position),
            self.head.to_string(),
            number(self.behind),
            self.owner.clone(),
            self.trouble.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_position_yet_is_behind_too() {
        let subscription = Subscription {
            consumer: "order".into(),
            publisher: "user".into(),
            position: Some(7),
            head: 8,
            owner: "order-1/0190".into(),
            ..Subscription::default()
        };
        let told = GetLagResponse { head: 10, pending: 2, consumers: Vec::new() };
        let lag = Lag::new(subscription.clone(), Some(&told));
        assert_eq!((lag.head, lag.behind, lag.owner.as_str()), (10, Some(5), "order-1"));
        // The publisher is away: what was last heard of it.
        assert_eq!(Lag::new(subscription.clone(), None).behind, Some(1));
        let anew = Lag::new(Subscription { position: None, ..subscription }, Some(&told));
        assert_eq!((anew.behind, anew.cells()[2].as_str()), (None, "snapshot"));
    }
}
