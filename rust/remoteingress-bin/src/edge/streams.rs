//! A worker's streams: each client gets a worker that can carry it, and its bytes are moved (D1, D13).

use super::clients::{Client, Ticket};
use super::command::Command;
use super::state::EdgeState;
use super::udp::session::{EdgeSession, EdgeSessions};
use crate::access::Timing;
use remoteingress_config::events::{StreamClosed, StreamOpened};
use remoteingress_config::reasons::{EdgeRefusalReason, StreamCloseReason};
use remoteingress_core::edge::placement::{Place, place_client};
use remoteingress_proto::mux::OpenError;
use remoteingress_proto::wire::header::{Protocol, StreamHeader};
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::stream::facts::Facts;
use remoteingress_tunnel::stream::splice::{Outcome, Pipe, TargetSide};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout_at;

/// The streams of one worker.
pub(super) struct Streams {
    state: Arc<EdgeState>,
    ordinal: usize,
    sessions: Rc<EdgeSessions>,
}

impl Streams {
    pub(super) fn new(
        state: Arc<EdgeState>,
        ordinal: usize,
        sessions: Rc<EdgeSessions>,
    ) -> Rc<Self> {
        Rc::new(Self {
            state,
            ordinal,
            sessions,
        })
    }

    /// Takes a client that has just been accepted.
    pub(super) fn accept(self: &Rc<Self>, client: Client) {
        if let Err(client) = self.place(client) {
            spawn_local(hold(self.clone(), client));
        }
    }

    /// Gives a client to the worker whose turn it is, or back if no session is live.
    fn place(self: &Rc<Self>, mut client: Client) -> Result<(), Client> {
        let state = &self.state;
        match place_client(self.ordinal, state.hub.uplink.loads()) {
            Place::Here => {
                client.ticket.place(Some(self.ordinal));
                self.carry(client);
                Ok(())
            }
            Place::At(ordinal) => {
                let Some(other) = state.worker(ordinal) else {
                    return Err(client);
                };
                client.ticket.place(Some(ordinal));
                if other.send(Command::Client(client)).is_err() {
                    state.clients.refusals.count(EdgeRefusalReason::Overloaded);
                }
                Ok(())
            }
            Place::Nowhere => Err(client),
        }
    }

    /// Opens a stream for a client and moves its bytes; one whose socket is dropped instead is reset.
    /// Without a session the client waits for one; without memory it is reset.
    pub(super) fn carry(self: &Rc<Self>, client: Client) {
        let refusals = &self.state.clients.refusals;
        if !self.state.hub.may_open() {
            refusals.count(EdgeRefusalReason::MaxStreamsPerEdge);
            return;
        }
        let attached = self.sessions.attached();
        let is_stale = |session: &Rc<EdgeSession>| session.local.session().is_stale(Instant::now());
        if let Some(session) = attached.filter(is_stale) {
            spawn_local(ask_first(self.clone(), session, client));
            return;
        }
        let header = StreamHeader {
            protocol: Protocol::Tcp,
            listener_port: client.ticket.port(),
            client: client.client,
            listener: client.listener,
        };
        let mut bytes = Vec::with_capacity(48);
        header.encode(&mut bytes);
        let opened = self
            .sessions
            .attached()
            .ok_or(OpenError::GoingAway)
            .and_then(|session| {
                let key = session.local.session().open(Instant::now(), &bytes)?;
                Ok((session, key))
            });
        let (session, key) = match opened {
            Ok(opened) => opened,
            Err(OpenError::GoingAway | OpenError::Exhausted) => {
                spawn_local(hold(self.clone(), client));
                return;
            }
            Err(OpenError::Overloaded) => {
                refusals.count(EdgeRefusalReason::Overloaded);
                return;
            }
        };
        let local = session.local.clone();
        if local.session().is_closing() {
            tracing::info!("stream ids are used up: a new session takes over");
            local.closing().notify_one();
        }
        let socket = match TcpStream::from_std(client.socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::error!(%error, "failed to watch a client's socket");
                local.session().release(key);
                return;
            }
        };
        let pipe = local.add(key);
        pipe.set_facts(Facts::new(&header, None));
        let mut timing = None;
        if let Some(arrival) = &client.arrival {
            let since = arrival.at;
            if self.state.access.is_some() {
                timing = Some(Rc::new(Timing {
                    accept: Some(since.elapsed().saturating_sub(arrival.held)),
                    held: Some(arrival.held),
                    ..Timing::new(since)
                }));
            }
            let told = timing.as_ref().map(|timing| timing.first_byte.clone());
            let times = self.state.times.clone();
            pipe.time_first_byte(times, since, TargetSide::Tunnel, told);
        }
        pipe.connected(local.handle(), socket, bytes::Bytes::new());
        let wants_event = self.state.events.wants_stream_opened();
        let observed = (wants_event || timing.is_some()).then(|| {
            Rc::new(Observed {
                session: session.clone(),
                opened_at: Instant::now(),
                timing,
                is_told: Cell::new(!wants_event),
            })
        });
        if let Some(observed) = &observed {
            let (state, own) = (self.state.clone(), observed.clone());
            local.when_named(&pipe, move |pipe, id| own.named(&state, pipe, id));
        }
        spawn_local(watch(
            self.state.clone(),
            local,
            pipe,
            client.ticket,
            observed,
        ));
    }
}

/// A session that sleeps finds out whether its path is still there before it gets a client: over QUIC a stream that was
/// sent into nothing can't be taken elsewhere.
async fn ask_first(streams: Rc<Streams>, session: Rc<EdgeSession>, mut client: Client) {
    let state = streams.state.clone();
    let held = state.clients.hold();
    let since = Instant::now();
    // The others' paths lead to the same hub.
    state.hub.uplink.ask_all();
    let is_alive = session.local.is_alive().await;
    drop(held);
    if let Some(arrival) = &mut client.arrival {
        arrival.held += since.elapsed();
    }
    if is_alive {
        streams.carry(client);
    } else {
        hold(streams, client).await;
    }
}

/// Clients that arrive while no session is live wait for one, outside of any session.
async fn hold(streams: Rc<Streams>, client: Client) {
    let state = streams.state.clone();
    let _held = state.clients.hold();
    let config = state.config();
    let limits = &config.limits;
    let others = state.clients.held() - 1;
    let is_full = !limits.max_held_clients.admits(others);
    let Some(timeout) = limits.hold_timeout.filter(|_| !is_full) else {
        return refuse(&state, client);
    };
    let deadline = tokio::time::Instant::now() + timeout;
    let mut live = state.hub.uplink.live().subscribe();
    let mut waiting = client;
    waiting.ticket.place(None);
    let since = Instant::now();
    let before = waiting.arrival.as_ref().map(|arrival| arrival.held);
    loop {
        if let (Some(arrival), Some(before)) = (&mut waiting.arrival, before) {
            arrival.held = before + since.elapsed();
        }
        match streams.place(waiting) {
            Ok(()) => return,
            Err(client) => waiting = client,
        }
        if !matches!(timeout_at(deadline, live.changed()).await, Ok(Ok(()))) {
            return refuse(&state, waiting);
        }
    }
}

/// Resets a client.
fn refuse(state: &EdgeState, client: Client) {
    state.clients.refusals.count(EdgeRefusalReason::NoSession);
    drop(client);
}

/// A stream of which somebody wants to know more than that it is there.
struct Observed {
    session: Rc<EdgeSession>,
    opened_at: Instant,
    /// For the access log.
    timing: Option<Rc<Timing>>,
    /// Nobody waits for its `streamOpened`.
    is_told: Cell<bool>,
}

impl Observed {
    /// The stream has its id.
    fn named(&self, state: &EdgeState, pipe: &Pipe, id: String) {
        if let Some(timing) = &self.timing {
            timing.tunnel.set(Some(self.opened_at.elapsed()));
        }
        self.opened(state, pipe, Some(id));
    }

    fn opened(&self, state: &EdgeState, pipe: &Pipe, id: Option<String>) {
        let Some(facts) = pipe.facts().filter(|_| !self.is_told.replace(true)) else {
            return;
        };
        state.events.stream_opened(|| StreamOpened {
            edge_id: state.edge_id.clone(),
            serial: pipe.serial(),
            id,
            client_address: facts.client(),
            protocol: Protocol::Tcp.into(),
            port: facts.listener().port(),
            listener_ip: facts.listener().ip(),
            target: None,
            pool: None,
        });
    }

    fn ended(&self, state: &EdgeState, pipe: &Pipe, outcome: Outcome) {
        let id = self.session.local.name_of_ended(pipe);
        self.opened(state, pipe, id.clone());
        if let (Some(access), Some(timing)) = (&state.access, &self.timing) {
            let transport = self.session.transport();
            access.stream(&state.edge_id, transport, id, (pipe, outcome), timing);
        }
    }
}

/// Moves a client's bytes to the stream's end. Every idle stream pays for what this holds: an
/// `async fn` would hold its arguments twice.
#[expect(clippy::manual_async_fn, reason = "see above")]
fn watch(
    state: Arc<EdgeState>,
    local: Rc<LocalSession>,
    pipe: Rc<Pipe>,
    ticket: Ticket,
    observed: Option<Rc<Observed>>,
) -> impl Future<Output = ()> {
    async move {
        let outcome = local.run(&pipe).await;
        let reason = StreamCloseReason::from(outcome);
        if reason == StreamCloseReason::TunnelLost && !local.session().is_welcome() {
            state.clients.refusals.count(EdgeRefusalReason::NoSession);
        }
        let port = ticket.port();
        drop(ticket);
        tracing::debug!(port, outcome = reason.as_str(), "stream closed");
        if let Some(observed) = observed {
            observed.ended(&state, &pipe, outcome);
        }
        state.events.stream_closed(|| {
            let (bytes_in, bytes_out) = pipe.moved();
            StreamClosed {
                edge_id: state.edge_id.clone(),
                serial: pipe.serial(),
                id: local.name_of_ended(&pipe),
                bytes_in,
                bytes_out,
                reason,
            }
        });
    }
}
