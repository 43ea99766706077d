//! The JSON that the API answers with, field for field as Consul's.

use crate::state::{Check, Node, Service, State, Status};
use serde_json::{Map, Value, json};

/// `agent/service/ID`, and each of `agent/services`.
pub(crate) fn agent_service(service: &Service) -> Value {
    let d = &service.definition;
    let mut object = json!({
        "ID": d.id, "Service": d.name, "Tags": service.tags(), "Meta": d.meta.clone().unwrap_or_default(), "Port": d.port,
        "Address": d.address, "Weights": service.weights(), "EnableTagOverride": d.enable_tag_override,
    });
    let tagged = service.tagged_addresses();
    if let (false, Some(object)) = (tagged.is_empty(), object.as_object_mut()) {
        object.insert("TaggedAddresses".into(), json!(tagged));
    }
    object
}

/// One entry of `health/service/NAME`.
pub(crate) fn health_entry(node: &Node, service: &Service) -> Value {
    let mut own = agent_service(service);
    if let Some(own) = own.as_object_mut() {
        // The catalogue keeps no empty map.
        if service.definition.meta.as_ref().is_none_or(|m| m.is_empty()) {
            own.insert("Meta".into(), Value::Null);
        }
        own.insert("Proxy".into(), json!({"MeshGateway": {}, "Expose": {}}));
        own.insert("Connect".into(), json!({}));
        own.insert("CreateIndex".into(), json!(service.create_index));
        own.insert("ModifyIndex".into(), json!(service.modify_index));
    }
    let mut checks = vec![json!({
        "Node": node.name, "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "Notes": "",
        "Output": "Agent alive and reachable", "ServiceID": "", "ServiceName": "", "ServiceTags": [], "Type": "", "Definition": {},
        "CreateIndex": 10, "ModifyIndex": 10,
    })];
    checks.extend(service.checks.values().map(|c| check(node, service, c, View::Catalogue)));
    json!({
        "Node": {
            "ID": node.id, "Node": node.name, "Address": node.address, "Datacenter": node.datacenter,
            "TaggedAddresses": node_addresses(node), "Meta": node_meta(), "CreateIndex": 10, "ModifyIndex": 10,
        },
        "Service": own,
        "Checks": checks,
    })
}

/// One entry of `catalog/service/NAME`.
pub(crate) fn catalog_entry(node: &Node, service: &Service) -> Value {
    let d = &service.definition;
    json!({
        "ID": node.id, "Node": node.name, "Address": node.address, "Datacenter": node.datacenter,
        "TaggedAddresses": node_addresses(node), "NodeMeta": node_meta(),
        "ServiceKind": "", "ServiceID": d.id, "ServiceName": d.name, "ServiceTags": service.tags(), "ServiceAddress": d.address,
        "ServiceTaggedAddresses": service.tagged_addresses(), "ServiceWeights": service.weights(),
        "ServiceMeta": d.meta.clone().unwrap_or_default(), "ServicePort": d.port,
        "ServiceEnableTagOverride": d.enable_tag_override, "ServiceProxy": {"MeshGateway": {}, "Expose": {}},
        "ServiceConnect": {}, "CreateIndex": service.create_index, "ModifyIndex": service.modify_index,
    })
}

/// `catalog/services`: every name with its tags; Consul itself is a service.
pub(crate) fn catalog_services(state: &State) -> Value {
    let mut all: Map<String, Value> = Map::from_iter([("consul".to_owned(), json!([]))]);
    for service in state.services() {
        let tags = all.entry(service.definition.name.clone()).or_insert_with(|| json!([]));
        for tag in service.tags() {
            if let Some(tags) = tags.as_array_mut().filter(|t| !t.iter().any(|x| x == tag)) {
                tags.push(json!(tag));
            }
        }
    }
    Value::Object(all)
}

/// `agent/checks`.
pub(crate) fn agent_checks(state: &State) -> Value {
    let all = state.services().flat_map(|s| s.checks.values().map(move |c| (c.id.clone(), check(&state.node, s, c, View::Checks))));
    Value::Object(all.collect())
}

/// `agent/health/service/id/ID`: the status code, the word for it, and the body.
pub(crate) fn agent_health(state: &State, id: &str) -> (u16, String, Value) {
    let Some(service) = state.service(id) else {
        let body = json!({"AggregatedStatus": "critical", "Service": null, "Checks": null});
        return (404, format!("ServiceId {id} not found"), body);
    };
    let (status, word) = match service.status() {
        _ if service.in_maintenance() => (503, "maintenance"),
        Status::Passing => (200, "passing"),
        Status::Warning => (429, "warning"),
        Status::Critical => (503, "critical"),
    };
    let checks: Vec<_> = service.checks.values().map(|c| check(&state.node, service, c, View::Health)).collect();
    (status, word.to_owned(), json!({"AggregatedStatus": word, "Service": agent_service(service), "Checks": checks}))
}

/// `agent/self`, as far as anybody looks at it.
pub(crate) fn agent_self(node: &Node) -> Value {
    json!({
        "Config": {
            "Datacenter": node.datacenter, "NodeName": node.name, "NodeID": node.id, "Revision": "", "Server": true,
            "Version": concat!("1.8.7+sinew.", env!("CARGO_PKG_VERSION")),
        },
        "Member": {"Name": node.name, "Addr": node.address, "Port": node.api.port(), "Status": 1},
    })
}

/// Where a check is shown. Indexes are the catalogue's; only the agent's health view writes absent tags as null.
enum View {
    Catalogue,
    Checks,
    Health,
}

fn check(node: &Node, service: &Service, check: &Check, view: View) -> Value {
    let kind = match check.kind {
        crate::definition::Kind::Grpc { .. } => "grpc",
        crate::definition::Kind::Ttl(_) => "ttl",
        crate::definition::Kind::Maintenance => "maintenance",
    };
    let indexed = matches!(view, View::Catalogue);
    let (create, modify) = if indexed { (check.create_index, check.modify_index) } else { (0, 0) };
    let tags = match view {
        View::Health => json!(check.service_tags),
        View::Catalogue | View::Checks => json!(check.service_tags.clone().unwrap_or_default()),
    };
    json!({
        "Node": node.name, "CheckID": check.id, "Name": check.name, "Status": check.status.name(), "Notes": check.notes,
        "Output": check.output, "ServiceID": service.definition.id, "ServiceName": service.definition.name,
        "ServiceTags": tags, "Type": kind, "Definition": {}, "CreateIndex": create, "ModifyIndex": modify,
    })
}

fn node_addresses(node: &Node) -> Value {
    json!({"lan": node.address, "lan_ipv4": node.address, "wan": node.address, "wan_ipv4": node.address})
}

fn node_meta() -> Value {
    json!({"consul-network-segment": ""})
}
