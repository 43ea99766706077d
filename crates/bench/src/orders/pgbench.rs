//! The order path's own SQL by pgbench: what PostgreSQL alone makes of it.
//!
//! pgbench takes one database, so the tables of all are put into one, each service's in a schema of its own: as `pg_dump`
//! writes them from the databases that the services migrated.

use super::system::{DATABASES, Engines};
use anyhow::{Context, ensure};
use sinew_sql::Db;
use std::process::Stdio;
use tokio::{io::AsyncWriteExt, process::Command};

/// The script: one order.
const SCRIPT: &str = include_str!("order.sql");

/// Rows that orders need, and ids that grow with time.
const FIRST: &str = "
CREATE FUNCTION id(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE
  AS $$ SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;
INSERT INTO shop_order.users SELECT id(n), 'Bench', 1 FROM generate_series(0, 999) n;
INSERT INTO shop_order.products SELECT id(n), 'Teapot', 2490, 'EUR', 1 FROM generate_series(1, 3) n;
INSERT INTO shop_inventory.stock SELECT id(n), 1000000000, 0, 1 FROM generate_series(1, 3) n;
ANALYZE;
";

/// Makes the one database of pgbench, and answers its URL.
pub(super) async fn prepare(engines: &Engines) -> anyhow::Result<String> {
    let url = engines.postgres.database("path")?;
    let mut schema = String::new();
    for service in DATABASES {
        let dump = ["--schema-only", "--no-owner", "--schema=public"];
        let mut command = Command::new(engines.postgres.program("pg_dump"));
        let dumped = run(command.args(dump).arg(engines.url(service)), "").await?;
        schema += &renamed(&dumped, &format!("shop_{service}"));
    }
    // The dump empties the path, for all that follows.
    schema += "SET search_path TO public;\n";
    schema += FIRST;
    let mut psql = Command::new(engines.postgres.program("psql"));
    run(psql.args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]).arg(&url), &schema).await?;
    Ok(url)
}

/// Orders a second by so many clients, after a warm-up.
pub(super) async fn measure(engines: &Engines, url: &str, clients: usize, warm_up: u64, seconds: u64) -> anyhow::Result<f64> {
    let mut sizes = Vec::new();
    for service in ["order", "inventory", "payment"] {
        sizes.push(payload(&engines.url(service)).await?);
    }
    let [order, stock, payment] = sizes.as_slice() else { return Ok(f64::NAN) };
    let once = async |first: u64, seconds: u64| {
        let mut command = Command::new(engines.postgres.program("pgbench"));
        command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--file=-"]);
        command.args([format!("--client={clients}"), format!("--time={seconds}"), format!("--define=order={first}")]);
        command.args([format!("--define=order_bytes={order}"), format!("--define=stock_bytes={stock}")]);
        command.arg(format!("--define=payment_bytes={payment}")).arg(url);
        rate(&run(&mut command, SCRIPT).await?)
    };
    once(0, warm_up.max(1)).await?;
    once(1_000_000_000_000, seconds).await
}

/// The mean size of what the service tells.
async fn payload(url: &str) -> anyhow::Result<i64> {
    let db = Db::open(url, 1).await?;
    let sql = "SELECT coalesce(avg(length(payload)), 0)::bigint FROM outbox";
    let (bytes,): (i64,) = db.snapshot().await?.q(sql).one().await?;
    db.close().await;
    Ok(bytes)
}

/// A dump of the schema `public`, in another schema.
fn renamed(dump: &str, schema: &str) -> String {
    let ours = dump.lines().filter(|line| !line.contains("SCHEMA public") && !line.starts_with("--") && !line.starts_with('\\'));
    let ours = ours.map(|line| line.replace("public.", &format!("{schema}.")) + "\n");
    format!("CREATE SCHEMA {schema};\n{}", ours.collect::<String>())
}

/// What pgbench says that it did.
fn rate(output: &str) -> anyhow::Result<f64> {
    let after = |what: &str| output.lines().find_map(|line| line.strip_prefix(what)?.split_whitespace().next());
    ensure!(after("number of failed transactions: ").is_none_or(|failed| failed == "0"), "orders failed: {output}");
    after("tps = ").and_then(|tps| tps.parse().ok()).with_context(|| format!("pgbench told no rate: {output}"))
}

async fn run(command: &mut Command, input: &str) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{:?}: apt-get install postgresql postgresql-contrib", command.as_std().get_program()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{:?}: {}: {errors}{text}", command.as_std().get_program(), output.status);
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_and_failures_are_not_passed_over() {
        let output = "number of transactions actually processed: 100\nnumber of failed transactions: 0 (0.000%)\n\
                      latency average = 8 ms\ntps = 123.456 (without initial connection time)\n";
        assert!((rate(output).unwrap() - 123.456).abs() < 1e-9);
        assert!(rate(&output.replace(": 0 (", ": 3 (")).unwrap_err().to_string().contains("failed"));
        assert!(rate("nothing").is_err());
    }

    #[test]
    fn a_dump_goes_into_another_schema() {
        let dump = "--\n-- Name: public\nCREATE SCHEMA public;\nALTER SCHEMA public OWNER TO x;\nCREATE TABLE public.orders (\n    id uuid\n);\n";
        assert_eq!(renamed(dump, "shop_order"), "CREATE SCHEMA shop_order;\nCREATE TABLE shop_order.orders (\n    id uuid\n);\n");
    }
}
