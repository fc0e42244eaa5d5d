//! A worker of the edge: its listeners, its sessions, and the clients it carries.

use super::command::{Command, Incoming, ListenerSocket, NewListener, WorkerStatus};
use super::listener::serve_listener;
use super::self_test::Testing;
use super::state::EdgeState;
use super::streams::Streams;
use super::udp::flows::{EdgeUdp, MAX_STRAYS};
use super::udp::listener::UdpListener;
use super::udp::serve::Datagrams;
use super::udp::session::{EdgeSessions, SessionFlows};
use super::warnings::Warnings;
use crate::listing::{Asked, Listing};
use remoteingress_config::TransportMode;
use remoteingress_config::streams::{StreamList, WaitsFor};
use remoteingress_core::edge::place::Place;
use remoteingress_core::edge::port_table::ListenerId;
use remoteingress_core::stream::Timeouts;
use remoteingress_os::process_options::return_memory;
use remoteingress_proto::handshake::{HubEpoch, Transport};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_tunnel::entrance::acceptor::Deliver;
use remoteingress_tunnel::entrance::quic::{QuicSockets, listen};
use remoteingress_tunnel::session::local_session::rtt_ms;
use remoteingress_tunnel::uplink::dialler::Dialler;
use remoteingress_tunnel::uplink::keep::keep;
use remoteingress_tunnel::uplink::sessions::Sessions;
use remoteingress_tunnel::uplink::trial;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet, spawn_local};

/// Idle, stalled and drained streams are looked for this often.
const SWEEP: Duration = Duration::from_secs(1);
/// Connections that are cut are closed within this: their tasks have one packet each to send.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(100);

/// Everything that one worker has.
struct EdgeWorker {
    state: Arc<EdgeState>,
    ordinal: usize,
    dialler: Rc<Dialler>,
    sessions: Rc<EdgeSessions>,
    streams: Rc<Streams>,
    udp: Rc<EdgeUdp>,
    testing: Testing,
    warnings: RefCell<Warnings>,
    datagrams: Rc<Datagrams>,
    listeners: RefCell<HashMap<ListenerId, Vec<Listener>>>,
}

/// A listener's task, and how it is told to close.
struct Listener {
    stop: Rc<Notify>,
    task: JoinHandle<()>,
}

/// Runs a worker until its commands end or it is told to stop.
pub(super) async fn run(
    state: Arc<EdgeState>,
    ordinal: usize,
    quic: Option<QuicSockets>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let (stray, mut strays) = mpsc::channel(MAX_STRAYS);
    if let Some(own) = state.strays.get(ordinal) {
        // Set once, here.
        let _ = own.set(stray);
    }
    let worker = Rc::new(EdgeWorker::new(state.clone(), ordinal));
    let mut endpoints = match quic {
        Some(quic) => listen(&state, quic, &deliver_to(&worker)),
        None => JoinSet::new(),
    };
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            Some(stray) = strays.recv() => {
                worker.datagrams.take_in(&stray);
                continue;
            }
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
                worker.end().await;
                endpoints.shutdown().await;
                // Nobody may be waiting any more.
                let _ = done.send(());
                return;
            }
            Some(command) => worker.handle(command),
            None => return,
        }
    }
}

/// The worker takes calls over QUIC itself; it outlives the endpoints.
fn deliver_to(worker: &Rc<EdgeWorker>) -> Deliver<EdgeState> {
    let worker = Rc::downgrade(worker);
    Rc::new(move |incoming: Incoming| {
        if let Some(worker) = worker.upgrade() {
            worker.answer(incoming);
        }
        Ok(())
    })
}

impl EdgeWorker {
    fn new(state: Arc<EdgeState>, ordinal: usize) -> Self {
        let budget = Budget::new(state.budget.clone());
        let dialler = Dialler::new(state.hub.uplink.clone(), ordinal, budget);
        let sessions = Sessions::new(dialler.clone());
        let udp = EdgeUdp::new(&state, ordinal);
        Self {
            streams: Streams::new(state.clone(), ordinal, sessions.clone()),
            datagrams: Datagrams::new(state.clone(), udp.clone(), sessions.clone()),
            listeners: RefCell::default(),
            state,
            ordinal,
            dialler,
            sessions,
            udp,
            testing: Testing::default(),
            warnings: RefCell::default(),
        }
    }

    fn handle(&self, command: Command) {
        match command {
            Command::Connect => self.connect(),
            Command::Called(incoming) => match incoming.attach() {
                Ok(incoming) => self.answer(incoming),
                Err(error) => tracing::error!(%error, "failed to watch a tunnel connection"),
            },
            Command::Evict(epoch) => self.evict(epoch),
            Command::Ping(answered) => {
                if let Some(session) = self.sessions.attached() {
                    spawn_local(async move {
                        if session.local.is_alive().await {
                            // The caller may have stopped waiting.
                            let _ = answered.send(());
                        }
                    });
                }
            }
            Command::AddListeners(listeners) => {
                for NewListener {
                    id,
                    place,
                    listener,
                } in listeners
                {
                    self.add_listener(id, place, listener);
                }
            }
            Command::RemoveListener { id } => {
                for listener in self.listeners.borrow_mut().remove(&id).unwrap_or_default() {
                    listener.stop.notify_one();
                }
                self.udp.close(id);
            }
            Command::Vacate(wanted) => self.dialler.vacate(&wanted),
            Command::Client(client) => self.streams.carry(client),
            Command::Control(message) => {
                if let Some(session) = self.sessions.current() {
                    match message.encode_for(session.features()) {
                        Ok(frames) => {
                            for frame in frames {
                                session.local.session().send_control(&frame);
                            }
                        }
                        Err(error) => tracing::error!(%error, "failed to encode a control message"),
                    }
                    session.local.notify();
                }
            }
            Command::Streams(asked, reply) => {
                // The caller may have stopped waiting.
                let _ = reply.send(self.list(&asked));
            }
            Command::Status(reply) => {
                // Nobody may be waiting any more.
                let _ = reply.send(self.status());
            }
            Command::SelfTest(test) if !self.state.is_draining() => {
                self.testing.begin(&self.sessions, test);
            }
            Command::Drain(done) => {
                self.testing.end();
                self.close_listeners(done);
            }
            Command::GoAway => self.sessions.go_away(),
            Command::EndStreams => {
                self.testing.end();
                for session in &*self.sessions.all() {
                    session.local.end_streams(AbortCode::Ended);
                }
            }
            Command::SelfTest(_) | Command::ReleasePort(_) | Command::Stop(_) => {}
        }
    }

    fn evict(&self, epoch: HubEpoch) {
        let caller = self.dialler.uplink().last_caller(self.ordinal);
        // The successor's call may have been faster than this command.
        if caller.is_some_and(|caller| caller.epoch != epoch) {
            return;
        }
        if let Some(session) = self.sessions.current() {
            session.cut("the hub doesn't answer, and another one has called");
        }
    }

    /// Ends the sessions that can't do without the tunnel port's socket.
    async fn cut_quic(&self) {
        let sessions: Vec<_> = self.sessions.all().iter().cloned().collect();
        let mut has_some = false;
        for session in sessions {
            if session.transport() == Transport::Quic {
                session.cut("a successor of this edge needs the tunnel port");
                has_some = true;
            }
        }
        if has_some {
            tokio::time::sleep(FAREWELL_TIMEOUT).await;
        }
    }

    /// Keeps a session from now on.
    fn connect(&self) {
        let flows = || {
            let (state, udp) = (self.state.clone(), self.udp.clone());
            move || SessionFlows::new(&state, &udp)
        };
        let sessions = &self.sessions;
        sessions.own(spawn_local(keep(sessions.clone(), flows())));
        let config = self.state.config();
        let can_fall_back = config.transport_mode == TransportMode::QuicWithFallback;
        // One worker makes trials for all.
        if self.ordinal == 0 && can_fall_back && !self.dialler.uplink().is_called() {
            let (interval, stable) = (config.quic.probe_interval, config.quic.stable);
            let trials = trial::run(self.dialler.clone(), flows(), interval, stable);
            sessions.own_trial(spawn_local(trials));
        }
    }

    /// Takes a call of the hub: for the next connection of this worker, or as a trial.
    fn answer(&self, incoming: Incoming) {
        // Where packets can't be steered, all of them reach one worker, and the calls for others end here.
        if incoming.place != self.ordinal {
            return;
        }
        let (connection, call) = (incoming.connection, incoming.peer);
        if call.call.is_trial {
            let flows = SessionFlows::new(&self.state, &self.udp);
            let dialler = self.dialler.clone();
            let answered = trial::answer(dialler, connection, call, flows);
            self.sessions.own_trial(spawn_local(answered));
        } else {
            self.dialler.take_call(connection, call);
        }
    }

    fn add_listener(&self, id: ListenerId, place: Place, listener: ListenerSocket) {
        if self.state.is_draining() {
            return;
        }
        let stop = Rc::new(Notify::new());
        let spawned = match listener {
            ListenerSocket::Tcp(listener) => {
                let (clients, streams) = (self.state.clients.clone(), self.streams.clone());
                tokio::net::TcpListener::from_std(listener).map(|listener| {
                    let stop = stop.clone();
                    spawn_local(serve_listener(clients, streams, place, listener, stop))
                })
            }
            ListenerSocket::Udp { socket, is_rare } => {
                let datagrams = self.datagrams.clone();
                UdpListener::new(id, socket, is_rare)
                    .map(|listener| spawn_local(datagrams.serve(listener, stop.clone())))
            }
        };
        match spawned {
            Ok(task) => {
                let mut listeners = self.listeners.borrow_mut();
                // One per address family.
                listeners
                    .entry(id)
                    .or_default()
                    .push(Listener { stop, task });
            }
            Err(error) => {
                tracing::error!(port = place.port, %error, "failed to watch a listener");
            }
        }
    }

    /// Closes all listeners, and tells when the clients that waited there have been accepted.
    fn close_listeners(&self, done: oneshot::Sender<()>) {
        let listeners: Vec<Listener> = self
            .listeners
            .borrow_mut()
            .drain()
            .flat_map(|(_, listeners)| listeners)
            .collect();
        spawn_local(async move {
            for listener in &listeners {
                listener.stop.notify_one();
            }
            for Listener { task, .. } in listeners {
                // A listener that has panicked accepts nobody either.
                let _ = task.await;
            }
            // Nobody may be waiting any more.
            let _ = done.send(());
        });
    }

    fn sweep(&self) {
        self.dialler.follow_routes();
        let timeouts = Timeouts::from(&self.state.config().engine);
        for session in &*self.sessions.all() {
            session.local.sweep(timeouts);
            session.count_drops();
        }
        self.udp.sweep();
        // One worker looks for all.
        if self.ordinal == 0 {
            let mut warnings = self.warnings.borrow_mut();
            warnings.write(Instant::now(), &self.state);
            if self.state.budget.has_shrunk() {
                return_memory();
            }
        }
    }

    fn status(&self) -> WorkerStatus {
        let ended = self.sessions.ended();
        let mut status = WorkerStatus {
            total_streams: ended.streams,
            bytes_in: ended.sent,
            bytes_out: ended.received,
            active_flows: self.udp.active_flows(),
            transport: self.sessions.current().map(|session| session.transport()),
            ..WorkerStatus::default()
        };
        for session in &*self.sessions.all() {
            let transport = session.transport();
            session.count_drops();
            let session = session.local.session();
            let totals = session.totals();
            let mut part = WorkerStatus {
                sessions: usize::from(session.is_attached()),
                active_streams: session.active_streams(),
                total_streams: totals.streams,
                bytes_in: totals.sent,
                bytes_out: totals.received,
                rtt_ms: rtt_ms(&session),
                queued: session.queued(),
                ..WorkerStatus::default()
            };
            match transport {
                Transport::TcpTls => {
                    part.sessions_over_tcp_tls = part.sessions;
                    part.streams_over_tcp_tls = part.active_streams;
                }
                Transport::Quic => {
                    part.sessions_over_quic = part.sessions;
                    part.streams_over_quic = part.active_streams;
                }
            }
            status.add(&part);
        }
        status
    }

    /// The oldest streams and flows of this worker's sessions.
    fn list(&self, asked: &Asked) -> StreamList {
        let mut listing = Listing::new(asked, WaitsFor::Client);
        let edge = &self.state.edge_id;
        if listing.wants(edge) {
            for session in &*self.sessions.all() {
                listing.add_streams(edge, session.transport(), &session.local);
            }
            if let Some(session) = self.sessions.current() {
                // By their names in the session that carries them now.
                listing.add_flows(edge, session.transport(), &session.local, &*self.udp);
            }
        }
        listing.finish()
    }

    /// Gives sessions a moment for their last frames, and ends them.
    async fn end(&self) {
        self.sessions.go_away();
        self.sessions.flush().await;
        self.udp.end();
        self.sweep();
        tokio::task::yield_now().await;
        self.sessions.end();
    }
}
