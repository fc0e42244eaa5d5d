//! The metrics, in the form that the caller prefers.

use crate::answer::Failure;
use crate::console::Ask;
use crate::served::Served;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use remoteingress_observe::metrics::Format;
use serde_json::Value;

pub(crate) async fn metrics(
    State(Served { console, .. }): State<Served>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let accepted = headers.get_all(ACCEPT).iter();
    let accepted: Vec<&str> = accepted.filter_map(|value| value.to_str().ok()).collect();
    let format = preferred(&accepted.join(","));
    let answer = console.ask(Ask::Metrics(format)).await?;
    let Value::String(text) = answer else {
        return Ok(axum::Json(answer).into_response());
    };
    let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
    Ok((headers, text).into_response())
}

/// OpenMetrics only for those who ask for it by name, and for nothing else rather.
fn preferred(accepted: &str) -> Format {
    let (mut open, mut classic) = (0, 0);
    for range in accepted.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut is_known) = (1_000, true);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => quality = thousandths(value),
                "version" => is_known = value.trim().trim_matches('"') == "1.0.0",
                _ => {}
            }
        }
        match kind.as_str() {
            "application/openmetrics-text" if is_known => open = quality.max(open),
            "text/plain" => classic = quality.max(classic),
            _ => {}
        }
    }
    if open > 0 && open >= classic {
        Format::OpenMetrics
    } else {
        Format::Classic
    }
}

/// A quality from 0 to 1; one that can't be read is none.
fn thousandths(quality: &str) -> u32 {
    let quality: f32 = quality.trim().parse().unwrap_or_default();
    (quality.clamp(0.0, 1.0) * 1_000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for asks in [
            prometheus_2,
            prometheus_3,
            "application/openmetrics-text",
            "Application/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8, text/plain",
        ] {
            assert_eq!(preferred(asks), Format::OpenMetrics, "{asks}");
        }
        for asks in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "text/plain",
            "application/openmetrics-text; q=0",
            "application/openmetrics-text; q=nan",
            "application/openmetrics-text; version=0.0.1",
            "application/openmetrics-text; q=0.4, text/plain; q=0.5",
        ] {
            assert_eq!(preferred(asks), Format::Classic, "{asks}");
        }
    }
}
