//! The routes.

use crate::answer::{Answer, Body, Failure, Named, object, query};
use crate::console::{Ask, Console};
use crate::feed;
use crate::metrics::metrics;
use crate::pools;
use crate::served::Served;
use crate::site;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use remoteingress_config::commands::Method;
use remoteingress_config::error::ErrorCode;
use remoteingress_config::rest::{EventsQuery, Operation, StreamsQuery, Verb};
use serde_json::{Value, json};

/// Events in one answer.
const MAX_EVENTS: usize = 1_000;

/// Every route, described for programs that make a client of it.
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// All routes of the server: one for each operation that is described, and no other.
pub(crate) fn routes(served: Served) -> Router {
    let mut routes = Router::new();
    for operation in Operation::ALL {
        let (verb, path) = operation.route();
        routes = routes.route(path, handler(*operation, verb));
    }
    routes
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(served)
}

fn handler(operation: Operation, verb: Verb) -> MethodRouter<Served> {
    let verb = match verb {
        Verb::Get => MethodFilter::GET,
        Verb::Put => MethodFilter::PUT,
        Verb::Post => MethodFilter::POST,
        Verb::Delete => MethodFilter::DELETE,
    };
    match operation {
        Operation::GetPage => on(verb, site::document),
        Operation::GetPageFile => on(verb, site::file),
        Operation::GetHealth => on(verb, health),
        Operation::GetReady => on(verb, ready),
        Operation::GetMetrics => on(verb, metrics),
        Operation::GetStatus => on(verb, status),
        Operation::GetConfig => on(verb, config),
        Operation::GetStreams => on(verb, streams),
        Operation::GetEvents => on(verb, events),
        Operation::StreamEvents => on(verb, feed::stream),
        Operation::GetEdges => on(verb, edges),
        Operation::GetEdge => on(verb, edge),
        Operation::PutEdge => on(verb, put_edge),
        Operation::DeleteEdge => on(verb, delete_edge),
        Operation::CreateToken => on(verb, token),
        Operation::TestEdge => on(verb, self_test),
        Operation::GetPools => on(verb, pools::all),
        Operation::GetPool => on(verb, pools::one),
        Operation::PutPool => on(verb, pools::put),
        Operation::DeletePool => on(verb, pools::delete),
        Operation::SetTargetState => on(verb, pools::set_target_state),
        Operation::ExplainPool => on(verb, pools::explain),
        Operation::GetBinding => on(verb, pools::binding),
        Operation::DeleteBinding => on(verb, pools::unbind),
        Operation::GetGeo => on(verb, pools::geo),
        Operation::Register => on(verb, pools::register),
        Operation::Heartbeat => on(verb, pools::heartbeat),
        Operation::Deregister => on(verb, pools::deregister),
        Operation::GetBackends => on(verb, pools::registered),
        Operation::GetBackend => on(verb, pools::one_registered),
        Operation::Drain => on(verb, drain),
        Operation::GetOpenapi => on(verb, openapi),
    }
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

async fn streams(
    State(Served { console, .. }): State<Served>,
    asked: Result<Query<StreamsQuery>, QueryRejection>,
) -> Answer {
    let StreamsQuery { edge, limit } = query(asked)?;
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

async fn edge(State(Served { console, .. }): State<Served>, Named(id): Named) -> Answer {
    Ok(axum::Json(console.ask(Ask::Edges(Some(id))).await?))
}

async fn put_edge(
    State(Served { console, .. }): State<Served>,
    Named(id): Named,
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

async fn delete_edge(State(Served { console, .. }): State<Served>, Named(id): Named) -> Answer {
    Ok(axum::Json(console.ask(Ask::DeleteEdge(id)).await?))
}

async fn token(
    State(Served { console, .. }): State<Served>,
    Named(id): Named,
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

async fn self_test(State(Served { console, .. }): State<Served>, Named(id): Named) -> Answer {
    call(&console, Method::SelfTest, json!({ "edgeId": id })).await
}

async fn drain(State(Served { console, .. }): State<Served>) -> Answer {
    call(&console, Method::Stop, json!({})).await
}

async fn events(
    State(served): State<Served>,
    asked: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let EventsQuery { since } = query(asked)?;
    let found = served.events.history().since(since, MAX_EVENTS);
    let (events, next, lost) = (found.events.join(","), found.next, found.lost);
    let body = format!(r#"{{"events":[{events}],"next":{next},"lost":{lost}}}"#);
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
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

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::error::CodedError;
    use std::collections::BTreeSet;

    fn document() -> Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    #[test]
    fn what_is_described_is_what_is_served() {
        let document = document();
        let mut described = BTreeSet::new();
        for (path, verbs) in document["paths"].as_object().unwrap() {
            for (verb, operation) in verbs.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap().to_owned();
                described.insert((verb.to_uppercase(), path.clone(), name));
            }
        }
        let served = Operation::ALL.iter().map(|operation| {
            let (verb, path) = operation.route();
            let name = operation.as_str().to_owned();
            (verb.as_str().to_owned(), path.to_owned(), name)
        });
        assert_eq!(described, served.collect());
    }

    #[test]
    fn each_code_is_described_with_its_status() {
        let responses = &document()["components"]["responses"];
        for code in ErrorCode::ALL {
            let Failure { status, .. } = CodedError::new(*code, "").into();
            let described = responses[status.as_str()]["description"].as_str().unwrap();
            let is_told = described.contains(&format!("`{code}`"));
            assert!(
                is_told || status == StatusCode::INTERNAL_SERVER_ERROR,
                "{status} {code}"
            );
        }
    }
}
