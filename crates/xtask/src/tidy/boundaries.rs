//! Rules about who may name what.

use super::tree::{Breach, Line, SourceFile, Tree, has_word};

/// The paths under which Consul's HTTP API lies, and the client library for it.
const CONSUL: &[&str] = &[
    "v1/agent",
    "v1/catalog",
    "v1/config/",
    "v1/connect",
    "v1/discovery-chain",
    "v1/health",
    "v1/kv",
    "v1/session",
    "v1/status",
    "v1/txn",
    "consulrs::",
    "rustify::",
];

/// The real agent, ours, what tests both, and what starts one. `bench` and the end-to-end tests go through these.
const MAY_NAME_CONSUL: &[&str] =
    &["crates/sinew-consul/", "crates/sinew-consul-embedded/", "crates/testkit/", "crates/cli/up/", "crates/xtask/"];

const TELEMETRY: &[&str] =
    &["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp", "prometheus_client", "tracing_opentelemetry"];

pub(super) fn domain_is_pure(tree: &Tree) -> Vec<Breach> {
    let domain = tree.rust().filter(|f| f.of_crate().starts_with("shop-") && f.path.contains("/src/domain/"));
    const OUTSIDE: &[&str] = &["tonic", "prost", "sqlx", "contracts", "sinew_sql", "redis", "lapin"];
    named(domain, |_| true, |code| OUTSIDE.iter().copied().find(|w| has_word(code, w)))
}

pub(super) fn consul_behind_its_door(tree: &Tree) -> Vec<Breach> {
    let others = tree.rust().filter(|f| !MAY_NAME_CONSUL.iter().any(|allowed| f.path.starts_with(allowed)));
    // The gateway's own REST paths are under /api/.
    named(others, |_| true, |code| CONSUL.iter().copied().find(|path| code.replace("/api/v1/", "/").contains(path)))
}

pub(super) fn telemetry_behind_its_door(tree: &Tree) -> Vec<Breach> {
    let others = tree.rust().filter(|f| !matches!(f.of_crate(), "sinew-telemetry" | "xtask"));
    named(others, |_| true, |code| TELEMETRY.iter().copied().find(|w| has_word(code, w)))
}

/// The benchmark compares with the library itself, and logs are filtered by its name.
pub(super) fn rabbitmq_behind_its_door(tree: &Tree) -> Vec<Breach> {
    let others =
        tree.rust().filter(|f| !matches!(f.of_crate(), "sinew-rabbitmq" | "bench" | "xtask") && !f.path.ends_with("/logs.rs"));
    named(others, |_| true, |code| has_word(code, "lapin").then_some("lapin"))
}

pub(super) fn core_is_pure(tree: &Tree) -> Vec<Breach> {
    // `failpoint.rs` and `planted.rs` ask tests what should go wrong, in debug builds.
    const ASK: &[&str] = &["crates/sinew-core/src/failpoint.rs", "crates/sinew-core/src/planted.rs"];
    let core = tree.rust().filter(|f| f.of_crate() == "sinew-core" && !ASK.contains(&&*f.path));
    const IMPURE: &[&str] = &[
        "tokio::spawn",
        "task::spawn",
        "thread::spawn",
        "tokio::net",
        "tokio::fs",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "std::env",
        "std::process",
    ];
    named(core, |line| !line.test, |code| IMPURE.iter().copied().find(|w| code.contains(w)))
}

fn named<'a>(
    files: impl Iterator<Item = &'a SourceFile>,
    counts: impl Fn(Line<'_>) -> bool,
    find: impl Fn(&str) -> Option<&'static str>,
) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for file in files {
        for line in file.lines().filter(|l| counts(*l)) {
            breaches.extend(find(line.code).map(|word| file.breach_at(line, format!("names {word}"))));
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_knows_the_wire_is_seen() {
        let tree = Tree::planted([
            ("crates/shop-order/src/domain/order.rs", "//! Knows no tonic.\nuse tonic::Status;\n"),
            ("crates/shop-order/src/api/order.rs", "use tonic::Status;\n"),
        ]);
        assert_eq!(domain_is_pure(&tree)[0].at, "crates/shop-order/src/domain/order.rs:2");
        assert_eq!(domain_is_pure(&tree).len(), 1);
    }

    #[test]
    fn consul_outside_its_crates_is_seen() {
        let tree = Tree::planted([
            ("crates/sinew-server/src/a.rs", "get(\"/v1/agent/self\"); // as /v1/kv\n"),
            ("crates/sinew-consul/src/a.rs", "get(\"/v1/agent/self\")\n"),
        ]);
        assert_eq!(consul_behind_its_door(&tree).len(), 1);
    }

    #[test]
    fn telemetry_outside_its_crate_is_seen() {
        let tree = Tree::planted([
            ("crates/sinew/src/a.rs", "use opentelemetry::trace;\n"),
            ("crates/sinew-telemetry/src/a.rs", "use opentelemetry::trace;\n"),
        ]);
        assert_eq!(telemetry_behind_its_door(&tree).len(), 1);
    }

    #[test]
    fn the_client_of_the_broker_outside_its_crate_is_seen() {
        let tree = Tree::planted([
            ("crates/sinew-events/src/a.rs", "use lapin::Channel;\n"),
            ("crates/sinew-rabbitmq/src/a.rs", "use lapin::Channel;\n"),
        ]);
        assert_eq!(rabbitmq_behind_its_door(&tree).len(), 1);
    }

    #[test]
    fn a_core_that_spawns_or_opens_is_seen() {
        let planted = "tokio::spawn(f());\nlet addr: std::net::SocketAddr;\nstd::fs::read(p);\n#[cfg(test)]\ntokio::spawn(f());\n";
        let tree = Tree::planted([("crates/sinew-core/src/a.rs", planted)]);
        assert_eq!(core_is_pure(&tree).len(), 2);
    }
}
