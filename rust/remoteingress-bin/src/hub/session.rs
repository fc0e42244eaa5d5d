//! The hub's end of a session: one connection after another, until it is lost, drained or cut (D3).

use super::flows::SessionFlows;
use super::state::Incoming;
use super::target::{self, Target};
use super::worker::HubWorker;
use remoteingress_config::{EdgeEntry, TcpProxyProtocol};
use remoteingress_core::hub::registry::EdgeCounters;
use remoteingress_proto::control::{ControlAssembler, ControlError, ControlMessage};
use remoteingress_proto::handshake::{
    Hello, InstanceId, SessionId, SessionOutcome, Transport, Welcome,
};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Event, GoAwayCode, Role, Session, SessionConfig, StreamKey};
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::Features;
use remoteingress_proto::wire::header::{Protocol, StreamHeader};
use remoteingress_tunnel::FEATURES;
use remoteingress_tunnel::session::delivery::Owner;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::stream::splice::{Outcome, Pipe};
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep_until, timeout};

/// A Welcome that its edge doesn't take within this is given up.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// When a draining hub's edges may try again: a restart takes about this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// When an edge that was replaced may ask again: two that replace each other must not do so all the time.
const REPLACED_RETRY: Duration = Duration::from_secs(15);
/// What telling it may take: frames that are written at once, for a peer that is there.
const GOODBYE: Duration = Duration::from_millis(100);
/// A target that closes so soon without a byte probably doesn't know the PROXY protocol.
const AT_ONCE: Duration = Duration::from_millis(500);

/// See the file's first line.
pub(crate) struct HubSession {
    pub(crate) id: SessionId,
    pub(crate) edge: EdgeId,
    pub(crate) transport: Transport,
    instance: InstanceId,
    pub(crate) local: Rc<LocalSession>,
    pub(crate) entry: RefCell<Arc<EdgeEntry>>,
    pub(crate) cut: Notify,
    /// It is cut because another instance has taken over.
    pub(crate) replaced: Cell<bool>,
    /// Connections that resume this session.
    pub(crate) connections: mpsc::Sender<Incoming>,
    pub(super) counters: Arc<EdgeCounters>,
    pub(super) flows: SessionFlows,
    attempt: Cell<u32>,
    /// Where its edge was when it connected.
    address: Cell<SocketAddr>,
    announced_credit: u32,
    resume_timeout_secs: u32,
    assembler: RefCell<ControlAssembler>,
    pub(super) worker: Rc<HubWorker>,
    pub(super) myself: Weak<Self>,
}

impl HubSession {
    /// A new session for an edge that was let in, and where connections to resume it arrive.
    pub(crate) fn new(
        worker: &Rc<HubWorker>,
        incoming: &Incoming,
        outcome: SessionOutcome,
    ) -> (Rc<Self>, mpsc::Receiver<Incoming>) {
        let config = &worker.state.config;
        let hello = &incoming.edge.hello;
        let transport = incoming.connection.transport();
        let ours = config.engine.resume_timeout_secs();
        let resume_timeout_secs = hello
            .resume_timeout_secs
            .map_or(ours, |secs| secs.min(ours));
        let announced_credit = worker.budget.initial_credit();
        let limit = config.limits.max_streams_per_edge.get().unwrap_or(u32::MAX);
        let session = SessionConfig {
            role: Role::Hub,
            carrier: incoming.connection.carrier(),
            max_peer_streams: usize::try_from(limit).unwrap_or(usize::MAX),
            // A session over QUIC lives as long as its connection.
            resume_timeout: if agreed(hello).contains(Features::RESUME)
                && transport == Transport::TcpTls
            {
                Duration::from_secs(resume_timeout_secs.into())
            } else {
                Duration::ZERO
            },
            announced_credit,
            peer_credit: hello.initial_credit,
            is_welcome: true,
            // What the edge has sent ahead was for the session that is lost (D4).
            expects_begin: outcome == SessionOutcome::SessionLost,
        };
        let session = Session::new(&session, &worker.budget, Instant::now());
        let (connections, arriving) = mpsc::channel(4);
        let this = Rc::new_cyclic(|myself| Self {
            id: SessionId(remoteingress_os::random::bytes()),
            edge: hello.edge_id.clone(),
            transport,
            instance: hello.instance,
            local: LocalSession::new(session),
            entry: RefCell::new(incoming.place.entry.clone()),
            cut: Notify::new(),
            replaced: Cell::new(false),
            connections,
            counters: incoming.place.counters.clone(),
            flows: SessionFlows::new(config, &incoming.place.counters),
            attempt: Cell::new(0),
            address: Cell::new(incoming.address),
            announced_credit,
            resume_timeout_secs,
            assembler: RefCell::default(),
            worker: worker.clone(),
            myself: myself.clone(),
        });
        (this, arriving)
    }

    /// Whether this is the edge, and the start of it, that the session was made with (D3).
    pub(crate) fn belongs_to(&self, hello: &Hello) -> bool {
        self.edge == hello.edge_id && self.instance == hello.instance
    }

    /// Asks the edge to open nothing more here.
    pub(crate) fn drain(&self) {
        self.local
            .session()
            .go_away(GoAwayCode::Draining, RETRY_AFTER);
        self.local.notify();
    }

    /// Runs to the end of the session. `outcome` is what the first connection is told.
    pub(crate) async fn serve(
        self: Rc<Self>,
        first: Incoming,
        outcome: SessionOutcome,
        mut arriving: mpsc::Receiver<Incoming>,
    ) {
        let mut next = self.answer(first, outcome).await;
        if next.is_none() {
            self.down("the edge gave up before its Welcome");
        }
        let code = loop {
            let Some(mut connection) = next.take() else {
                match self.away(&mut arriving).await {
                    Ok(connection) => {
                        next = Some(connection);
                        continue;
                    }
                    Err(code) => break code,
                }
            };
            let ended = {
                let mut driving = std::pin::pin!(connection.drive(&self.local, self.as_ref()));
                loop {
                    tokio::select! {
                        error = &mut driving => break Ended::Lost(error),
                        // An older attempt is dropped and changes nothing.
                        Some(incoming) = arriving.recv() => if self.is_newer(&incoming) {
                            break Ended::Superseded(Box::new(incoming));
                        },
                        () = self.cut.notified() => break Ended::Cut,
                        () = self.local.drained().notified() => break Ended::Drained,
                    }
                }
            };
            match ended {
                Ended::Lost(error) => {
                    if self.lost(&error) {
                        break AbortCode::TunnelLost;
                    }
                }
                Ended::Superseded(incoming) => {
                    drop(connection);
                    next = self.resume(*incoming).await;
                    if next.is_none() {
                        self.down("the edge gave up while it resumed");
                    }
                }
                Ended::Cut => {
                    self.local.end_streams(AbortCode::Ended);
                    if self.replaced.get() {
                        self.say_replaced(&mut connection).await;
                    }
                    break AbortCode::Ended;
                }
                Ended::Drained => {
                    connection.close().await;
                    break AbortCode::Ended;
                }
            }
        };
        self.local.end_streams(code);
        self.worker.ended(&self);
    }

    /// Its streams have ended and another instance has taken over: the edge is told before it is cut off.
    async fn say_replaced(&self, connection: &mut Connection) {
        self.local
            .session()
            .go_away(GoAwayCode::Replaced, REPLACED_RETRY);
        self.local.notify();
        // It has no way to end but this timeout or the connection's own end.
        let _ = timeout(GOODBYE, connection.drive(&self.local, self)).await;
    }

    /// The connection is gone; says whether the session is, too.
    fn lost(&self, error: &ConnectionError) -> bool {
        let mut session = self.local.session();
        session.detach(Instant::now());
        let said_goodbye = session.is_closing() && session.active_streams() == 0;
        drop(session);
        let violation = error.is_violation();
        if violation {
            tracing::warn!(edge = %self.edge, %error, "an edge broke the protocol");
            self.worker.state.refusals.count("protocol");
        }
        self.down(&error.to_string());
        violation || said_goodbye
    }

    fn down(&self, reason: &str) {
        let state = &self.worker.state;
        state.change(|registry| ((), registry.session_down(&self.edge, self.id, reason)));
    }

    /// Waits for the edge to come back, or says why it is too late.
    async fn away(
        self: &Rc<Self>,
        arriving: &mut mpsc::Receiver<Incoming>,
    ) -> Result<Connection, AbortCode> {
        let expires = self
            .local
            .session()
            .poll_timeout()
            .unwrap_or_else(Instant::now);
        loop {
            tokio::select! {
                Some(incoming) = arriving.recv() => {
                    if let Some(connection) = self.resume(incoming).await {
                        return Ok(connection);
                    }
                }
                () = sleep_until(expires.into()) => return Err(AbortCode::TunnelLost),
                () = self.cut.notified() => return Err(AbortCode::Ended),
            }
        }
    }

    fn is_newer(&self, incoming: &Incoming) -> bool {
        let resume = incoming.edge.hello.resume.as_ref();
        resume.is_some_and(|resume| resume.attempt > self.attempt.get())
    }

    /// Takes the session over to another connection.
    async fn resume(self: &Rc<Self>, incoming: Incoming) -> Option<Connection> {
        if !self.is_newer(&incoming) {
            return None;
        }
        let resume = incoming.edge.hello.resume.as_ref()?;
        let received = resume.received;
        self.attempt.set(resume.attempt);
        let outcome = {
            let mut session = self.local.session();
            session.detach(Instant::now());
            if !session.can_resume(received) {
                drop(session);
                self.worker
                    .clone()
                    .start(incoming, SessionOutcome::SessionLost);
                self.cut.notify_one();
                return None;
            }
            SessionOutcome::Resumed {
                received: session.received(),
            }
        };
        let connection = self.answer(incoming, outcome).await?;
        // Checked above, and nothing is sent while detached.
        let attached = self.local.session().attach(Instant::now(), received);
        attached.is_ok().then_some(connection)
    }

    /// Says Welcome; the session is live then.
    async fn answer(&self, incoming: Incoming, outcome: SessionOutcome) -> Option<Connection> {
        let state = &self.worker.state;
        let welcome = Welcome {
            session: self.id,
            outcome,
            max_sessions: state.config.max_sessions_per_edge,
            initial_credit: self.announced_credit,
            features: agreed(&incoming.edge.hello),
            version: crate::version::VERSION.to_owned(),
            resume_timeout_secs: Some(self.resume_timeout_secs),
            observed_address: Some(incoming.address),
        };
        let message = match incoming.edge.welcome_message(&welcome) {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(%error, "failed to write a Welcome");
                return None;
            }
        };
        let mut connection = incoming.connection;
        connection.widen();
        timeout(WELCOME_TIMEOUT, connection.send(&message))
            .await
            .ok()?
            .ok()?;
        self.address.set(incoming.address);
        self.up(incoming.address);
        Some(connection)
    }

    fn up(&self, address: SocketAddr) {
        let state = &self.worker.state;
        let now = SystemTime::now();
        state.change(|registry| ((), registry.session_up(&self.edge, self.id, address, now)));
    }

    fn open(&self, key: StreamKey, header: &[u8]) {
        let state = &self.worker.state;
        let limits = &state.config.limits;
        let refuse = |code: AbortCode, reason: &'static str| {
            state.refusals.count(reason);
            let mut session = self.local.session();
            session.abort(key, code);
            session.release(key);
        };
        let header = match StreamHeader::decode(header) {
            Ok(header) => header,
            Err(error) => {
                tracing::warn!(edge = %self.edge, %error, "an edge opened a stream with a bad header");
                return refuse(AbortCode::UnknownListener, "badHeader");
            }
        };
        let counters = &self.counters;
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        if !limits.max_streams_per_edge.admits(load(&counters.streams)) {
            return refuse(AbortCode::Overloaded, "maxStreamsPerEdge");
        }
        if !limits.max_streams.admits(load(&state.streams)) {
            return refuse(AbortCode::Overloaded, "maxStreams");
        }
        if !limits
            .max_pending_dials_per_edge
            .admits(load(&counters.dials))
        {
            return refuse(AbortCode::Overloaded, "maxPendingDialsPerEdge");
        }
        let entry = self.entry.borrow().clone();
        if header.protocol != Protocol::Tcp {
            return refuse(AbortCode::UnknownListener, "badHeader");
        }
        let target = match target::pick(&state.config, &entry, &entry.tcp, &header) {
            Ok(target) => target,
            Err(error) => {
                tracing::debug!(edge = %self.edge, client = %header.client, port = header.listener_port, %error, "stream refused");
                return refuse(error.abort_code(), error.abort_code().as_str());
            }
        };
        let Some(session) = self.myself.upgrade() else {
            return;
        };
        // Counted here, not in the task: one read may bring thousands of OPENs.
        let counted = Counted::stream(&session);
        let pipe = self.local.add(key);
        tokio::task::spawn_local(session.carry(pipe, entry, target, header, counted));
    }

    /// Dials the target and moves bytes to the stream's end. Every idle stream pays for what this
    /// holds: so the dial is in a box, which ends with it. An `async fn` would hold its arguments twice.
    fn carry(
        self: Rc<Self>,
        pipe: Rc<Pipe>,
        entry: Arc<EdgeEntry>,
        target: Target<TcpProxyProtocol>,
        header: StreamHeader,
        mut counted: Counted,
    ) -> impl Future<Output = ()> {
        let (client, port) = (header.client, header.listener_port);
        let is_told = target.proxy_protocol != TcpProxyProtocol::None;
        let name = target.name().into_boxed_str();
        let reaching = Box::pin(self.reach(pipe.clone(), entry, target, header));
        async move {
            reaching.await;
            counted.dialled();
            let connected_at = Instant::now();
            let outcome = counted.session.local.run(&pipe).await;
            let session = &counted.session;
            let (bytes_out, bytes_in) = pipe.moved();
            let is_mute = bytes_out == 0 && bytes_in > 0 && connected_at.elapsed() < AT_ONCE;
            if is_mute && is_told {
                session.worker.complain(&session.edge, port, || {
                    tracing::warn!(edge = %session.edge, port, target = %name, "the target closed at once without a byte: if it doesn't expect a PROXY protocol header, set proxyProtocol to \"none\" for this port");
                });
            }
            tracing::debug!(edge = %session.edge, %client, target = %name, outcome = outcome.as_str(), "stream closed");
            session.worker.state.events.stream_closed(|| {
                json!({
                    "edgeId": session.edge, "streamId": pipe.serial(), "bytesIn": bytes_in,
                    "bytesOut": bytes_out, "reason": outcome.as_str(),
                })
            });
        }
    }

    /// Gives a stream's pipe the socket to its target, or ends it.
    async fn reach(
        self: Rc<Self>,
        pipe: Rc<Pipe>,
        entry: Arc<EdgeEntry>,
        target: Target<TcpProxyProtocol>,
        header: StreamHeader,
    ) {
        let (worker, state) = (&self.worker, &self.worker.state);
        let dialled = pipe
            .unless_ended(target::dial(&state.config, &worker.resolver, &target))
            .await;
        match dialled {
            Some(Ok(socket)) => {
                state.events.stream_opened(|| {
                    json!({
                        "edgeId": self.edge, "streamId": pipe.serial(),
                        "clientAddress": header.client.to_string(),
                        "protocol": header.protocol.as_str(), "port": header.listener_port,
                        "target": target.name(),
                    })
                });
                let prefix = target::proxy_header(&target, &entry, &header);
                pipe.connected(self.local.handle(), socket, prefix);
            }
            Some(Err(error)) => {
                worker.complain(&self.edge, header.listener_port, || {
                    tracing::warn!(edge = %self.edge, port = header.listener_port, %error, "a target can't be reached");
                });
                state.refusals.count(error.abort_code().as_str());
                pipe.end(Outcome::Aborted(error.abort_code()));
            }
            None => {}
        }
    }
}

impl Owner for HubSession {
    fn handle(&self, event: Event) -> Result<(), ControlError> {
        let state = &self.worker.state;
        match event {
            Event::Opened { key, header } => self.open(key, &header),
            Event::Control(payload) => match self.assembler.borrow_mut().handle(&payload)? {
                Some(ControlMessage::Applied(applied)) => {
                    state.change(|registry| ((), registry.applied(&self.edge, applied)));
                }
                Some(ControlMessage::PublicAddress(address)) => {
                    state.registry().public_address(&self.edge, address);
                }
                // Only edges are told one.
                Some(ControlMessage::Config(_)) | None => {}
            },
            Event::GoAway { .. } => {
                tracing::debug!(edge = %self.edge, "edge opens no new streams");
                state.registry().session_leaving(&self.edge, self.id);
            }
            Event::Refused => {
                state.refusals.count("overloaded");
                self.worker.complain(&self.edge, 0, || {
                    tracing::warn!(edge = %self.edge, "streams are refused: no memory is left (memoryBudgetMiB) or the edge has too many open (maxStreamsPerEdge)");
                });
            }
            Event::Silent => self.down("no packet has come over QUIC for 8 s"),
            Event::Heard => self.up(self.address.get()),
            Event::Readable(_) | Event::SendReady(_) | Event::SendStopped(_) => {}
            Event::Datagram(datagram) => self.datagram(&datagram),
        }
        Ok(())
    }

    fn settle(&self) {
        self.worker.to_targets.borrow_mut().flush();
    }
}

enum Ended {
    Lost(ConnectionError),
    Superseded(Box<Incoming>),
    Cut,
    Drained,
}

/// The features of both ends. That the edge needs no other was checked when it was let in.
pub(super) fn agreed(hello: &Hello) -> Features {
    hello.offer().supported().intersection(FEATURES)
}

/// A stream counts for its hub, its edge and its worker while it lives, and as a dial until that ends.
struct Counted {
    session: Rc<HubSession>,
    is_dialling: bool,
}

impl Counted {
    fn stream(session: &Rc<HubSession>) -> Self {
        let counted = Self {
            session: session.clone(),
            is_dialling: true,
        };
        for count in counted.counts() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        session.counters.dials.fetch_add(1, Ordering::Relaxed);
        counted
    }

    fn counts(&self) -> impl Iterator<Item = &AtomicUsize> {
        let worker = &self.session.worker;
        let gauge = worker
            .state
            .gauges
            .get(worker.ordinal)
            .map(|gauge| &gauge.streams);
        [&worker.state.streams, &self.session.counters.streams]
            .into_iter()
            .chain(gauge)
    }

    fn dialled(&mut self) {
        if std::mem::take(&mut self.is_dialling) {
            self.session.counters.dials.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.dialled();
        for count in self.counts() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
