//! A stream's way through the hub: admit it, pick its target, dial that, and carry bytes to the stream's end.

use super::context::SessionContext;
use super::target::Picked;
use super::test_stream;
use crate::access::Timing;
use remoteingress_config::HubConfig;
use remoteingress_config::TcpProxyProtocol;
use remoteingress_config::events::{StreamClosed, StreamOpened};
use remoteingress_config::reasons::{HubRefusalReason, StreamCloseReason};
use remoteingress_core::hub::stream_admission::{CountedStream, StreamRefusal, admit_stream};
use remoteingress_core::hub::upstream::{NoTarget, Opening, Upstream};
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_tunnel::stream::facts::Facts;
use remoteingress_tunnel::stream::splice::{Outcome, Pipe, TargetSide};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;

/// A target that closes within this without a byte probably doesn't know the PROXY protocol.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The edge has opened a stream: carries it, or refuses it.
pub(super) fn open(session: &Rc<SessionContext>, key: StreamKey, header: &[u8]) {
    if test_stream::open(session, key, header) {
        return;
    }
    let config = session.worker.state.config();
    let opening = match admit_stream(&config.limits, session.load(), header) {
        Ok(header) => Opening { header },
        Err(refusal) => {
            if let StreamRefusal::BadHeader(error) = &refusal {
                tracing::debug!(edge = %session.edge, %error, "an edge opened a stream with a bad header");
            }
            return refuse(session, key, refusal.abort_code(), refusal.into());
        }
    };
    let picked = match pick(session, &config, opening) {
        Ok(picked) => picked,
        Err(none) => {
            let header = &opening.header;
            tracing::debug!(edge = %session.edge, client = %header.client, port = header.listener_port, error = %none, "stream refused");
            return refuse(session, key, none.abort_code(), none.abort_code().into());
        }
    };
    // Counted here, not in the task: one read may bring thousands of OPENs.
    let counted = CountedStream::new(session.clone());
    let pipe = session.local.add(key);
    let target = picked.target.name().into_boxed_str();
    pipe.set_facts(Facts::new(&picked.opening.header, Some(target)));
    let state = &session.worker.state;
    let mut timing = None;
    if state.times.is_on() {
        let now = Instant::now();
        timing = state.access.as_ref().map(|_| Box::new(Timing::new(now)));
        let told = timing.as_ref().map(|timing| timing.first_byte.clone());
        pipe.time_first_byte(state.times.clone(), now, TargetSide::Socket, told);
    }
    spawn_local(carry(pipe, picked, counted, timing));
}

fn refuse(session: &SessionContext, key: StreamKey, code: AbortCode, reason: HubRefusalReason) {
    session.worker.state.refusals.count(reason);
    let mut session = session.local.session();
    session.abort(key, code);
    session.release(key);
}

fn pick(
    session: &SessionContext,
    config: &HubConfig,
    opening: Opening,
) -> Result<Picked, NoTarget> {
    let allowed = session.allowed();
    let upstream = Upstream {
        config,
        allowed: &allowed,
        ports: &allowed.tcp,
    };
    let target = upstream.pick(&opening)?;
    Ok(Picked {
        opening,
        target,
        allowed,
    })
}

/// Dials the target and moves bytes to the stream's end. Every idle stream pays for what this
/// holds: so the dial is in a box, which ends with it. An `async fn` would hold its arguments twice.
fn carry(
    pipe: Rc<Pipe>,
    picked: Picked,
    mut counted: CountedStream<Rc<SessionContext>>,
    timing: Option<Box<Timing>>,
) -> impl Future<Output = ()> {
    let is_told = picked.target.proxy_protocol != TcpProxyProtocol::None;
    let reaching = Box::pin(reach(counted.owner().clone(), pipe.clone(), picked));
    async move {
        reaching.await;
        counted.dialled();
        let connected_at = Instant::now();
        if let Some(timing) = timing.as_ref().filter(|_| pipe.is_connected()) {
            timing.dial.set(Some(connected_at - timing.since));
        }
        let outcome = counted.owner().local.run(&pipe).await;
        let reason = StreamCloseReason::from(outcome);
        let session = counted.owner();
        let (bytes_out, bytes_in) = pipe.moved();
        let is_mute = bytes_out == 0 && bytes_in > 0 && connected_at.elapsed() < AT_ONCE;
        let (port, target) = described(&pipe);
        if is_mute && is_told {
            session.warn(port, || {
                tracing::warn!(edge = %session.edge, port, %target, "the target closed at once without a byte: if it doesn't expect a PROXY protocol header, set proxyProtocol to \"none\" for this port");
            });
        }
        tracing::debug!(edge = %session.edge, port, %target, outcome = reason.as_str(), "stream closed");
        if let (Some(access), Some(timing)) = (&session.worker.state.access, &timing) {
            let id = session.local.name_of_ended(&pipe);
            let ended = (&*pipe, outcome);
            access.stream(&session.edge, session.transport, id, ended, timing);
        }
        session.worker.state.events.stream_closed(|| StreamClosed {
            edge_id: session.edge.clone(),
            serial: pipe.serial(),
            id: session.local.name_of_ended(&pipe),
            bytes_in,
            bytes_out,
            reason,
        });
    }
}

/// The port that a stream's client came to, and its target.
fn described(pipe: &Pipe) -> (u16, &str) {
    let facts = pipe.facts();
    let target = facts.and_then(Facts::target).unwrap_or_default();
    (facts.map_or(0, |facts| facts.listener().port()), target)
}

/// Gives a stream's pipe the socket to its target, or ends it.
async fn reach(session: Rc<SessionContext>, pipe: Rc<Pipe>, picked: Picked) {
    let (worker, state) = (&session.worker, &session.worker.state);
    let header = &picked.opening.header;
    let began = state.times.is_on().then(Instant::now);
    let dialled = pipe
        .unless_ended(picked.dial(&state.config(), &worker.resolver))
        .await;
    match dialled {
        Some(Ok(socket)) => {
            if let Some(began) = began {
                state.times.dial.record(began.elapsed());
            }
            state.events.stream_opened(|| StreamOpened {
                edge_id: session.edge.clone(),
                serial: pipe.serial(),
                id: session.local.stream_name(pipe.key()),
                client_address: header.client,
                protocol: header.protocol.into(),
                port: header.listener_port,
                listener_ip: header.listener.ip(),
                target: Some(picked.target.name()),
            });
            let id = || session.local.stream_name(pipe.key());
            pipe.connected(session.local.handle(), socket, picked.prefix(id));
        }
        Some(Err(error)) => {
            let (port, code) = (header.listener_port, error.abort_code());
            session.warn(port, || {
                tracing::warn!(edge = %session.edge, port, %error, "a target can't be reached");
            });
            state.refusals.count(code);
            pipe.end(Outcome::Aborted(code));
        }
        None => {}
    }
}
