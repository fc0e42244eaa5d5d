//! A worker of the hub: the sessions it runs, and the commands to them.

use super::calling::Calling;
use super::context::WorkerContext;
use super::flows::WorkerFlows;
use super::session::{FAREWELL_TIMEOUT, HubSession, agreed};
use super::state::{Command, HubState, Incoming, SessionStatus};
use super::warnings::RefusalLog;
use crate::listing::{Asked, Listing};
use remoteingress_config::reasons::DialledBy;
use remoteingress_config::streams::{StreamList, WaitsFor};
use remoteingress_core::hub::registry::NewSession;
use remoteingress_core::stream::Timeouts;
use remoteingress_os::process_options::return_memory;
use remoteingress_proto::flow::FlowEnd;
use remoteingress_proto::handshake::{SessionId, SessionOutcome, Transport};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_tunnel::entrance::acceptor::Deliver;
use remoteingress_tunnel::entrance::quic::{QuicSockets, listen};
use remoteingress_tunnel::session::local_session::rtt_ms;
use remoteingress_tunnel::stream::facts::Facts;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

/// Idle, stalled and drained streams are looked for this often.
const SWEEP: Duration = Duration::from_secs(1);
/// A stopping worker gives its sessions this long to send their last frames.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The sessions of one worker.
struct HubWorker {
    context: Rc<WorkerContext>,
    calling: Calling,
    flows: Rc<WorkerFlows>,
    sessions: RefCell<HashMap<SessionId, Rc<HubSession>>>,
    log: RefCell<RefusalLog>,
}

/// Runs a worker until its commands end or it is told to stop.
pub(super) async fn run(
    state: Arc<HubState>,
    ordinal: usize,
    quic: QuicSockets,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Rc::new_cyclic(|worker| HubWorker {
        context: WorkerContext::new(state.clone(), ordinal),
        calling: Calling::new(state.clone(), ordinal, attach_to(worker.clone())),
        flows: WorkerFlows::new(&state),
        sessions: RefCell::default(),
        log: RefCell::default(),
    });
    let mut endpoints = listen(&state, quic, &deliver_to(&worker));
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
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
            Some(Command::Stop(done)) => {
                worker.flush().await;
                endpoints.shutdown().await;
                for session in worker.sessions.borrow().values() {
                    session.flows.end(FlowEnd::Closed);
                }
                // The caller may have stopped waiting.
                let _ = done.send(());
                return;
            }
            Some(command) => worker.handle(command),
            None => return,
        }
    }
}

/// The worker takes connections that it has dialled.
fn attach_to(worker: Weak<HubWorker>) -> impl Fn(Incoming) {
    move |incoming| {
        if let Some(worker) = worker.upgrade() {
            worker.attach(incoming);
        }
    }
}

/// Asks a session for a sign of life, and drops `answered` if there is none in time.
async fn ping(session: Rc<HubSession>, answered: oneshot::Sender<()>) {
    if session.context.local.is_alive().await {
        // The caller may have stopped waiting.
        let _ = answered.send(());
    }
}

/// The worker takes connections over QUIC itself; it outlives the endpoints.
fn deliver_to(worker: &Rc<HubWorker>) -> Deliver<HubState> {
    let worker = Rc::downgrade(worker);
    Rc::new(move |incoming| {
        if let Some(worker) = worker.upgrade() {
            worker.attach(incoming);
        }
        Ok(())
    })
}

impl HubWorker {
    fn handle(self: &Rc<Self>, command: Command) {
        match command {
            Command::Connection(incoming) => match incoming.attach() {
                Ok(incoming) => self.attach(incoming),
                Err(error) => tracing::error!(%error, "failed to watch a tunnel connection"),
            },
            Command::Call {
                callee,
                ordinal,
                delay,
            } => self.calling.keep(callee, ordinal, delay),
            Command::ChangeAllowedEdge { session, allowed } => {
                if let Some(session) = self.session(session) {
                    session.context.set_allowed(allowed);
                    session.flows.retarget();
                }
            }
            Command::ChangePools(pools) => {
                self.context.set_pools(pools);
                for session in self.sessions.borrow().values() {
                    session.flows.retarget();
                }
            }
            Command::CutTarget(number) => {
                for session in self.sessions.borrow().values() {
                    let is_meant = |facts: &Facts| facts.has_target(number);
                    session.context.local.end_where(AbortCode::Ended, is_meant);
                    session.flows.end_at(number);
                }
            }
            Command::Control { session, frames } => {
                if let Some(session) = self.session(session) {
                    let local = &session.context.local;
                    for frame in frames {
                        local.session().send_control(&frame);
                    }
                    local.notify();
                }
            }
            Command::Cut { session, replaced } => {
                if let Some(session) = self.session(session) {
                    session.cut(replaced);
                }
            }
            Command::Ping { session, answered } => {
                if let Some(session) = self.session(session) {
                    spawn_local(ping(session, answered));
                }
            }
            Command::Streams(asked, reply) => {
                // The caller may have stopped waiting.
                let _ = reply.send(self.list(&asked));
            }
            Command::Status(reply) => {
                // The caller may have stopped waiting.
                let _ = reply.send(self.status());
            }
            Command::Drain => {
                for session in self.sessions.borrow().values() {
                    session.drain();
                }
            }
            Command::EndStreams => {
                for session in self.sessions.borrow().values() {
                    session.context.local.end_streams(AbortCode::Ended);
                }
            }
            Command::ReleasePort(_) | Command::Stop(_) => {}
        }
    }

    fn session(&self, id: SessionId) -> Option<Rc<HubSession>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// An edge that was admitted: it goes on with its session or gets a new one.
    fn attach(self: &Rc<Self>, incoming: Incoming) {
        let hello = &incoming.peer.hello;
        let Some(resume) = &hello.resume else {
            return self.start(incoming, SessionOutcome::New);
        };
        let own = self.session(resume.session);
        let transport = incoming.connection.transport();
        match own.filter(|session| session.belongs_to(hello, transport)) {
            Some(session) => session.attach(incoming),
            None => self.start(incoming, SessionOutcome::SessionLost),
        }
    }

    /// Makes a new session on a connection.
    fn start(self: &Rc<Self>, incoming: Incoming, outcome: SessionOutcome) {
        let (session, arrivals) = HubSession::new(&self.context, &self.flows, &incoming, outcome);
        let edge = &session.context.edge;
        let new = self.announcement(session.id, &incoming);
        let made = self.context.state.change(|registry| {
            let is_draining = registry.draining;
            match registry.session_made(edge, new) {
                Some((allowed, actions)) => (Some((allowed, is_draining)), actions),
                None => (None, Vec::new()),
            }
        });
        let Some((allowed, is_draining)) = made else {
            tracing::debug!(%edge, "the edge has changed since it was admitted");
            return;
        };
        session.context.set_allowed(allowed);
        if is_draining {
            session.drain();
        }
        self.sessions
            .borrow_mut()
            .insert(session.id, session.clone());
        let worker = self.clone();
        spawn_local(async move {
            let replace = |incoming| worker.start(incoming, SessionOutcome::SessionLost);
            let code = session.serve(incoming, outcome, arrivals, replace).await;
            worker.detach(&session, code);
        });
    }

    fn announcement(&self, id: SessionId, incoming: &Incoming) -> NewSession {
        let hello = &incoming.peer.hello;
        NewSession {
            id,
            worker: self.context.ordinal,
            ordinal: hello.session_ordinal,
            instance: hello.instance,
            replaces_instance: hello.replaces_instance,
            keys: incoming.peer.keys.clone(),
            address: incoming.address,
            transport: incoming.connection.transport(),
            dialled_by: if incoming.line.is_some() {
                DialledBy::Hub
            } else {
                DialledBy::Edge
            },
            version: hello.version.clone(),
            features: agreed(hello),
        }
    }

    /// A session is over.
    fn detach(&self, session: &HubSession, code: AbortCode) {
        self.sessions.borrow_mut().remove(&session.id);
        session.flows.end(if code == AbortCode::TunnelLost {
            FlowEnd::SessionLost
        } else {
            FlowEnd::Closed
        });
        let (id, edge) = (session.id, &session.context.edge);
        let totals = session.context.local.session().totals();
        let state = &self.context.state;
        state.change(|registry| ((), registry.session_ended(edge, id, totals)));
    }

    fn sweep(&self) {
        self.calling.follow_routes();
        let timeouts = Timeouts::from(&self.context.state.config().engine);
        for session in self.sessions.borrow().values() {
            let local = &session.context.local;
            local.sweep(timeouts);
            session.flows.sweep();
        }
        // One worker looks for all.
        if self.context.ordinal == 0 {
            let state = &self.context.state;
            self.log.borrow_mut().write(Instant::now(), state);
            if state.budget.has_shrunk() {
                return_memory();
            }
        }
    }

    fn status(&self) -> Vec<SessionStatus> {
        let sessions = self.sessions.borrow();
        let status = |session: &Rc<HubSession>| {
            let (edge, transport) = (session.context.edge.clone(), session.transport);
            let session = session.context.local.session();
            let totals = session.totals();
            SessionStatus {
                edge,
                active_streams: session.active_streams(),
                total_streams: totals.streams,
                bytes_in: totals.received,
                bytes_out: totals.sent,
                rtt_ms: rtt_ms(&session),
                is_attached: session.is_attached(),
                queued: session.queued(),
                transport,
            }
        };
        sessions.values().map(status).collect()
    }

    /// The oldest streams and flows of this worker's sessions.
    fn list(&self, asked: &Asked) -> StreamList {
        let sessions = self.sessions.borrow();
        let mut listing = Listing::new(asked, WaitsFor::Target);
        for session in sessions.values() {
            let (edge, local) = (&session.context.edge, &session.context.local);
            if listing.wants(edge) {
                listing.add_streams(edge, session.transport, local);
                listing.add_flows(edge, session.transport, local, &*session.flows);
            }
        }
        listing.finish()
    }

    /// Ends the sessions whose connections need the tunnel port's socket, and gives them a moment to say so.
    async fn cut_quic(&self) {
        let sessions: Vec<_> = self.sessions.borrow().values().cloned().collect();
        let on_quic = |session: &&Rc<HubSession>| session.transport == Transport::Quic;
        let mut has_some = false;
        for session in sessions.iter().filter(on_quic) {
            session.cut(false);
            has_some = true;
        }
        if has_some {
            tokio::time::sleep(FAREWELL_TIMEOUT).await;
        }
    }

    /// Lets sessions send their last frames.
    async fn flush(&self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let is_flushed = || {
            self.sessions.borrow().values().all(|session| {
                let session = session.context.local.session();
                !session.is_attached() || session.is_flushed()
            })
        };
        while !is_flushed() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
