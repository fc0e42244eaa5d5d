//! A stream's way through the hub: admit it, pick its target, dial that, and carry bytes to the stream's end.

use super::context::{SessionContext, WorkerContext};
use super::pools::dialling::{PoolDial, Reached, Unreached};
use super::pools::selection::HeldSlot;
use super::repeating::{Joined, Unjoined, join, repeats};
use super::target::{Picked, prefix};
use super::test_stream;
use crate::access::Timing;
use remoteingress_config::HubConfig;
use remoteingress_config::TcpProxyProtocol;
use remoteingress_config::events::{ChosenTarget, StreamClosed, StreamOpened};
use remoteingress_config::reasons::{HubRefusalReason, StreamCloseReason};
use remoteingress_core::hub::stream_admission::{CountedStream, StreamRefusal, admit_stream};
use remoteingress_core::hub::upstream::{NoTarget, Opening, Route, Target, Upstream};
use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_tunnel::stream::facts::Facts;
use remoteingress_tunnel::stream::splice::{Outcome, Pipe, TargetSide};
use std::future::ready;
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
    let routed = match route(session, &config, opening) {
        Ok(routed) => routed,
        Err(none) => {
            let header = &opening.header;
            tracing::debug!(edge = %session.edge, client = %header.client, port = header.listener_port, error = %none, "stream refused");
            return refuse(session, key, none.abort_code(), none.abort_code().into());
        }
    };
    // Counted here, not in the task: one read may bring thousands of OPENs.
    let counted = CountedStream::new(session.clone());
    let routed = match routed {
        Routed::Pool(pool_dial) if repeats(session, &pool_dial) => {
            spawn_local(carry_repeated(session.clone(), key, pool_dial, counted));
            return;
        }
        routed @ (Routed::Target(_) | Routed::Pool(_)) => routed,
    };
    let pipe = session.local.add(key);
    let target = match &routed {
        Routed::Target(picked) => Some(picked.target.name().into_boxed_str()),
        Routed::Pool(_) => None,
    };
    pipe.set_facts(Facts::new(&opening.header, target));
    let timing = timed(session, &pipe, Instant::now());
    let (session, own) = (session.clone(), pipe.clone());
    match routed {
        Routed::Target(picked) => {
            let is_told = picked.target.proxy_protocol != TcpProxyProtocol::None;
            let reaching = reach(session, own, picked);
            spawn_local(carry(pipe, reaching, is_told, counted, timing));
        }
        Routed::Pool(pool_dial) => {
            let (header, says_header) = pool_dial.header;
            let is_told = says_header && header != TcpProxyProtocol::None;
            let reaching = reach_one_of(session, own, pool_dial);
            spawn_local(carry(pipe, reaching, is_told, counted, timing));
        }
    }
}

/// Times the stream's first byte, where anybody wants to know; `since` is when it was opened.
fn timed(session: &SessionContext, pipe: &Pipe, since: Instant) -> Option<Box<Timing>> {
    let state = &session.worker.state;
    if !state.times.is_on() {
        return None;
    }
    let timing = state.access.as_ref().map(|_| Box::new(Timing::new(since)));
    let told = timing.as_ref().map(|timing| timing.first_byte.clone());
    pipe.time_first_byte(state.times.clone(), since, TargetSide::Socket, told);
    timing
}

/// Where a stream is to go.
enum Routed {
    Target(Picked),
    Pool(PoolDial),
}

fn refuse(session: &SessionContext, key: StreamKey, code: AbortCode, reason: HubRefusalReason) {
    session.worker.state.refusals.count(reason);
    let mut session = session.local.session();
    session.abort(key, code);
    session.release(key);
}

fn route(
    session: &SessionContext,
    config: &HubConfig,
    opening: Opening,
) -> Result<Routed, NoTarget> {
    let allowed = session.allowed();
    let upstream = Upstream {
        config,
        allowed: &allowed,
        ports: &allowed.tcp,
    };
    Ok(match upstream.route(&opening)? {
        Route::Target(target) => Routed::Target(Picked {
            opening,
            target,
            allowed,
        }),
        Route::Pool(pool, header) => Routed::Pool(PoolDial {
            opening,
            pool: pool.name.clone(),
            header: (header, pool.says_header),
            avoid: Vec::new(),
            allowed,
        }),
    })
}

/// Dials the target and moves bytes to the stream's end. Every idle stream pays for what this holds: so the dial is in a
/// box, which ends with it, and gives what the stream is to hold besides: nothing, but its place at a target of a pool. An
/// `async fn` would hold its arguments twice.
fn carry<H: Place>(
    pipe: Rc<Pipe>,
    reaching: impl Future<Output = H>,
    is_told: bool,
    mut counted: CountedStream<Rc<SessionContext>>,
    timing: Option<Box<Timing>>,
) -> impl Future<Output = ()> {
    let reaching = Box::pin(reaching);
    async move {
        let place = reaching.await;
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
        place.ended(&pipe, outcome, &session.worker);
    }
}

/// What a stream holds at its target until it ends.
trait Place {
    /// The stream has ended.
    fn ended(self, pipe: &Pipe, outcome: Outcome, worker: &WorkerContext);
}

impl Place for () {
    fn ended(self, _: &Pipe, _: Outcome, _: &WorkerContext) {}
}

impl Place for Option<Box<HeldSlot>> {
    fn ended(self, pipe: &Pipe, outcome: Outcome, worker: &WorkerContext) {
        let Some(held) = self else {
            return;
        };
        match pipe.moved() {
            // What the client has said may be why the target resets: anybody could say that to harm it.
            (0, 0) if outcome == Outcome::SocketReset => held.was_reset(worker),
            (0, _) => {}
            _ => held.spoke(),
        }
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
            state
                .events
                .stream_opened(|| opened(&session, &pipe, header, picked.target.name(), None));
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

/// The same with a target of a pool, and the place there.
async fn reach_one_of(
    session: Rc<SessionContext>,
    pipe: Rc<Pipe>,
    pool_dial: PoolDial,
) -> Option<Box<HeldSlot>> {
    let (worker, state) = (&session.worker, &session.worker.state);
    let header = &pool_dial.opening.header;
    let began = state.times.is_on().then(Instant::now);
    let config = state.config();
    match pipe.unless_ended(pool_dial.reach(worker, &config)).await? {
        Ok(reached) => {
            let Reached {
                socket,
                target,
                held,
                attempts,
            } = reached;
            if let Some(began) = began {
                state.times.dial.record(began.elapsed());
            }
            tell_opened(&session, &pipe, &pool_dial, &target, (&held, attempts));
            let id = || session.local.stream_name(pipe.key());
            let prefix = prefix(target.proxy_protocol, &pool_dial.allowed, header, id);
            pipe.connected(session.local.handle(), socket, prefix);
            Some(Box::new(held))
        }
        Err(unreached) => {
            tell_unreached(&session, &pool_dial, &unreached);
            pipe.end(Outcome::Aborted(unreached.abort_code()));
            None
        }
    }
}

/// Carries a stream that other targets get where one resets it before it says anything.
async fn carry_repeated(
    session: Rc<SessionContext>,
    key: StreamKey,
    mut pool_dial: PoolDial,
    mut counted: CountedStream<Rc<SessionContext>>,
) {
    let began = Instant::now();
    let joined = join(&session, key, &mut pool_dial).await;
    counted.dialled();
    let Joined {
        pipe,
        target,
        held,
        attempts,
    } = match joined {
        Ok(joined) => joined,
        Err(Unjoined::Unreached(unreached)) => {
            return tell_unreached(&session, &pool_dial, &unreached);
        }
        Err(Unjoined::Left) => return,
    };
    pipe.set_facts(Facts::new(&pool_dial.opening.header, None));
    let timing = timed(&session, &pipe, began);
    tell_opened(&session, &pipe, &pool_dial, &target, (&held, attempts));
    let place = ready(Some(Box::new(held)));
    // It has said something: so it knows the header, or gets none.
    carry(pipe, place, false, counted, timing).await;
}

/// A stream has a target of a pool.
fn tell_opened(
    session: &SessionContext,
    pipe: &Pipe,
    pool_dial: &PoolDial,
    target: &Target<TcpProxyProtocol>,
    (held, attempts): (&HeldSlot, u32),
) {
    if let Some(facts) = pipe.facts() {
        facts.set_target(target.name().into(), held.number().unwrap_or(0));
    }
    session.worker.state.events.stream_opened(|| {
        let chosen = held.target_id().map(|id| ChosenTarget {
            name: pool_dial.pool.clone(),
            target_id: id.clone(),
            attempts,
        });
        opened(
            session,
            pipe,
            &pool_dial.opening.header,
            target.name(),
            chosen,
        )
    });
}

/// A stream has found no target in its pool.
fn tell_unreached(session: &SessionContext, pool_dial: &PoolDial, unreached: &Unreached) {
    let (header, pool) = (&pool_dial.opening.header, &pool_dial.pool);
    let (port, reason) = (header.listener_port, unreached.reason());
    let error = unreached.error().map(tracing::field::display);
    tracing::debug!(edge = %session.edge, client = %header.client, port, %pool, reason = reason.as_str(), error, "stream refused");
    let state = &session.worker.state;
    match unreached.no_target() {
        Some(none) => state.pools.refused(pool, none, unreached.error()),
        None => session.warn(port, || {
            tracing::warn!(edge = %session.edge, port, %pool, error, "this hub failed to dial a target of a pool");
        }),
    }
    state.refusals.count(reason);
}

/// The event of a stream whose target is connected; `pool` if the target is one of a pool.
fn opened(
    session: &SessionContext,
    pipe: &Pipe,
    header: &StreamHeader,
    target: String,
    pool: Option<ChosenTarget>,
) -> StreamOpened {
    StreamOpened {
        edge_id: session.edge.clone(),
        serial: pipe.serial(),
        id: session.local.stream_name(pipe.key()),
        client_address: header.client,
        protocol: header.protocol.into(),
        port: header.listener_port,
        listener_ip: header.listener.ip(),
        target: Some(target),
        pool,
    }
}
