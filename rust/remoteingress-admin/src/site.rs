//! The status page as answers: the document, and the files that it loads.

use crate::answer::Failure;
use crate::console::Ask;
use crate::page::{CONTENT_SECURITY_POLICY, EventLine, Page, asset, render};
use crate::served::Served;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY as POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::overview::{Overview, Role};
use remoteingress_observe::clock::unix_millis;
use serde::Deserialize;
use std::time::SystemTime;

/// Events on the page without script.
const EVENTS_SHOWN: usize = 200;

/// The ids of the allowed edges, from the answer that has them.
#[derive(Deserialize)]
struct Allowed {
    edges: Vec<AllowedEdge>,
}

#[derive(Deserialize)]
struct AllowedEdge {
    id: String,
}

pub(crate) async fn document(State(served): State<Served>) -> Result<Response, Failure> {
    let overview: Overview = read(served.console.ask(Ask::Overview).await?)?;
    let allowed = match overview.role {
        Role::Hub => read::<Allowed>(served.console.ask(Ask::Edges(None)).await?)?.edges,
        Role::Edge => Vec::new(),
    };
    let allowed: Vec<String> = allowed.into_iter().map(|edge| edge.id).collect();
    let kept = served.events.history().since(0, usize::MAX).events;
    let latest = &kept[kept.len().saturating_sub(EVENTS_SHOWN)..];
    let events: Vec<EventLine> = latest
        .iter()
        .filter_map(|event| serde_json::from_str(event).ok())
        .collect();
    let page = Page {
        overview: &overview,
        allowed: &allowed,
        events: &events,
        now: unix_millis(SystemTime::now()),
    };
    Ok((headers("text/html; charset=utf-8"), render(&page)).into_response())
}

pub(crate) async fn file(Path(name): Path<String>) -> Result<Response, Failure> {
    let Some((content_type, content)) = asset(&name) else {
        let message = "the status page has no such file";
        return Err(Failure::new(
            StatusCode::NOT_FOUND,
            ErrorCode::NotFound,
            message,
        ));
    };
    Ok((headers(content_type), content).into_response())
}

fn headers(content_type: &'static str) -> [(HeaderName, &'static str); 3] {
    [
        (CONTENT_TYPE, content_type),
        (POLICY, CONTENT_SECURITY_POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ]
}

/// An answer of the engine as its type. Both are of this binary, so that they always fit.
fn read<T: serde::de::DeserializeOwned>(answer: serde_json::Value) -> Result<T, Failure> {
    let read = serde_json::from_value(answer);
    read.map_err(|error| {
        let message = format!("failed to read the status for the page: {error}; report this");
        CodedError::new(ErrorCode::Internal, message).into()
    })
}
