//! The routes.

use crate::answer::{Answer, Body, Failure, Id, query};
use crate::console::{Ask, Console};
use crate::feed;
use crate::metrics::metrics;
use crate::served::Served;
use crate::site;
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use remoteingress_config::commands::Method;
use remoteingress_config::error::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Events in one answer.
const MAX_EVENTS: usize = 1_000;

/// All routes of the server.
pub(crate) fn routes(served: Served) -> Router {
    Router::new()
        .route("/", get(site::document))
        .route("/page/{name}", get(site::file))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .route("/api/v1/streams", get(streams))
        .route("/api/v1/config", get(config))
        .route("/api/v1/edges", get(edges))
        .route(
            "/api/v1/edges/{id}",
            get(edge).put(put_edge).delete(delete_edge),
        )
        .route("/api/v1/edges/{id}/token", post(token))
        .route("/api/v1/edges/{id}/test", post(self_test))
        .route("/api/v1/drain", post(drain))
        .route("/api/v1/events", get(events))
        .route("/api/v1/events/stream", get(feed::stream))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(served)
}

/// Nothing that this server says is to be kept, or to be read as anything else.
pub(crate) async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn health() -> &'static str {
    "ok\n"
}

async fn ready(State(Served { console, .. }): State<Served>) -> Response {
    match console.ask(Ask::IsReady).await {
        Ok(Value::Bool(true)) => "ready\n".into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
    }
}

async fn status(State(Served { console, .. }): State<Served>) -> Answer {
    Ok(axum::Json(console.ask(Ask::Overview).await?))
}

/// Which streams are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedStreams {
    edge: Option<String>,
    limit: Option<usize>,
}

async fn streams(
    State(Served { console, .. }): State<Served>,
    asked: Result<Query<AskedStreams>, QueryRejection>,
) -> Answer {
    let AskedStreams { edge, limit } = query(asked)?;
    let mut params = json!({});
    if let Some(edge) = edge {
        params["edgeId"] = Value::String(edge);
    }
    if let Some(limit) = limit {
        params["limit"] = json!(limit);
    }
    call(&console, Method::GetStreams, params).await
}

async fn config(State(Served { console, .. }): State<Served>) -> Answer {
    Ok(axum::Json(console.ask(Ask::Config).await?))
}

async fn edges(State(Served { console, .. }): State<Served>) -> Answer {
    Ok(axum::Json(console.ask(Ask::Edges(None)).await?))
}

async fn edge(State(Served { console, .. }): State<Served>, Id(id): Id) -> Answer {
    Ok(axum::Json(console.ask(Ask::Edges(Some(id))).await?))
}

async fn put_edge(
    State(Served { console, .. }): State<Served>,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let edge = object(&headers, &body)?;
    match edge.get("id") {
        None => {}
        Some(Value::String(given)) if *given == id => {}
        Some(_) => {
            let message = "id: differs from the one in the path; leave it out or make them equal";
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::BadRequest,
                message,
            ));
        }
    }
    Ok(axum::Json(console.ask(Ask::PutEdge(id, edge)).await?))
}

async fn delete_edge(State(Served { console, .. }): State<Served>, Id(id): Id) -> Answer {
    Ok(axum::Json(console.ask(Ask::DeleteEdge(id)).await?))
}

async fn token(
    State(Served { console, .. }): State<Served>,
    Id(id): Id,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let mut params = if body.is_empty() {
        json!({})
    } else {
        object(&headers, &body)?
    };
    params["edgeId"] = Value::String(id);
    call(&console, Method::CreateConnectionToken, params).await
}

async fn self_test(State(Served { console, .. }): State<Served>, Id(id): Id) -> Answer {
    call(&console, Method::SelfTest, json!({ "edgeId": id })).await
}

async fn drain(State(Served { console, .. }): State<Served>) -> Answer {
    call(&console, Method::Stop, json!({})).await
}

/// Which events are asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    since: u64,
}

async fn events(
    State(served): State<Served>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Failure> {
    let Asked { since } = query(asked)?;
    let found = served.events.history().since(since, MAX_EVENTS);
    let (events, next, lost) = (found.events.join(","), found.next, found.lost);
    let body = format!(r#"{{"events":[{events}],"next":{next},"lost":{lost}}}"#);
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

async fn unknown() -> Failure {
    let message = "there is nothing at this path; see docs/admin.md";
    Failure::new(StatusCode::NOT_FOUND, ErrorCode::NotFound, message)
}

async fn wrong_method() -> Failure {
    let message = "this path has no such method; the Allow header lists those that it has";
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::BadRequest,
        message,
    )
}

async fn call(console: &Console, method: Method, params: Value) -> Answer {
    Ok(axum::Json(console.ask(Ask::Call(method, params)).await?))
}

/// The JSON object in a body. A page of another origin can't send this content type unasked.
fn object(headers: &HeaderMap, body: &Bytes) -> Result<Value, Failure> {
    let bad = |message: &str| Failure::new(StatusCode::BAD_REQUEST, ErrorCode::BadRequest, message);
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(bad(
            "the body must be JSON: send Content-Type: application/json",
        ));
    }
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(bad("the body must be a JSON object")),
        Err(_) => Err(bad("the body is not JSON")),
    }
}
