//! The HTTP API: paths, status codes and headers as Consul's.

use crate::{
    agent::Shared,
    answer,
    definition::ServiceDefinition,
    query::Query,
    state::{State, Status},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query as Pairs, State as Extract},
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

/// Largest body taken. A registration has a few kilobytes; Consul's own limit for KV values is of this size.
const BODY: usize = 512 * 1024;

const UI: &str = "\
This is the registry embedded in sinew. It speaks the part of Consul's API that the mesh uses, and has no web interface.

For Consul's own, start a Consul and point sinew at it:

    consul agent -dev
    CONSUL_HTTP_ADDR=127.0.0.1:8500 sinew up --consul-port 8501

Then open http://127.0.0.1:8500/ui. On the command line: sinew services
";

pub(crate) fn router(shared: Shared) -> Router {
    let api = Router::new()
        .route("/agent/self", get(agent_self))
        .route("/status/leader", get(leader))
        .route("/agent/services", get(agent_services))
        .route("/agent/checks", get(agent_checks))
        .route("/agent/service/register", put(register).fallback(method_not_allowed))
        .route("/agent/service/deregister/{id}", put(deregister).fallback(method_not_allowed))
        .route("/agent/service/maintenance/{id}", put(maintenance).fallback(method_not_allowed))
        .route("/agent/service/{id}", get(agent_service))
        .route("/agent/health/service/id/{id}", get(agent_health))
        .route("/agent/check/pass/{id}", put(pass))
        .route("/agent/check/warn/{id}", put(warn))
        .route("/agent/check/fail/{id}", put(fail))
        .route("/agent/check/update/{id}", put(update))
        .route("/catalog/services", get(catalog_services))
        .route("/catalog/service/{name}", get(catalog_service))
        .route("/health/service/{name}", get(health_service));
    Router::new()
        .nest("/v1", api)
        .route("/", get(|| async { UI }))
        .route("/ui", get(|| async { UI }))
        .route("/ui/", get(|| async { UI }))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(shared)
}

/// The pairs of a query string.
type Params = Pairs<Vec<(String, String)>>;

async fn agent_self(Extract(shared): Extract<Shared>) -> Json<Value> {
    Json(shared.read(|s| answer::agent_self(&s.node)))
}

async fn leader(Extract(shared): Extract<Shared>) -> Json<String> {
    Json(shared.read(|s| s.node.api.to_string()))
}

async fn agent_services(Extract(shared): Extract<Shared>) -> Json<Value> {
    Json(shared.read(|s| Value::Object(s.services().map(|s| (s.definition.id.clone(), answer::agent_service(s))).collect())))
}

async fn agent_checks(Extract(shared): Extract<Shared>) -> Json<Value> {
    Json(shared.read(answer::agent_checks))
}

async fn agent_service(Extract(shared): Extract<Shared>, Path(id): Path<String>) -> Response {
    match shared.read(|s| s.service(&id).map(answer::agent_service)) {
        Some(service) => Json(service).into_response(),
        None => (StatusCode::NOT_FOUND, format!("unknown service ID: {id}")).into_response(),
    }
}

async fn agent_health(Extract(shared): Extract<Shared>, Path(id): Path<String>) -> Response {
    let (status, word, body) = shared.read(|s| answer::agent_health(s, &id));
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(HeaderName::from_static("x-consul-reason"), word)], Json(body)).into_response()
}

async fn register(Extract(shared): Extract<Shared>, body: Bytes) -> Response {
    let registered = ServiceDefinition::parse(&body).and_then(|definition| {
        let id = definition.id.clone();
        shared.write(|s| s.register(definition, Instant::now())).map(|()| id)
    });
    match registered {
        Ok(id) => {
            shared.probes.sync(&shared, &id);
            StatusCode::OK.into_response()
        }
        Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
    }
}

async fn deregister(Extract(shared): Extract<Shared>, Path(id): Path<String>) -> StatusCode {
    shared.write(|s| s.deregister(&id));
    shared.probes.stop(&id);
    StatusCode::OK
}

async fn maintenance(Extract(shared): Extract<Shared>, Path(id): Path<String>, Pairs(pairs): Params) -> Response {
    let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
    let enable = match value("enable") {
        None | Some("") => return (StatusCode::BAD_REQUEST, "Missing value for enable").into_response(),
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        Some(other) => return (StatusCode::BAD_REQUEST, format!("Invalid value for enable: {other:?}")).into_response(),
    };
    if shared.write(|s| s.maintain(&id, enable, value("reason").unwrap_or_default())) {
        StatusCode::OK.into_response()
    } else {
        (StatusCode::NOT_FOUND, format!("No service registered with ID {id:?}")).into_response()
    }
}

fn told(shared: &Shared, id: &str, status: Status, output: String) -> Response {
    if !shared.read(|s| s.has_ttl(id)) {
        return (StatusCode::INTERNAL_SERVER_ERROR, format!("CheckID {id:?} does not have associated TTL")).into_response();
    }
    shared.write(|s| s.update(id, status, output, Instant::now()));
    StatusCode::OK.into_response()
}

fn note(pairs: Vec<(String, String)>) -> String {
    pairs.into_iter().find(|(k, _)| k == "note").map(|(_, v)| v).unwrap_or_default()
}

async fn pass(Extract(shared): Extract<Shared>, Path(id): Path<String>, Pairs(pairs): Params) -> Response {
    told(&shared, &id, Status::Passing, note(pairs))
}

async fn warn(Extract(shared): Extract<Shared>, Path(id): Path<String>, Pairs(pairs): Params) -> Response {
    told(&shared, &id, Status::Warning, note(pairs))
}

async fn fail(Extract(shared): Extract<Shared>, Path(id): Path<String>, Pairs(pairs): Params) -> Response {
    told(&shared, &id, Status::Critical, note(pairs))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Update {
    #[serde(default)]
    status: String,
    #[serde(default)]
    output: String,
}

async fn update(Extract(shared): Extract<Shared>, Path(id): Path<String>, body: Bytes) -> Response {
    let update: Update = match serde_json::from_slice(&body) {
        Ok(update) => update,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("Request decode failed: {error}")).into_response(),
    };
    match Status::parse(&update.status) {
        Some(status) => told(&shared, &id, status, update.output),
        None => (StatusCode::BAD_REQUEST, format!("Invalid check status: '{}'", update.status)).into_response(),
    }
}

async fn catalog_services(Extract(shared): Extract<Shared>, Pairs(pairs): Params) -> Response {
    blocking(&shared, pairs, State::catalogue_index, |state, _| answer::catalog_services(state)).await
}

async fn catalog_service(Extract(shared): Extract<Shared>, Path(name): Path<String>, Pairs(pairs): Params) -> Response {
    let index = |state: &State| state.service_index(&name);
    blocking(&shared, pairs, index, |state, query| {
        // Of the catalogue, only tags are asked; whether it is healthy is another question.
        state.named(&name).filter(|s| query.tagged(s)).map(|s| answer::catalog_entry(&state.node, s)).collect()
    })
    .await
}

async fn health_service(Extract(shared): Extract<Shared>, Path(name): Path<String>, Pairs(pairs): Params) -> Response {
    let index = |state: &State| state.service_index(&name);
    blocking(&shared, pairs, index, |state, query| {
        state.named(&name).filter(|s| query.takes(s)).map(|s| answer::health_entry(&state.node, s)).collect()
    })
    .await
}

async fn blocking(
    shared: &Shared,
    pairs: Vec<(String, String)>,
    index: impl Fn(&State) -> u64,
    body: impl FnOnce(&State, &Query) -> Value,
) -> Response {
    let query = match Query::parse(&pairs) {
        Ok(query) => query,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    query.block(shared, &index).await;
    // Index and body of one moment: the index of before would hide a change in between.
    let (index, body) = shared.read(|state| (index(state), body(state, &query)));
    let headers = [
        (HeaderName::from_static("x-consul-index"), index.to_string()),
        (HeaderName::from_static("x-consul-knownleader"), "true".to_owned()),
        (HeaderName::from_static("x-consul-lastcontact"), "0".to_owned()),
        (HeaderName::from_static("x-consul-effective-consistency"), "leader".to_owned()),
    ];
    (headers, Json(body)).into_response()
}

async fn method_not_allowed(method: axum::http::Method) -> Response {
    let text = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::METHOD_NOT_ALLOWED, text, format!("method {method} not allowed")).into_response()
}
