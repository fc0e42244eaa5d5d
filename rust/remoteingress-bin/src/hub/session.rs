//! The hub's end of a session: one connection after another, until it is lost, drained or cut (D3).

use super::context::{SessionContext, WorkerContext};
use super::flows::{FlowTable, WorkerFlows};
use super::state::Incoming;
use super::streams;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_core::hub::session_life::{Attempt, Farewell, Loss, Phase, SessionLife};
use remoteingress_proto::control::{ControlAssembler, ControlError, ControlMessage};
use remoteingress_proto::handshake::{
    Hello, InstanceId, Resume, SessionId, SessionOutcome, Transport, Welcome,
};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Event, GoAwayCode, Role, SILENT, Session, SessionConfig};
use remoteingress_proto::wire::features::Features;
use remoteingress_proto::wire::frame::StreamId;
use remoteingress_tunnel::FEATURES;
use remoteingress_tunnel::entrance::line::Line;
use remoteingress_tunnel::session::delivery::Owner;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::error::ConnectionError;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep_until, timeout};

/// A Welcome that its edge doesn't take within this is given up.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a draining hub's edges may try again: a restart takes about this long.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Time after which an edge that was replaced may ask again: two that replace each other must not do so all the time.
const REPLACED_RETRY: Duration = Duration::from_secs(15);
/// A farewell may take this long: frames that are written at once, for a peer that is there.
pub(super) const FAREWELL_TIMEOUT: Duration = Duration::from_millis(100);
/// Reason why an edge that took no Welcome is disconnected.
const GAVE_UP: &str = "the edge gave up before its Welcome";
/// The same for one that had a session.
const GAVE_UP_RESUMING: &str = "the edge gave up while it resumed";
/// Connections to resume a session that may wait for its task; the newest is dropped, and its edge tries again.
const MAX_ARRIVING: usize = 4;

/// The connections of a session, and everything that concerns more than one of its streams.
pub(super) struct HubSession {
    pub(super) id: SessionId,
    pub(super) transport: Transport,
    pub(super) context: Rc<SessionContext>,
    pub(super) flows: Rc<FlowTable>,
    instance: InstanceId,
    cut: Notify,
    /// It is cut because another instance has taken over.
    is_replaced: Cell<bool>,
    /// Of the connection that it has, where this hub has dialled.
    line: RefCell<Weak<Line>>,
    /// Connections that resume this session.
    arriving: mpsc::Sender<Incoming>,
    /// Address of its edge when it connected.
    address: Cell<SocketAddr>,
    announced_credit: u32,
    resume_timeout_secs: u32,
    assembler: RefCell<ControlAssembler>,
}

/// The connection that a session has.
struct Held {
    connection: Connection,
    /// Ends with it.
    line: Option<Rc<Line>>,
}

impl Held {
    /// Waits until the connection is of no use any more.
    async fn abandoned(line: Option<&Line>) {
        match line {
            Some(line) => line.abandoned().await,
            None => std::future::pending().await,
        }
    }
}

/// The event that a session's task has waited for.
enum Happened {
    Lost(ConnectionError),
    Arrived(Box<Incoming>),
    Cut,
    Drained,
    Expired,
}

impl HubSession {
    /// A new session for an edge that was admitted, and where connections to resume it arrive.
    pub(super) fn new(
        worker: &Rc<WorkerContext>,
        worker_flows: &Rc<WorkerFlows>,
        incoming: &Incoming,
        outcome: SessionOutcome,
    ) -> (Rc<Self>, mpsc::Receiver<Incoming>) {
        let config = worker.state.config();
        let hello = &incoming.peer.hello;
        let transport = incoming.connection.transport();
        let ours = config.engine.resume_timeout_secs();
        let resume_timeout_secs = hello
            .resume_timeout_secs
            .map_or(ours, |secs| secs.min(ours));
        let announced_credit = worker.budget.initial_credit();
        let can_resume = agreed(hello).contains(Features::RESUME) && transport == Transport::TcpTls;
        let session = SessionConfig {
            role: Role::Hub,
            carrier: incoming.connection.carrier(),
            // Each stream is admitted as it comes, by the limit of that moment for all of the edge's sessions.
            max_peer_streams: usize::MAX,
            // A session over QUIC lives as long as its connection.
            resume_timeout: if can_resume {
                Duration::from_secs(resume_timeout_secs.into())
            } else {
                Duration::ZERO
            },
            keepalive: config.engine.keepalive,
            announced_credit,
            peer_credit: hello.initial_credit,
            is_welcome: true,
            // Frames that the edge has sent ahead were for the session that is lost (D4).
            expects_begin: outcome == SessionOutcome::SessionLost,
        };
        let session = Session::new(&session, &worker.budget, Instant::now());
        let place = &incoming.place;
        let context = SessionContext::new(
            worker.clone(),
            LocalSession::new(session),
            transport,
            place.allowed.clone(),
            place.counters.clone(),
        );
        let (arriving, arrivals) = mpsc::channel(MAX_ARRIVING);
        let id = SessionId(remoteingress_os::random::bytes());
        context.local.set_id(id, StreamId(0));
        let this = Rc::new(Self {
            id,
            transport,
            flows: FlowTable::new(context.clone(), worker_flows.clone()),
            context,
            instance: hello.instance,
            cut: Notify::new(),
            is_replaced: Cell::new(false),
            line: RefCell::default(),
            arriving,
            address: Cell::new(incoming.address),
            announced_credit,
            resume_timeout_secs,
            assembler: RefCell::default(),
        });
        (this, arrivals)
    }

    /// True for a connection of the edge, and the start of it, that the session was made with (D3).
    pub(super) fn belongs_to(&self, hello: &Hello, transport: Transport) -> bool {
        self.context.edge == hello.edge_id
            && self.instance == hello.instance
            && self.transport == transport
    }

    /// Hands over a connection that resumes the session.
    pub(super) fn attach(&self, incoming: Incoming) {
        // A full queue drops it.
        let _ = self.arriving.try_send(incoming);
    }

    /// Resets the session's streams and ends it.
    pub(super) fn cut(&self, is_replaced: bool) {
        self.is_replaced.set(self.is_replaced.get() || is_replaced);
        self.cut.notify_one();
    }

    /// Asks the edge to open nothing more here.
    pub(super) fn drain(&self) {
        let local = &self.context.local;
        local.session().go_away(GoAwayCode::Draining, RETRY_AFTER);
        local.notify();
    }

    /// Runs to the end of the session, and gives the code with which its streams have ended. `outcome` is what the first connection is told; `replace` makes a new session on
    /// a connection that can't resume this one.
    pub(super) async fn serve(
        &self,
        first: Incoming,
        outcome: SessionOutcome,
        mut arrivals: mpsc::Receiver<Incoming>,
        replace: impl Fn(Incoming),
    ) -> AbortCode {
        let mut life = SessionLife::new();
        let mut connection = self.welcome(first, outcome).await;
        self.welcomed(&mut life, connection.is_some(), GAVE_UP);
        let end = loop {
            let happened = match (life.phase(), &mut connection) {
                (Phase::Ended(end), _) => break end,
                (Phase::Away { until }, _) => self.wait(until, &mut arrivals, &life).await,
                (Phase::Welcoming { .. } | Phase::Connected, Some(driven)) => {
                    self.drive(driven, &mut arrivals, &life).await
                }
                // A session that isn't away has a connection.
                (phase @ (Phase::Welcoming { .. } | Phase::Connected), None) => {
                    tracing::error!(?phase, "a session has lost its connection unnoticed");
                    Happened::Cut
                }
            };
            match happened {
                Happened::Lost(error) => {
                    let loss = self.detach(&error);
                    connection = None;
                    life.handle_lost(loss, self.expires());
                }
                Happened::Arrived(incoming) => {
                    drop(connection.take());
                    connection = self.resume(&mut life, *incoming, &replace).await;
                }
                Happened::Cut => life.handle_cut(self.is_replaced.get()),
                Happened::Drained => life.handle_drained(),
                Happened::Expired => life.handle_timeout(Instant::now()),
            }
        };
        self.part(connection, end.farewell).await;
        self.context.local.end_streams(end.code);
        end.code
    }

    /// Drives the session over its connection until something else is to be done.
    async fn drive(
        &self,
        held: &mut Held,
        arrivals: &mut mpsc::Receiver<Incoming>,
        life: &SessionLife,
    ) -> Happened {
        let local = &self.context.local;
        let Held { connection, line } = held;
        let mut driving = std::pin::pin!(connection.drive(local, self));
        let mut abandoned = std::pin::pin!(Held::abandoned(line.as_deref()));
        loop {
            tokio::select! {
                error = &mut driving => return Happened::Lost(error),
                // An older attempt is dropped and changes nothing.
                Some(incoming) = arrivals.recv() => if is_newer(life, &incoming) {
                    return Happened::Arrived(Box::new(incoming));
                },
                () = self.cut.notified() => return Happened::Cut,
                () = &mut abandoned => return Happened::Cut,
                () = local.drained().notified() => return Happened::Drained,
            }
        }
    }

    /// Waits for the edge to come back.
    async fn wait(
        &self,
        until: Instant,
        arrivals: &mut mpsc::Receiver<Incoming>,
        life: &SessionLife,
    ) -> Happened {
        loop {
            tokio::select! {
                Some(incoming) = arrivals.recv() => if is_newer(life, &incoming) {
                    return Happened::Arrived(Box::new(incoming));
                },
                () = sleep_until(until.into()) => return Happened::Expired,
                () = self.cut.notified() => return Happened::Cut,
            }
        }
    }

    /// Takes leave of the edge.
    async fn part(&self, held: Option<Held>, farewell: Farewell) {
        match (farewell, held) {
            (Farewell::Replaced, Some(mut held)) => {
                let local = &self.context.local;
                local.end_streams(AbortCode::Ended);
                local
                    .session()
                    .go_away(GoAwayCode::Replaced, REPLACED_RETRY);
                local.notify();
                // It has no way to end but this timeout or the connection's own end.
                let _ = timeout(FAREWELL_TIMEOUT, held.connection.drive(local, self)).await;
            }
            (Farewell::Close, Some(held)) => held.connection.close().await,
            // Nobody would tell the edge otherwise: it doesn't dial, and so isn't refused.
            (Farewell::Nothing, Some(held)) if held.line.is_some() => held.connection.close().await,
            (Farewell::Nothing, _) | (_, None) => {}
        }
    }

    /// The connection is gone; says whether the session is, too.
    fn detach(&self, error: &ConnectionError) -> Loss {
        let mut session = self.context.local.session();
        session.detach(Instant::now());
        let has_parted = session.is_closing() && session.active_streams() == 0;
        drop(session);
        let is_violation = error.is_violation();
        if is_violation {
            tracing::warn!(edge = %self.context.edge, %error, "an edge broke the protocol");
            self.context
                .worker
                .state
                .refusals
                .count(HubRefusalReason::Protocol);
        }
        self.down(&error.to_string());
        if is_violation {
            Loss::Violation
        } else if has_parted {
            Loss::Parted
        } else {
            Loss::MayResume
        }
    }

    /// Time at which the session ends without a connection.
    fn expires(&self) -> Instant {
        let expires = self.context.local.session().poll_timeout();
        expires.unwrap_or_else(Instant::now)
    }

    /// Takes the session over to another connection, if that has all that the other end lacks.
    async fn resume(
        &self,
        life: &mut SessionLife,
        incoming: Incoming,
        replace: impl Fn(Incoming),
    ) -> Option<Held> {
        let Resume {
            attempt, received, ..
        } = incoming.peer.hello.resume?;
        let can_resume = {
            let mut session = self.context.local.session();
            session.detach(Instant::now());
            session.can_resume(received)
        };
        match life.handle_attempt(attempt, can_resume) {
            Attempt::Stale => None,
            Attempt::Replace => {
                // It goes down when its own task ends, which is at once.
                replace(incoming);
                None
            }
            Attempt::Resume => {
                let outcome = SessionOutcome::Resumed {
                    received: self.context.local.session().received(),
                };
                let connection = self.welcome(incoming, outcome).await;
                // Checked above, and nothing is sent while detached.
                let connection = connection.filter(|_| {
                    let mut session = self.context.local.session();
                    session.attach(Instant::now(), received).is_ok()
                });
                if connection.is_some() {
                    self.context
                        .counters
                        .resumed
                        .fetch_add(1, Ordering::Relaxed);
                }
                self.welcomed(life, connection.is_some(), GAVE_UP_RESUMING);
                connection
            }
        }
    }

    fn welcomed(&self, life: &mut SessionLife, has_connection: bool, gave_up: &str) {
        if has_connection {
            life.handle_welcomed();
        } else {
            self.down(gave_up);
            life.handle_gave_up(self.expires());
        }
    }

    /// Sends the Welcome; the session is live then.
    async fn welcome(&self, incoming: Incoming, outcome: SessionOutcome) -> Option<Held> {
        let welcome = Welcome {
            session: self.id,
            outcome,
            max_sessions: self.context.worker.state.config().max_sessions_per_edge,
            initial_credit: self.announced_credit,
            features: agreed(&incoming.peer.hello),
            version: crate::version::VERSION.to_owned(),
            resume_timeout_secs: Some(self.resume_timeout_secs),
            observed_address: Some(incoming.address),
        };
        let message = match incoming.peer.welcome_message(&welcome) {
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
        let line = incoming.line.map(Rc::new);
        *self.line.borrow_mut() = line.as_ref().map(Rc::downgrade).unwrap_or_default();
        self.up(incoming.address);
        Some(Held { connection, line })
    }

    fn up(&self, address: SocketAddr) {
        let SessionContext { worker, edge, .. } = &*self.context;
        let now = SystemTime::now();
        let state = &worker.state;
        state.change(|registry| ((), registry.session_up(edge, self.id, address, now)));
    }

    /// Tells whoever has dialled the connection's fate, if this end has.
    fn tell_line(&self, tell: impl FnOnce(&Line)) {
        if let Some(line) = self.line.borrow().upgrade() {
            tell(&line);
        }
    }

    fn down(&self, reason: &str) {
        let SessionContext { worker, edge, .. } = &*self.context;
        let state = &worker.state;
        state.change(|registry| ((), registry.session_down(edge, self.id, reason)));
    }
}

impl Owner for HubSession {
    fn handle(&self, event: Event) -> Result<(), ControlError> {
        let SessionContext { worker, edge, .. } = &*self.context;
        let state = &worker.state;
        match event {
            Event::Opened { key, header } => streams::open(&self.context, key, &header),
            Event::Control(payload) => match self.assembler.borrow_mut().handle(&payload)? {
                Some(ControlMessage::Applied(applied)) => {
                    state.change(|registry| ((), registry.applied(edge, applied)));
                }
                Some(ControlMessage::PublicAddress(address)) => {
                    state.registry().public_address(edge, address);
                }
                // Only edges are told these.
                Some(ControlMessage::Config(_) | ControlMessage::SelfTest(_)) | None => {}
            },
            Event::GoAway { .. } => {
                tracing::debug!(%edge, "edge opens no new streams");
                state.registry().session_leaving(edge, self.id);
                self.tell_line(Line::set_leaving);
            }
            Event::Refused => {
                state.refusals.count(HubRefusalReason::Overloaded);
                self.context.warn(0, || {
                    tracing::warn!(%edge, "streams are refused: no memory is left (memoryBudgetMiB) or the edge has too many open (maxStreamsPerEdge)");
                });
            }
            Event::Silent => {
                self.tell_line(|line| line.set_silent(true));
                self.down(SILENT);
            }
            Event::Heard => {
                self.tell_line(|line| line.set_silent(false));
                self.up(self.address.get());
            }
            Event::Readable(_) | Event::SendReady(_) | Event::SendStopped(_) => {}
            Event::Datagram(datagram) => self.flows.handle(&datagram),
        }
        Ok(())
    }

    fn settle(&self) {
        self.flows.flush();
    }
}

/// The features of both ends. That the edge needs no other was checked at the entrance.
pub(super) fn agreed(hello: &Hello) -> Features {
    hello.offer().supported().intersection(FEATURES)
}

fn is_newer(life: &SessionLife, incoming: &Incoming) -> bool {
    let resume = incoming.peer.hello.resume.as_ref();
    resume.is_some_and(|resume| life.is_newer(resume.attempt))
}
