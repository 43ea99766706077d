//! The whole system on private engines, and what it uses of the machine.

use super::proc::{Processes, words};
use crate::gateway::Gateway;
use anyhow::{Context, ensure};
use sinew_sql::Db;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};
use testkit::{Durability, Postgres, RabbitMq, Redis, SinewProcess, Up};

/// The services that keep something in PostgreSQL, and the bank that comes with the shop.
pub(super) const DATABASES: [&str; 5] = ["user", "inventory", "payment", "order", "bank"];

/// Draining may take its time.
const LEAVE: Duration = Duration::from_secs(40);

pub(super) struct System {
    // Dropped in this order: services before their engines.
    up: Up,
    sinew: SinewProcess,
    pub(super) engines: Engines,
}

pub(super) struct Engines {
    pub(super) postgres: Postgres,
    redis: Redis,
    rabbitmq: RabbitMq,
}

/// What PostgreSQL counted so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Commits by database.
    pub(super) commits: BTreeMap<&'static str, f64>,
    /// How often the write-ahead log was synced to disk.
    pub(super) syncs: f64,
    pub(super) wal_bytes: f64,
}

/// Processor time so far, in milliseconds, by what used it.
pub(super) type Cpu = BTreeMap<String, f64>;

impl System {
    /// Everything as a user would start it: `sinew up` with the engines' variables.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let (postgres, redis, rabbitmq) = tokio::join!(Postgres::start(Durability::Real), Redis::start(), RabbitMq::start());
        let engines = Engines { postgres: postgres?, redis: redis?, rabbitmq: rabbitmq? };
        for service in DATABASES {
            engines.postgres.database(&name(service))?;
        }
        let redis = engines.redis.url();
        let sinew = SinewProcess::new(program()?)?
            .env("DATABASE_URL", engines.url("{service}"))
            .env("PAYMENT_PROVIDER_URL", engines.url("bank"))
            .env("PRODUCT_STORE_URL", &redis)
            .env("RATE_LIMIT_URL", &redis)
            .env("AMQP_URL", engines.rabbitmq.url());
        let up = sinew.up(&[]).await?;
        Ok(Self { up, sinew, engines })
    }

    pub(super) fn gateway(&self) -> anyhow::Result<Gateway> {
        let key = std::fs::read_to_string(self.sinew.data().join("load-key")).context("the load generators' key")?;
        Ok(Gateway::new(format!("http://{}", self.up.gateway).parse()?, key.trim()))
    }

    /// Of each service (all its replicas), of the supervisor with the registry in it, of each engine, and of this process.
    pub(super) fn cpu(&mut self) -> Cpu {
        let (processes, mut cpu) = (Processes::now(), Cpu::new());
        let up = self.up.process().pid();
        for child in processes.children(up) {
            // `sinew run order`
            let service = words(child, "cmdline").into_iter().nth(2).unwrap_or_else(|| "?".to_owned());
            *cpu.entry(service).or_default() += processes.tree_ms(child);
        }
        cpu.insert("up (with the registry)".to_owned(), processes.own_ms(up));
        cpu.insert("PostgreSQL".to_owned(), processes.tree_ms(self.engines.postgres.process().pid()));
        cpu.insert("Redis".to_owned(), processes.tree_ms(self.engines.redis.process().pid()));
        cpu.insert("RabbitMQ".to_owned(), processes.tree_ms(self.engines.rabbitmq.process().pid()));
        cpu.insert(LOAD.to_owned(), processes.own_ms(std::process::id()));
        cpu
    }

    /// Ends the services, in order, and leaves the engines.
    pub(super) async fn stop(mut self) -> anyhow::Result<Engines> {
        self.up.process().terminate()?;
        let status = self.up.process().wait(LEAVE).await?;
        ensure!(status.success(), "sinew up ended with {status}");
        Ok(self.engines)
    }
}

/// How the load generator is called among the users of processor time.
pub(super) const LOAD: &str = "load generator";

impl Engines {
    /// The URL of a service's database.
    pub(super) fn url(&self, service: &str) -> String {
        self.postgres.url(&name(service))
    }
}

impl Counts {
    /// As PostgreSQL has them now. A backend tells its counts when a transaction ends, once a second at most, or after ten
    /// idle ones: exact are those of a quiet system.
    pub(super) async fn read(db: &Db) -> anyhow::Result<Self> {
        let mut tx = db.snapshot().await?;
        let rows: Vec<(String, i64)> =
            tx.q("SELECT datname::text, xact_commit FROM pg_stat_database WHERE datname LIKE 'shop_%'").all().await?;
        let commits = |service: &str| rows.iter().find(|(datname, _)| *datname == name(service)).map(|(_, n)| *n as f64);
        let commits = DATABASES.into_iter().map(|service| Some((service, commits(service)?))).collect::<Option<_>>();
        let (syncs, wal_bytes): (i64, i64) = tx.q("SELECT wal_sync, wal_bytes::bigint FROM pg_stat_wal").one().await?;
        Ok(Self { commits: commits.context("a database")?, syncs: syncs as f64, wal_bytes: wal_bytes as f64 })
    }

    /// What came in between, per `units` of something.
    pub(super) fn since(&self, before: &Self, units: f64) -> Self {
        let commits = self.commits.iter().map(|(name, n)| (*name, (n - before.of(name)) / units)).collect();
        let [syncs, wal_bytes] =
            [self.syncs - before.syncs, self.wal_bytes - before.wal_bytes].map(|difference| difference / units);
        Self { commits, syncs, wal_bytes }
    }

    /// Without what an idle system does in so many seconds.
    pub(super) fn without(&self, idle_per_second: &Self, seconds: f64) -> Self {
        let commits = self.commits.iter().map(|(name, n)| (*name, n - idle_per_second.of(name) * seconds)).collect();
        Self {
            commits,
            syncs: self.syncs - idle_per_second.syncs * seconds,
            wal_bytes: self.wal_bytes - idle_per_second.wal_bytes * seconds,
        }
    }

    pub(super) fn all_commits(&self) -> f64 {
        self.commits.values().sum()
    }

    fn of(&self, name: &str) -> f64 {
        self.commits.get(name).copied().unwrap_or_default()
    }
}

fn name(service: &str) -> String {
    format!("shop_{service}")
}

/// `sinew` lies beside this program: both are built into one folder.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("sinew");
    ensure!(program.exists(), "there is no {}: `cargo xtask bench orders` builds it", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_idle_system_does_is_taken_off() {
        let counts =
            |order, bank, syncs, wal_bytes| Counts { commits: [("order", order), ("bank", bank)].into(), syncs, wal_bytes };
        let before = counts(100.0, 10.0, 7.0, 1_000.0);
        let idle = counts(140.0, 10.0, 27.0, 3_000.0).since(&before, 20.0);
        assert_eq!(idle.commits, BTreeMap::from([("order", 2.0), ("bank", 0.0)]));
        let load = counts(1_100.0, 210.0, 107.0, 51_000.0).since(&before, 1.0).without(&idle, 50.0);
        assert!((load.all_commits() - 1_100.0).abs() < 1e-9);
        assert!((load.syncs - 50.0).abs() < 1e-9 && (load.wal_bytes - 45_000.0).abs() < 1e-9);
    }
}
