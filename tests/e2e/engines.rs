//! The stores and the broker that a shop in production runs on.

use testkit::{Durability, Postgres, RabbitMq, Redis};

/// PostgreSQL as in production, with a database per service; Redis; RabbitMQ.
#[derive(Debug)]
pub(crate) struct Engines {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) rabbitmq: RabbitMq,
}

impl Engines {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let (postgres, redis, rabbitmq) = tokio::join!(Postgres::start(Durability::Real), Redis::start(), RabbitMq::start());
        let postgres = postgres?;
        for service in ["user", "product", "inventory", "payment", "order"] {
            postgres.database(&format!("shop_{service}"))?;
        }
        Ok(Self { postgres, redis: redis?, rabbitmq: rabbitmq? })
    }

    /// The URL of a service's database.
    pub(crate) fn database(&self, service: &str) -> String {
        self.postgres.url(&format!("shop_{service}"))
    }

    /// What `sinew up` is told: everything on them.
    pub(crate) fn of_the_shop(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.database("{service}")),
            ("PRODUCT_STORE_URL", self.redis.url()),
            ("RATE_LIMIT_URL", self.redis.url()),
            ("AMQP_URL", self.rabbitmq.url()),
        ]
    }

    /// What one service is told that is started by itself.
    pub(crate) fn of_service(&self, service: &str) -> [(&'static str, String); 2] {
        [("DATABASE_URL", self.database(service)), ("AMQP_URL", self.rabbitmq.url())]
    }
}
