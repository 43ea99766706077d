//! Envoy as a sidecar, with the policy that Sinew's client has by default, as far as Envoy has it.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{ffi::OsString, net::SocketAddr, time::Duration};
use testkit::{Program, Running};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// The program.
pub(crate) fn program() -> anyhow::Result<OsString> {
    std::env::var_os("BENCH_ENVOY").context("BENCH_ENVOY names no Envoy; `cargo xtask` installs one")
}

/// Beside whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Balances, repeats, and notices who is away.
    Client,
    /// Passes calls on to its server.
    Server,
}

/// A running Envoy; it ends with this value.
#[derive(Debug)]
pub(crate) struct Envoy {
    running: Running,
    addresses: Vec<SocketAddr>,
    _folder: tempfile::TempDir,
}

impl Envoy {
    /// One listener for each of these lists of servers, all on one worker, which may be tied to a core.
    pub(crate) async fn start(routes: &[Vec<SocketAddr>], side: Side, core: Option<usize>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let addresses = routes.iter().map(|_| Ok(SocketAddr::new([127, 0, 0, 1].into(), testkit::free_port()?)));
        let addresses = addresses.collect::<anyhow::Result<Vec<_>>>()?;
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, serde_json::to_vec_pretty(&configuration(&addresses, routes, side))?)?;
        let log = folder.path().join("log");
        let program = match core {
            Some(core) => Program::new("Envoy", "taskset", log).args(["-c", &core.to_string()]).args([program()?]),
            None => Program::new("Envoy", program()?, log),
        };
        let program = program.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "warn", "-c"]).args([&config]);
        let mut envoy = Self { running: program.start()?, addresses, _folder: folder };
        for address in &envoy.addresses {
            testkit::wait_for("Envoy", START, async || {
                let connected = tokio::net::TcpStream::connect(address).await;
                connected.map(drop).map_err(|error| format!("{error}; {}", envoy.running.log()))
            })
            .await?;
        }
        envoy.running.still_running()?;
        Ok(envoy)
    }

    /// Where it listens for this list of servers.
    pub(crate) fn address(&self, n: usize) -> anyhow::Result<SocketAddr> {
        self.addresses.get(n).copied().context("one of Envoy's listeners")
    }

    /// Resident memory, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let memory = crate::measure::memory(&self.running.pid().to_string())?;
        ensure!(memory > 0, "Envoy has ended");
        Ok(memory)
    }
}

fn configuration(listeners: &[SocketAddr], routes: &[Vec<SocketAddr>], side: Side) -> Value {
    let named = |n: usize| format!("echo-{n}");
    let listeners: Vec<_> = listeners.iter().enumerate().map(|(n, at)| listener(&named(n), *at, side)).collect();
    let clusters: Vec<_> = routes.iter().enumerate().map(|(n, servers)| cluster(&named(n), servers, side)).collect();
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn listener(name: &str, at: SocketAddr, side: Side) -> Value {
    let mut route = json!({ "cluster": name, "timeout": "10s" });
    if side == Side::Client {
        route["retry_policy"] = json!({
            "retry_on": "connect-failure,refused-stream,reset,unavailable",
            "num_retries": 2,
            "retry_back_off": { "base_interval": "0.05s", "max_interval": "1s" },
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                }
            }],
            "host_selection_retry_max_attempts": 3
        });
    }
    json!({
        "name": name,
        "address": address(at),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "HTTP2",
                "http2_protocol_options": {
                    "max_concurrent_streams": 1024,
                    "initial_stream_window_size": 1 << 20,
                    "initial_connection_window_size": 16 << 20
                },
                "route_config": { "virtual_hosts": [{
                    "name": name,
                    "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": route }]
                }] },
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                        "suppress_envoy_headers": true
                    }
                }]
            }
        }] }]
    })
}

fn cluster(name: &str, servers: &[SocketAddr], side: Side) -> Value {
    let endpoints: Vec<_> = servers.iter().map(|at| json!({ "endpoint": { "address": address(*at) } })).collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {
                "initial_stream_window_size": 1 << 20,
                "initial_connection_window_size": 16 << 20,
                // As Sinew's: a dead peer is noticed within 3 s.
                "connection_keepalive": { "interval": "1s", "timeout": "2s" }
            } }
        } },
        "circuit_breakers": { "thresholds": [{
            "max_connections": 16384,
            "max_requests": 16384,
            "max_pending_requests": 1024,
            "retry_budget": { "budget_percent": { "value": 20.0 }, "min_retry_concurrency": 10 }
        }] }
    });
    if side == Side::Client {
        cluster["outlier_detection"] = json!({ "consecutive_5xx": 5, "base_ejection_time": "30s", "max_ejection_percent": 100 });
    }
    cluster
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}
