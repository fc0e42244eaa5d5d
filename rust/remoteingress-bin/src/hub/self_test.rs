//! The test of an edge over its live tunnel, beside the traffic that is there.

use super::control::HubControl;
use super::running_tests::SelfTest;
use crate::doctor::target::targets;
use remoteingress_config::AllowedEdge;
use remoteingress_config::decode;
use remoteingress_config::doctor::{Check, CheckName, SelfTestParams, SelfTestReport};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::doctor::tunnel as judge;
use serde_json::{Value, json};
use std::slice;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Time for all targets; each has a deadline of its own, except for names.
const TARGETS_TIME: Duration = Duration::from_secs(9);

/// Begins the test of an edge. The test ends with its future, and when the hub drains.
pub(crate) fn begin(
    hub: &HubControl,
    params: &Value,
) -> Result<impl Future<Output = Result<Value, CodedError>> + use<>, CodedError> {
    let SelfTestParams { edge_id } = decode(params)?;
    let state = hub.state();
    let allowed = state.registry().allowed(&edge_id).ok_or_else(|| {
        let message = format!("there is no edge {edge_id}; the status lists those that there are");
        CodedError::new(ErrorCode::UnknownEdge, message)
    })?;
    let test = state.tests.begin(&edge_id)?;
    let hub = hub.clone();
    tracing::info!(edge = %edge_id, "an edge is tested");
    Ok(async move {
        let tests = hub.state().tests.clone();
        tokio::select! {
            report = examine(&hub, allowed, test) => Ok(json!(report)),
            () = tests.ended() => {
                let message = "the hub drains, which has ended the test";
                Err(CodedError::new(ErrorCode::NotRunning, message))
            }
        }
    })
}

async fn examine(hub: &HubControl, allowed: Arc<AllowedEdge>, _test: SelfTest) -> SelfTestReport {
    let config = hub.state().config();
    let targets = timeout(TARGETS_TIME, targets(&config, slice::from_ref(&*allowed)));
    let (mut checks, targets) = tokio::join!(tunnel(hub, &allowed), targets);
    checks.extend(targets.unwrap_or_else(|_| {
        let advice = "look at the hub's name servers: they take too long";
        let seen = "not all targets were tried in time";
        vec![Check::warning(CheckName::Target, seen, advice)]
    }));
    SelfTestReport {
        edge_id: allowed.id.clone(),
        checks,
    }
}

/// What the tunnel of the edge shows.
async fn tunnel(hub: &HubControl, allowed: &AllowedEdge) -> Vec<Check> {
    let shown = hub.edges(Some(allowed.id.as_str())).await.pop();
    let unreachable = shown.as_ref().and_then(|edge| edge.unreachable.as_ref());
    let Some(edge) = shown.as_ref().and_then(|edge| edge.connected.as_ref()) else {
        return vec![judge::no_session(unreachable)];
    };
    let rtt = edge
        .rtt_ms
        .and_then(|rtt| Duration::try_from_secs_f64(rtt / 1_000.0).ok());
    vec![
        judge::session(edge),
        judge::ports(&edge.ports),
        judge::round_trip(rtt, None),
    ]
}
