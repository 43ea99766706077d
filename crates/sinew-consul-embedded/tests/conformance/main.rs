//! One suite, two agents: what the embedded one answers, a real Consul answers too.
//!
//! Every request goes to both. Their answers are compared after what must differ is taken out: the node, and the
//! numbers of indexes. A real agent tells its catalogue of a change some milliseconds later, so answers are asked for
//! until they agree.

#![allow(missing_debug_implementations, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod answers;
mod http;
mod indexes;
mod probes;

use http::{Answer, request};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use tokio::time::{Instant, sleep};

const LIMIT: Duration = Duration::from_secs(10);

pub struct Both {
    real: testkit::consul::Consul,
    embedded: sinew_consul_embedded::Agent,
}

impl Both {
    pub async fn start() -> Self {
        let real = testkit::consul::Consul::start().await.unwrap();
        let embedded = sinew_consul_embedded::Agent::builder().bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let both = Self { real, embedded };
        both.settle().await;
        both
    }

    /// A real agent that has just started still tells its catalogue about its node, which moves every index. It is done
    /// when a service of its own is listed with the node's health, and gone again.
    async fn settle(&self) {
        for (name, agent) in self.each() {
            let (warm, listed) = (service("warm", "warm", "t"), "health/service/warm");
            assert_eq!(request(agent, "PUT", "agent/service/register", &warm).await.status, 200, "{name}");
            for gone in [false, true] {
                let start = Instant::now();
                loop {
                    let list = request(agent, "GET", listed, "").await.json.unwrap();
                    let healthy = list[0]["Checks"].as_array().is_some_and(|c| c.iter().any(|c| c["CheckID"] == "serfHealth"));
                    if healthy != gone {
                        break;
                    }
                    assert!(start.elapsed() < LIMIT, "{name}: {list}");
                    sleep(Duration::from_millis(20)).await;
                }
                if !gone {
                    assert_eq!(request(agent, "PUT", "agent/service/deregister/warm", "").await.status, 200, "{name}");
                }
            }
        }
    }

    /// The two agents, with their names for messages.
    pub fn each(&self) -> [(&'static str, SocketAddr); 2] {
        let real = self.real.url().trim_start_matches("http://").parse().unwrap();
        [("real", real), ("embedded", self.embedded.local_addr())]
    }

    /// Sends the request to both until they agree.
    pub async fn agree(&self, method: &str, path: &str, body: &str) {
        let start = Instant::now();
        loop {
            let [(_, real), (_, embedded)] = self.each();
            let real = normal(request(real, method, path, body).await);
            let embedded = normal(request(embedded, method, path, body).await);
            if real == embedded {
                return;
            }
            let question = format!("{method} {path} {body}");
            assert!(start.elapsed() < LIMIT, "{question}\n    real: {real:#?}\nembedded: {embedded:#?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Without what must differ between two agents.
fn normal(mut answer: Answer) -> Answer {
    if let Some(body) = &mut answer.json {
        strip(body);
    }
    // Words of JSON parsers differ; that the request cannot be decoded does not.
    if answer.text.starts_with("Request decode failed") && !answer.text.contains("unknown field") {
        answer.text = "Request decode failed".into();
    }
    answer
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for key in ["CreateIndex", "ModifyIndex", "ContentHash", "Definition", "Type", "NodeMeta", "Node", "Datacenter"] {
                object.remove(key);
            }
            // A catalogue entry's own id and address are its node's.
            if object.contains_key("ServiceID") && object.contains_key("ServicePort") {
                for key in ["ID", "Address", "TaggedAddresses"] {
                    object.remove(key);
                }
            }
            if let Some(checks) = object.get_mut("Checks").and_then(Value::as_array_mut) {
                checks.sort_by_key(|c| c["CheckID"].to_string());
            }
            object.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// A service with a gRPC check that nobody answers and a TTL check.
pub fn service(id: &str, name: &str, tag: &str) -> String {
    json!({
        "ID": id, "Name": name, "Port": 4000, "Address": "127.0.0.1", "Tags": [tag], "Meta": {"version": "1"},
        "Checks": [
            {"CheckID": format!("{id}:grpc"), "Name": "gRPC", "GRPC": "127.0.0.1:9", "Interval": "1h", "Timeout": "1s", "Status": "passing"},
            {"CheckID": format!("{id}:ttl"), "TTL": "1h", "Status": "passing"},
        ],
    })
    .to_string()
}
