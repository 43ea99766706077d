//! Every series of the process in Prometheus's text format.
//!
//! | name | labels | what |
//! |---|---|---|
//! | `sinew_client_calls_total`, `sinew_client_call_seconds` | `service`, `method`, (`code`) | calls as their callers saw them |
//! | `sinew_client_attempts_total`, `sinew_client_attempt_seconds` | the same | each attempt of them |
//! | `sinew_server_calls_total`, `sinew_server_call_seconds` | the same | calls as their server saw them |
//! | `…_in_flight` | `service`, `method` | those under way |
//! | everything else | its own | gauges and counters under `sinew_` |

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use sinew_core::{
    classify::Code,
    stats::{self, BUCKETS_US, CallKey, CallStats, Side},
};
use std::{
    collections::BTreeMap,
    fmt::Error,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// The whole exposition, OpenMetrics text.
pub fn metrics_text() -> String {
    let mut registry = Registry::with_prefix("sinew");
    registry.register_collector(Box::new(Stats));
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Stats;

impl Collector for Stats {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let calls = stats::Registry::global().all_calls();
        for (side, name, help) in [
            (Side::Client, "client_call", "Calls as their callers saw them"),
            (Side::Attempt, "client_attempt", "Attempts of calls"),
            (Side::Server, "server_call", "Calls as their server saw them"),
        ] {
            let series: Vec<_> = calls.iter().filter(|(key, _)| key.side == side).collect();
            if !series.is_empty() {
                encode_calls(&mut encoder, name, help, &series)?;
            }
        }
        let mut gauges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, labels, value) in stats::Registry::global().all_gauges() {
            gauges.entry(name).or_default().push((labels, value));
        }
        for (name, series) in gauges {
            let mut family = encoder.encode_descriptor(name, name, None, MetricType::Gauge)?;
            for (labels, value) in series {
                ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut counters: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, labels, value) in stats::Registry::global().all_counters() {
            counters.entry(name).or_default().push((labels, value));
        }
        for (name, series) in counters {
            // The encoder adds the suffix itself.
            let name = name.strip_suffix("_total").unwrap_or(name);
            let mut family = encoder.encode_descriptor(name, name, None, MetricType::Counter)?;
            for (labels, value) in series {
                ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

type Series<'a> = [&'a (CallKey, Arc<CallStats>)];

fn encode_calls(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, series: &Series<'_>) -> Result<(), Error> {
    let labels = |key: &CallKey| [("service", key.service.to_string()), ("method", key.method.trim_start_matches('/').to_owned())];

    let (total, in_flight, seconds) = (format!("{name}s"), format!("{name}s_in_flight"), format!("{name}_seconds"));

    let mut family = encoder.encode_descriptor(&total, help, None, MetricType::Counter)?;
    for (key, stats) in series {
        for &code in Code::ALL.iter().filter(|code| stats.count(**code) > 0) {
            let [service, method] = labels(key);
            let labels = [service, method, ("code", code.name().to_owned())];
            ConstCounter::new(stats.count(code)).encode(family.encode_family(&labels)?)?;
        }
    }

    let mut family = encoder.encode_descriptor(&in_flight, "Those under way", None, MetricType::Gauge)?;
    for (key, stats) in series {
        ConstGauge::new(stats.in_flight.load(Relaxed)).encode(family.encode_family(&labels(key))?)?;
    }

    let mut family = encoder.encode_descriptor(&seconds, "How long they took", None, MetricType::Histogram)?;
    for (key, stats) in series {
        let (counts, sum_us) = stats.latency.read();
        let bounds = BUCKETS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        family.encode_family(&labels(key))?.encode_histogram::<NoLabelSet>(
            sum_us as f64 / 1e6,
            counts.iter().sum(),
            &buckets,
            None,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::metrics_text;
    use sinew_core::{
        classify::Code,
        stats::{CallKey, Registry, Side},
    };
    use std::{sync::atomic::Ordering::Relaxed, time::Duration};

    #[test]
    fn every_kind_of_series_is_written() {
        let key = CallKey { side: Side::Client, service: "order".into(), method: "/shop.order.v1.OrderService/GetOrder".into() };
        let calls = Registry::global().calls(key);
        calls.record(Code::Ok, Duration::from_millis(3));
        calls.record(Code::Unavailable, Duration::from_secs(60));
        Registry::global().gauge("endpoints", vec![("service", "order".into())]).store(2, Relaxed);
        Registry::global().counter("transparent_retries_total", Vec::new()).store(7, Relaxed);

        let text = metrics_text();
        let series = r#"service="order",method="shop.order.v1.OrderService/GetOrder""#;
        for line in [
            format!(r#"sinew_client_calls_total{{{series},code="OK"}} 1"#),
            format!(r#"sinew_client_calls_total{{{series},code="UNAVAILABLE"}} 1"#),
            format!("sinew_client_calls_in_flight{{{series}}} 0"),
            format!(r#"sinew_client_call_seconds_bucket{{le="0.0025",{series}}} 0"#),
            format!(r#"sinew_client_call_seconds_bucket{{le="0.005",{series}}} 1"#),
            format!(r#"sinew_client_call_seconds_bucket{{le="+Inf",{series}}} 2"#),
            format!("sinew_client_call_seconds_sum{{{series}}} 60.003"),
            r#"sinew_endpoints{service="order"} 2"#.to_owned(),
            "sinew_transparent_retries_total{} 7".to_owned(),
        ] {
            assert!(text.contains(&line), "{line}\nis missing in\n{text}");
        }
    }
}
