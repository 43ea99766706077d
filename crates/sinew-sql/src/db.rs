//! Opening a database and beginning transactions.

use crate::{Error, Result, Tx, tx::Driver, url::redacted};
use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::time::Duration;

/// Connections per process: SQLite answers from memory and PostgreSQL's own default limit is 100 for all processes.
pub const DEFAULT_CONNECTIONS: u32 = 8;

/// How long a call waits for a connection before the database counts as unavailable. Shorter than the mesh's default
/// deadline of 10 s, so that the answer says what was short.
const ACQUIRE: Duration = Duration::from_secs(5);

/// How long SQLite waits for another process's write lock. Its polling is unfair: with 1 s, one of 10,000 transactions
/// of two busy processes failed; with 30 s, none.
const BUSY: Duration = Duration::from_secs(30);

/// What PostgreSQL ends by itself. A process that froze inside a transaction holds locks that everybody else waits for, so
/// that is ended before a lease of 2.5 s and its take-over are over; nothing of ours pauses within a transaction. What
/// waits or works for longer than a caller does is ended too.
const POSTGRES_ENDS: [(&str, &str); 3] =
    [("idle_in_transaction_session_timeout", "2s"), ("lock_timeout", "5s"), ("statement_timeout", "10s")];

/// A database; clones share its connections.
#[derive(Debug, Clone)]
pub enum Db {
    /// A PostgreSQL server.
    Postgres(PgPool),
    /// A SQLite file, which other processes of this machine may have open too.
    Sqlite {
        /// One connection, for which writers queue first come first served.
        write: SqlitePool,
        /// Readers never wait for writers: the journal is a write-ahead log.
        read: SqlitePool,
    },
    /// One of a simulation's databases.
    #[cfg(feature = "simulation")]
    Simulated(crate::simulated::Engine),
}

impl Db {
    /// Opens `postgres://user:password@host/name` or `sqlite://path/to/file.db`; a missing SQLite file and its folder are
    /// made. `connections` limits those of this process.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], which names the URL without its password and the way out.
    pub async fn open(url: &str, connections: u32) -> Result<Self> {
        let (opened, way_out) = match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("postgres" | "postgresql") => {
                let way_out = "check that PostgreSQL runs there and that user, password and database exist";
                (open_postgres(url, connections).await, way_out)
            }
            Some("sqlite") => {
                let way_out = "check that its folder exists and may be written, and that the file is a SQLite database";
                (open_sqlite(url, connections).await, way_out)
            }
            #[cfg(feature = "simulation")]
            Some("simulated") => (Self::open_simulated(url), "begin a simulation on this thread first"),
            _ => {
                let unknown = sqlx::Error::Configuration("unknown kind of database".into());
                (Err(unknown), "use postgres://user:password@host/name or sqlite://path/to/file.db")
            }
        };
        opened.map_err(|source| Error::Open { url: redacted(url), way_out, source })
    }

    /// A transaction that writes. SQLite takes its write lock now: a transaction that reads first and writes later would
    /// fail at once when another wrote in between.
    ///
    /// Never hold one while beginning another, nor across a call on the network: SQLite has one writer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the connection back without a transaction on it.
    pub async fn begin(&self) -> Result<Tx> {
        self.start("BEGIN", "BEGIN IMMEDIATE", true).await
    }

    /// A transaction that only reads, all of it from one moment.
    ///
    /// # Cancel safety
    ///
    /// As [`begin`](Self::begin).
    pub async fn snapshot(&self) -> Result<Tx> {
        self.start("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN", false).await
    }

    /// Closes all connections once their transactions end; for a clean end of the process.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            #[cfg(feature = "simulation")]
            Self::Simulated(_) => {}
        }
    }

    async fn start(&self, postgres: &'static str, sqlite: &'static str, writes: bool) -> Result<Tx> {
        let db = self.clone();
        // In a task of its own, which always finishes: when sqlx 0.9.0 is cancelled here it gives back a PostgreSQL
        // connection that is still inside a transaction (transact-rs/sqlx#4393), and servers cancel handlers at will.
        let begun = tokio::spawn(async move {
            Ok::<_, sqlx::Error>(match db {
                Self::Postgres(pool) => Driver::Postgres(pool.begin_with(postgres).await?),
                Self::Sqlite { write, .. } if writes => Driver::Sqlite(write.begin_with(sqlite).await?),
                Self::Sqlite { read, .. } => Driver::Sqlite(read.begin_with(sqlite).await?),
                #[cfg(feature = "simulation")]
                Self::Simulated(engine) => Driver::Simulated(engine.begin().await?),
            })
        });
        Ok(Tx::new(begun.await.map_err(|_| sqlx::Error::WorkerCrashed)??))
    }
}

async fn open_postgres(url: &str, connections: u32) -> Result<Db, sqlx::Error> {
    let options = url.parse::<PgConnectOptions>()?.options(POSTGRES_ENDS);
    let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE);
    Ok(Db::Postgres(pool.connect_with(options).await?))
}

async fn open_sqlite(url: &str, connections: u32) -> Result<Db, sqlx::Error> {
    let options = url
        .parse::<SqliteConnectOptions>()?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // NORMAL is twice as fast and may lose the last commits with the power: an acknowledged order must not be lost.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY);
    if let Some(folder) = options.get_filename().parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let pool = |connections| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(BUSY);
    let mut attempts = 0;
    let write = loop {
        // The switch to a write-ahead log takes a lock that the busy time-out does not cover; it is held for a moment.
        match pool(1).connect_with(options.clone()).await.map_err(Error::from) {
            Err(error) if error.is_transient() && attempts < 100 => attempts += 1,
            Err(Error::Database(error)) => return Err(error),
            Err(other) => return Err(sqlx::Error::Configuration(other.into())),
            Ok(write) => break write,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let read = pool(connections).connect_with(options.read_only(true)).await?;
    Ok(Db::Sqlite { write, read })
}
