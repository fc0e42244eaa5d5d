//! The test of an edge over its live tunnel, beside the traffic that is there.

use super::control::HubControl;
use super::running_tests::{Findings, SelfTest};
use super::state::Command;
use crate::doctor::target::{Pools, targets};
use remoteingress_config::AllowedEdge;
use remoteingress_config::decode;
use remoteingress_config::doctor::{Check, CheckName, SelfTestParams, SelfTestReport};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_core::doctor::tunnel as judge;
use remoteingress_proto::control::{ControlMessage, MAX_TEST_BYTES, SelfTest as Terms};
use remoteingress_proto::wire::features::Features;
use remoteingress_proto::wire::header::TestNonce;
use remoteingress_tunnel::self_test::Measured;
use serde_json::{Value, json};
use std::slice;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Time for all targets; each has a deadline of its own, except for names.
const TARGETS_TIME: Duration = Duration::from_secs(9);

/// Time for the tunnel: for the edge's stream to come, and for all that it is to show.
const TUNNEL_TIME: Duration = Duration::from_millis(9_500);
/// Time for which each end sends.
const MILLIS: u16 = 2_000;

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

async fn examine(hub: &HubControl, allowed: Arc<AllowedEdge>, test: SelfTest) -> SelfTestReport {
    let config = hub.state().config();
    let pools = Pools::running(hub.state().pools.destinations());
    let edges = slice::from_ref(&*allowed);
    let targets = timeout(TARGETS_TIME, targets(&config, edges, &pools));
    let (mut checks, targets) = tokio::join!(tunnel(hub, &allowed, &test), targets);
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
async fn tunnel(hub: &HubControl, allowed: &AllowedEdge, test: &SelfTest) -> Vec<Check> {
    let status = hub.status().await;
    let mut connected = status.connected_edges.iter();
    let Some(edge) = connected.find(|edge| edge.edge_id == allowed.id) else {
        let mut unreachable = status.unreachable_edges.iter();
        return vec![judge::no_session(
            unreachable.find(|edge| edge.edge_id == allowed.id),
        )];
    };
    let rtt = edge
        .rtt_ms
        .and_then(|rtt| Duration::try_from_secs_f64(rtt / 1_000.0).ok());
    let measured = measure(hub, allowed, test).await;
    let echo = measured.as_ref().ok().and_then(|(found, _)| found.echo);
    let mut checks = vec![
        judge::session(edge),
        judge::ports(&edge.ports),
        judge::round_trip(rtt, echo),
    ];
    match measured {
        Ok((Measured { there, back, .. }, loss)) => {
            checks.push(judge::loss(loss, there));
            checks.push(judge::throughput(CheckName::ThroughputToEdge, there));
            checks.push(judge::throughput(CheckName::ThroughputFromEdge, back));
        }
        Err(Untested::TooOld) => checks.extend(judge::too_old(&edge.version)),
        Err(Untested::Failed(problem)) => checks.extend(judge::untested(problem)),
    }
    checks
}

/// Reason why there is no measurement.
enum Untested {
    /// The edge knows nothing of tests.
    TooOld,
    Failed(&'static str),
}

/// Asks the edge for a stream, and has it measured.
async fn measure(
    hub: &HubControl,
    allowed: &AllowedEdge,
    test: &SelfTest,
) -> Result<Findings, Untested> {
    let state = hub.state();
    let session = state.registry().test_session(&allowed.id);
    let (worker, session, features) =
        session.ok_or(Untested::Failed("the edge has no session for new streams"))?;
    if !features.contains(Features::SELF_TEST) {
        return Err(Untested::TooOld);
    }
    let terms = Terms {
        nonce: TestNonce(remoteingress_os::random::bytes()),
        millis: MILLIS,
        bytes: MAX_TEST_BYTES,
    };
    let failed = |_| Untested::Failed("the message to the edge couldn't be written");
    let frames = ControlMessage::SelfTest(terms).encode().map_err(failed)?;
    let findings = test.expect(terms);
    if let Some(worker) = state.worker(worker) {
        // Without that worker no stream comes.
        let _ = worker.send(Command::Control { session, frames });
    }
    match timeout(TUNNEL_TIME, findings).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_)) => Err(Untested::Failed("its stream was cut")),
        Err(_) => Err(Untested::Failed("the edge didn't open its stream in time")),
    }
}
