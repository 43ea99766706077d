//! Private databases for tests: a SQLite file, or a PostgreSQL server that ends with the test process.
//!
//! Other crates' store tests include this file by path, so that none needs a library of its own for it.

use sqlx::postgres::PgPoolOptions;
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// An empty database of one test; dropped with it.
pub(crate) struct Database {
    /// What to open.
    pub(crate) url: String,
    _folder: Option<TempDir>,
}

#[allow(dead_code, reason = "for tests that need several")]
impl Database {
    /// An empty database of the same kind.
    pub(crate) async fn another(&self) -> Self {
        if self._folder.is_some() { sqlite().await } else { postgres().await }
    }
}

/// An empty SQLite database in a file of its own.
pub(crate) async fn sqlite() -> Database {
    let folder = TempDir::new().expect("temporary folder");
    Database { url: format!("sqlite://{}/test.db", folder.path().display()), _folder: Some(folder) }
}

/// An empty database on this process's PostgreSQL server, which the first test starts.
pub(crate) async fn postgres() -> Database {
    static SERVER: OnceCell<PathBuf> = OnceCell::const_new();
    let socket = SERVER.get_or_init(start).await.display();
    let name = format!("t{}", uuid::Uuid::now_v7().simple());
    let admin = connect(&format!("postgres://postgres@localhost/postgres?host={socket}")).await;
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.expect("create database");
    admin.close().await;
    Database { url: format!("postgres://postgres@localhost/{name}?host={socket}"), _folder: None }
}

/// The shell that owns the server waits for the end of its stdin, which closes when the test process ends however it ends.
const RUN: &str = r#"
trap '' INT
as=; [ "$(id -u)" = 0 ] && as="setpriv --reuid postgres --regid postgres --init-groups" && chown postgres "$1"
bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
$as "$bin/initdb" -D "$1/data" -A trust -U postgres --no-sync >"$1/initdb.log" 2>&1
$as "$bin/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c fsync=off -c max_connections=400 >"$1/log" 2>&1 &
cat >/dev/null
kill -INT $!
wait
rm -rf "$1"
"#;

async fn start() -> PathBuf {
    static SHELL: Mutex<Option<Child>> = Mutex::new(None);
    let folder = TempDir::new().expect("temporary folder").keep();
    let shell = Command::new("sh").args(["-c", RUN, "sh"]).arg(&folder).stdin(Stdio::piped()).spawn().expect("a shell");
    *SHELL.lock().unwrap_or_else(PoisonError::into_inner) = Some(shell);
    connect(&format!("postgres://postgres@localhost/postgres?host={}", folder.display())).await.close().await;
    folder
}

/// Connects, waiting for a server that is still starting.
async fn connect(url: &str) -> sqlx::PgPool {
    let connect = async || PgPoolOptions::new().max_connections(1).connect(url).await.map_err(|error| error.to_string());
    // Starting takes 0.6 s on an idle machine.
    testkit::wait_for("PostgreSQL", Duration::from_secs(60), connect).await.expect("PostgreSQL answers")
}

/// Makes each `async fn name(db: Database)` two tests, `name::sqlite` and `name::postgres`.
macro_rules! on_both {
    ($($name:ident)*) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name(super::databases::sqlite().await).await
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$name(super::databases::postgres().await).await
            }
        }
    )*};
}
pub(crate) use on_both;
