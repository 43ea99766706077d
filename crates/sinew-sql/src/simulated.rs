//! Databases of a simulation: SQLite in memory, asked within the simulation's own thread and time.
//!
//! A worker thread's answers would come at a time of their own, which is another one in each run; here a statement takes no
//! simulated time at all, and beginning and committing take what the [`Weather`] says.

use crate::{Db, Result};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{cell::RefCell, collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Where a transaction stands when something befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is about to begin.
    Begin,
    /// It is about to commit: what fails here has no effect.
    Commit,
    /// It has committed: what fails here has one, and nobody hears of it.
    Committed,
}

/// What befalls a transaction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// How long it takes to get past here.
    pub delay: Duration,
    /// Whether the connection is lost here.
    pub fails: bool,
}

/// Decides what befalls each transaction.
pub type Weather = Arc<dyn Fn(Moment) -> Fate + Send + Sync>;

thread_local! {
    static SIMULATION: RefCell<Option<(Weather, BTreeMap<String, Engine>)>> = const { RefCell::new(None) };
}

/// The databases of one simulation, which runs on this thread: `simulated:order` names one, made when it is first opened.
/// They outlive the simulated processes that use them, as servers would, and end when this is dropped.
#[derive(Debug)]
pub struct Simulation(());

impl Simulation {
    /// Begins one in place of what this thread had before.
    pub fn begin(weather: Weather) -> Self {
        SIMULATION.set(Some((weather, BTreeMap::new())));
        Self(())
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        SIMULATION.set(None);
    }
}

/// One of its databases. Transactions run one after another.
#[derive(Clone)]
pub struct Engine {
    connection: Arc<Mutex<SqliteConnection>>,
    weather: Weather,
}

/// The connection while a transaction is on it; dropped, it is rolled back.
pub(crate) struct Held {
    connection: OwnedMutexGuard<SqliteConnection>,
    weather: Weather,
    open: bool,
}

impl Db {
    /// Opens `simulated:name` of this thread's [`Simulation`].
    pub(crate) fn open_simulated(name: &str) -> Result<Self, sqlx::Error> {
        SIMULATION.with_borrow_mut(|simulation| {
            let none = || sqlx::Error::Configuration("no simulation runs on this thread".into());
            let (weather, engines) = simulation.as_mut().ok_or_else(none)?;
            if let Some(engine) = engines.get(name) {
                return Ok(Self::Simulated(engine.clone()));
            }
            let connection = at_once("sqlite::memory:".parse::<SqliteConnectOptions>()?.connect())?;
            let engine = Engine { connection: Arc::new(Mutex::new(connection)), weather: weather.clone() };
            engines.insert(name.to_owned(), engine.clone());
            Ok(Self::Simulated(engine))
        })
    }
}

impl Engine {
    pub(crate) async fn begin(&self) -> Result<Held, sqlx::Error> {
        pass(&self.weather, Moment::Begin).await?;
        let mut connection = self.connection.clone().lock_owned().await;
        at_once(sqlx::query("BEGIN").execute(&mut *connection))?;
        Ok(Held { connection, weather: self.weather.clone(), open: true })
    }

    /// Its one connection, outside of transactions.
    pub(crate) async fn connection(&self) -> OwnedMutexGuard<SqliteConnection> {
        self.connection.clone().lock_owned().await
    }
}

impl Held {
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        pass(&self.weather, Moment::Commit).await?;
        at_once(sqlx::query("COMMIT").execute(&mut *self.connection))?;
        self.open = false;
        let weather = self.weather.clone();
        // Others see it from now on.
        drop(self);
        pass(&weather, Moment::Committed).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.open {
            // A failure leaves the transaction open, and the next BEGIN says so.
            let _ = at_once(sqlx::query("ROLLBACK").execute(&mut *self.connection));
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

async fn pass(weather: &Weather, moment: Moment) -> Result<(), sqlx::Error> {
    let fate = weather(moment);
    if !fate.delay.is_zero() {
        tokio::time::sleep(fate.delay).await;
    }
    let lost = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the simulated database went away"));
    if fate.fails { Err(lost()) } else { Ok(()) }
}

/// Waits for SQLite without giving the thread away: simulated time stands still meanwhile.
pub(crate) fn at_once<F: Future>(future: F) -> F::Output {
    futures_executor::block_on(tokio::task::unconstrained(future))
}
