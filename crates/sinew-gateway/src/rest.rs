//! A REST request: found in the routes, checked, transcoded, called, answered.

use crate::{
    auth,
    edge::{Admitted, Inner},
    headers,
    observe::Record,
    problem::Problem,
    routes::{BodyRule, Found, decode},
    transcode::{Input, Key},
    unary,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, LOCATION},
    request::Parts,
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use sinew_core::{Context, classify::Code, context::scope};
use tokio::time::timeout;
use tonic::{Status, body::Body};
use uuid::Uuid;

/// More segments than any template has; what is longer is not there.
const MOST_SEGMENTS: usize = 64;

pub(crate) async fn handle(
    edge: &Inner,
    parts: &Parts,
    body: Body,
    caller: &Admitted,
    record: &mut Record,
) -> Result<Response<Body>, Problem> {
    let path = parts.uri.path();
    let raw: Vec<_> = path.trim_start_matches('/').split('/').take(MOST_SEGMENTS + 1).collect();
    if raw.len() > MOST_SEGMENTS || !path.starts_with('/') || path.starts_with("//") {
        return Err(Problem::not_found(path));
    }
    let decoded = raw.iter().map(|s| decode(s, false)).collect::<Result<Vec<_>, _>>();
    let decoded = decoded.map_err(|why| Problem::bad_request(format!("the path: {why}")))?;
    let mut segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();

    // HEAD is GET without the body, which the HTTP library leaves out.
    let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
    let binding = match edge.routes.find(method, &segments) {
        Found::Route { value, verb } => {
            if let Some((stem, _)) = segments.last().filter(|_| verb).and_then(|last| last.rsplit_once(':'))
                && let Some(last) = segments.last_mut()
            {
                *last = stem;
            }
            value
        }
        Found::WrongMethod(allowed) => return Err(Problem::wrong_method(method, &allowed)),
        Found::Nothing => return Err(Problem::not_found(path)),
    };
    let target = &binding.method;
    record.method(&target.stats, target.path.as_str());
    auth::permit(target.access, caller.claims.as_ref())?;

    let body = match binding.body {
        BodyRule::None => Bytes::new(),
        BodyRule::Whole | BodyRule::Field(_) => read(edge, &parts.headers, body).await?,
    };
    let minted;
    let key = match sent_key(&parts.headers).map_err(Problem::bad_request)? {
        Some(key) => Key::Sent(key),
        None => {
            minted = Uuid::now_v7().to_string();
            Key::Minted(&minted)
        }
    };
    let query = parts.uri.query().unwrap_or_default();
    let frame = edge.transcode.request(binding, &Input { segments: &segments, query, body: &body, key })?;

    let headers = headers::from_rest(&parts.headers, parts.headers.get(headers::REQUEST_ID), &edge.forward);
    let context = Context { trace: record.trace(), ..Context::default() };
    let call = scope(context, unary::call(&*edge.backend, target, headers, frame, edge.limits.answer_bytes));
    let answer = match timeout(edge.limits.call, call).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("the call took too long")),
    };
    let answer = answer.map_err(|status| failed(target.path.as_str(), status))?;
    let answer = edge.transcode.response(binding, answer).map_err(|error| {
        tracing::error!(method = %target.path, error = &error as &dyn std::error::Error, "a service breaks its contract");
        Problem::failed()
    })?;

    let mut response = Response::new(Body::new(Full::new(Bytes::from(answer.json))));
    let location = answer.created.and_then(|id| HeaderValue::try_from(format!("{path}/{id}")).ok());
    if let Some(location) = location {
        *response.status_mut() = StatusCode::CREATED;
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Answers depend on the token and on the moment.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(Code::Ok);
    Ok(response)
}

/// A service's refusal, logged as far as the caller does not get to see it.
fn failed(method: &str, status: Status) -> Problem {
    if matches!(status.code(), tonic::Code::Internal | tonic::Code::Unknown | tonic::Code::DataLoss | tonic::Code::Unavailable) {
        tracing::warn!(method, code = ?status.code(), message = status.message(), "a call failed");
    }
    status.into()
}

/// The body, whole, as JSON by its own account.
async fn read(edge: &Inner, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    if headers.get(CONTENT_ENCODING).is_some_and(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::media_type("compressed bodies are not taken"));
    }
    let limit = edge.limits.body_bytes;
    let declared = http_body::Body::size_hint(&body);
    if declared.lower() > limit as u64 {
        return Err(Problem::too_large(limit));
    }
    let collected = match timeout(edge.limits.body, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Problem::too_large(limit)),
        Ok(Err(_)) => return Err(Problem::bad_request("the body ended before its end")),
        Err(_) => return Err(Problem::too_slow()),
    };
    if !collected.is_empty() && !is_json(headers) {
        return Err(Problem::media_type("the body must be application/json, in UTF-8"));
    }
    Ok(collected)
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next().and_then(|v| v.to_str().ok()), values.next()) else { return false };
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, charset)) if name.eq_ignore_ascii_case("charset") => charset.trim_matches('"').eq_ignore_ascii_case("utf-8"),
        _ => true,
    };
    json && parts.all(utf8)
}

/// The header `Idempotency-Key`: a plain value, or a string in quotes as the draft has it
/// (draft-ietf-httpapi-idempotency-key-header).
fn sent_key(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().ok().filter(|_| values.next().is_none()).map(str::trim);
    let key = text.map(|t| t.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(t));
    match key.filter(|k| !k.is_empty()) {
        Some(key) => Ok(Some(key)),
        None => Err("the header Idempotency-Key must be there once, and be plain text"),
    }
}
