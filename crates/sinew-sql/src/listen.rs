//! Wake-ups from one process to another, where the database carries them.

use crate::{Db, Result, Tx};
use sqlx::postgres::PgListener;

/// What other processes say on one channel: PostgreSQL's LISTEN. It holds one of the database's connections.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Db {
    /// Listens for [`Tx::notify`] on a channel; `None` on SQLite, which has nothing of the kind: look now and then.
    pub async fn listen(&self, channel: &str) -> Result<Option<Listener>> {
        let Self::Postgres(pool) = self else { return Ok(None) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(channel).await?;
        Ok(Some(Listener(listener)))
    }
}

impl Listener {
    /// Waits until somebody has said something, or until that may have been missed: the connection was lost.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was said meanwhile is kept.
    pub async fn heard(&mut self) -> Result<()> {
        self.0.try_recv().await?;
        Ok(())
    }
}

impl Tx {
    /// Wakes every [`Listener`] of the channel if and when this commits; nothing on SQLite.
    pub async fn notify(&mut self, channel: &'static str) -> Result<()> {
        self.q(("SELECT pg_notify($1, '')", "SELECT $1")).bind(channel).run().await.map(drop)
    }
}
