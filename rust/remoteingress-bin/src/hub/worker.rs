//! A worker of the hub: the sessions it runs and what they share.

use super::flows::ToTarget;
use super::session::{HubSession, agreed};
use super::state::{Command, HubState, Incoming, SessionStatus};
use remoteingress_core::hub::registry::{NewSession, Place};
use remoteingress_os::resolve::TargetResolver;
use remoteingress_os::socket_options::return_memory;
use remoteingress_os::udp::ReceiveBatch;
use remoteingress_os::udp_runs::Runs;
use remoteingress_proto::handshake::{SessionId, SessionOutcome, Transport};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::entrance::acceptor::Deliver;
use remoteingress_tunnel::entrance::quic::{QuicSockets, listen};
use remoteingress_tunnel::session::local_session::rtt_ms;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

/// Idle, stalled and drained streams are looked for this often.
const SWEEP: Duration = Duration::from_secs(1);
/// A warning that many streams may cause comes at most this often per edge and port: often enough to see
/// whether it lasts.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);
/// Ports whose last warning is remembered; beyond it nothing more is said.
const MAX_COMPLAINTS: usize = 4_096;
/// What connections may take to tell their peers that they end.
const GOODBYE: Duration = Duration::from_millis(100);
/// A stopping worker gives its sessions this long to send their last frames.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// See the file's first line.
pub(crate) struct HubWorker {
    pub(crate) state: Arc<HubState>,
    pub(crate) ordinal: usize,
    pub(crate) budget: Budget,
    pub(crate) resolver: TargetResolver,
    /// What targets of UDP flows have sent; empty between two turns.
    pub(super) batch: RefCell<ReceiveBatch>,
    /// What goes to targets of UDP flows; empty between two turns.
    pub(super) to_targets: RefCell<Runs<ToTarget>>,
    sessions: RefCell<HashMap<SessionId, Rc<HubSession>>>,
    /// By edge and port, at most [`MAX_COMPLAINTS`].
    complained_at: RefCell<HashMap<(EdgeId, u16), Instant>>,
}

/// Runs a worker until its commands end or it is told to stop.
pub(crate) async fn run(
    state: Arc<HubState>,
    ordinal: usize,
    quic: QuicSockets,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Rc::new(HubWorker {
        budget: Budget::new(state.budget.clone()),
        resolver: TargetResolver::new(state.config.allow_special_targets),
        batch: RefCell::new(ReceiveBatch::new()),
        to_targets: RefCell::default(),
        state,
        ordinal,
        sessions: RefCell::default(),
        complained_at: RefCell::default(),
    });
    let mut endpoints = listen(&worker.state, quic, &deliver_to(&worker));
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            _ = sweep.tick() => {
                worker.sweep();
                continue;
            }
        };
        match command {
            Some(Command::ReleasePort(done)) => {
                worker.cut_quic().await;
                endpoints.shutdown().await;
                // Nobody may be waiting any more.
                let _ = done.send(());
            }
            Some(Command::Stop(done)) => {
                worker.flush().await;
                endpoints.shutdown().await;
                // Nobody may be waiting any more.
                let _ = done.send(());
                return;
            }
            Some(command) => worker.obey(command),
            None => return,
        }
    }
}

/// The worker takes connections over QUIC itself; it outlives the endpoints.
fn deliver_to(worker: &Rc<HubWorker>) -> Deliver<Place> {
    let worker = Rc::downgrade(worker);
    Rc::new(move |incoming| {
        if let Some(worker) = worker.upgrade() {
            worker.connection(incoming);
        }
        Ok(())
    })
}

impl HubWorker {
    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Connection(incoming) => match incoming.attach() {
                Ok(incoming) => self.connection(incoming),
                Err(error) => tracing::error!(%error, "failed to watch a tunnel connection"),
            },
            Command::ChangeEntry { session, entry } => {
                if let Some(session) = self.session(session) {
                    *session.entry.borrow_mut() = entry;
                    session.retarget_flows();
                }
            }
            Command::Control { session, frames } => {
                if let Some(session) = self.session(session) {
                    for frame in frames {
                        session.local.session().send_control(&frame);
                    }
                    session.local.notify();
                }
            }
            Command::Cut { session, replaced } => {
                if let Some(session) = self.session(session) {
                    session.replaced.set(replaced);
                    session.cut.notify_one();
                }
            }
            Command::Ping { session, answered } => {
                if let Some(session) = self.session(session) {
                    session.local.probe(answered);
                }
            }
            Command::Status(reply) => {
                // Nobody may be waiting any more.
                let _ = reply.send(self.status());
            }
            Command::Drain => {
                for session in self.sessions.borrow().values() {
                    session.drain();
                }
            }
            Command::EndStreams => {
                for session in self.sessions.borrow().values() {
                    session.local.end_streams(AbortCode::Ended);
                }
            }
            Command::ReleasePort(_) | Command::Stop(_) => {}
        }
    }

    fn session(&self, id: SessionId) -> Option<Rc<HubSession>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// An edge that was let in: it goes on with its session or gets a new one.
    pub(crate) fn connection(self: &Rc<Self>, incoming: Incoming) {
        let hello = &incoming.edge.hello;
        let Some(resume) = &hello.resume else {
            return self.clone().start(incoming, SessionOutcome::New);
        };
        let own = self.session(resume.session);
        let transport = incoming.connection.transport();
        let is_own =
            |session: &Rc<HubSession>| session.belongs_to(hello) && session.transport == transport;
        match own.filter(is_own) {
            // A queue of attempts that is full drops the newest; the edge tries again.
            Some(session) => drop(session.connections.try_send(incoming)),
            None => self.clone().start(incoming, SessionOutcome::SessionLost),
        }
    }

    /// Makes a new session on a connection.
    pub(crate) fn start(self: Rc<Self>, incoming: Incoming, outcome: SessionOutcome) {
        let (session, arriving) = HubSession::new(&self, &incoming, outcome);
        let hello = &incoming.edge.hello;
        let new = NewSession {
            id: session.id,
            worker: self.ordinal,
            ordinal: hello.session_ordinal,
            instance: hello.instance,
            replaces_instance: hello.replaces_instance,
            keys: incoming.edge.keys.clone(),
            address: incoming.address,
            transport: incoming.connection.transport(),
            version: hello.version.clone(),
            features: agreed(hello),
        };
        let made = self.state.change(|registry| {
            let is_draining = registry.draining;
            match registry.session_made(&session.edge, new) {
                Some((entry, actions)) => (Some((entry, is_draining)), actions),
                None => (None, Vec::new()),
            }
        });
        let Some((entry, is_draining)) = made else {
            tracing::debug!(edge = %session.edge, "the edge has changed since it was let in");
            return;
        };
        *session.entry.borrow_mut() = entry;
        if is_draining {
            session.drain();
        }
        self.sessions
            .borrow_mut()
            .insert(session.id, session.clone());
        spawn_local(session.serve(incoming, outcome, arriving));
    }

    /// A session is over.
    pub(crate) fn ended(&self, session: &HubSession) {
        self.sessions.borrow_mut().remove(&session.id);
        session.end_flows();
        let totals = session.local.session().totals();
        self.state.change(|registry| {
            (
                (),
                registry.session_ended(&session.edge, session.id, totals),
            )
        });
    }

    /// Says something that many streams of a port may give reason to, but not each time.
    pub(crate) fn complain(&self, edge: &EdgeId, port: u16, say: impl FnOnce()) {
        let now = Instant::now();
        let mut complained_at = self.complained_at.borrow_mut();
        if complained_at.len() >= MAX_COMPLAINTS {
            complained_at.retain(|_, at| now < *at + COMPLAINT_INTERVAL);
        }
        let is_new = complained_at
            .get(&(edge.clone(), port))
            .is_none_or(|at| now >= *at + COMPLAINT_INTERVAL);
        if is_new && complained_at.len() < MAX_COMPLAINTS {
            complained_at.insert((edge.clone(), port), now);
            say();
        }
    }

    fn sweep(&self) {
        let engine = &self.state.config.engine;
        for session in self.sessions.borrow().values() {
            session
                .local
                .sweep(engine.idle_timeout, engine.half_closed_timeout);
            session.sweep_flows();
        }
        // One worker looks for all.
        if self.ordinal == 0 && self.state.budget.has_shrunk() {
            return_memory();
        }
    }

    fn status(&self) -> Vec<SessionStatus> {
        let sessions = self.sessions.borrow();
        let status = |session: &Rc<HubSession>| {
            let (edge, transport) = (session.edge.clone(), session.transport);
            let session = session.local.session();
            let totals = session.totals();
            SessionStatus {
                edge,
                active_streams: session.active_streams(),
                total_streams: totals.streams,
                bytes_in: totals.received,
                bytes_out: totals.sent,
                rtt_ms: rtt_ms(&session),
                transport,
            }
        };
        sessions.values().map(status).collect()
    }

    /// Ends the sessions whose connections need the tunnel port's socket, and gives them a moment to say so.
    async fn cut_quic(&self) {
        let sessions: Vec<_> = self.sessions.borrow().values().cloned().collect();
        let on_quic = |session: &&Rc<HubSession>| session.transport == Transport::Quic;
        let mut has_some = false;
        for session in sessions.iter().filter(on_quic) {
            session.cut.notify_one();
            has_some = true;
        }
        if has_some {
            tokio::time::sleep(GOODBYE).await;
        }
    }

    /// Lets sessions send their last frames.
    async fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let is_flushed = || {
            self.sessions.borrow().values().all(|session| {
                let session = session.local.session();
                !session.is_attached() || session.is_flushed()
            })
        };
        while !is_flushed() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
