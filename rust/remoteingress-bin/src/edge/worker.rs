//! A worker of the edge: its listeners, its session, and the clients it carries.

use super::listener::{hold, serve_listener};
use super::probe::probe;
use super::session::{EdgeSession, keep};
use super::state::{Client, Command, EdgeState, ListenerSocket, WorkerStatus};
use super::udp::{EdgeUdp, MAX_STRAYS, UdpListener, serve_udp};
use remoteingress_config::TransportMode;
use remoteingress_config::error::ErrorCode;
use remoteingress_core::edge::port_table::ListenerId;
use remoteingress_os::socket_options::return_memory;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{GoAwayCode, OpenError, Totals};
use remoteingress_proto::wire::header::{Protocol, StreamHeader};
use remoteingress_tunnel::session::local_session::{LocalSession, rtt_ms};
use remoteingress_tunnel::stream::splice::Pipe;
use remoteingress_tunnel::uplink::quic_dialler::QuicDialer;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};

/// Idle, stalled and drained streams are looked for this often.
const SWEEP: Duration = Duration::from_secs(1);

/// See the file's first line.
pub(crate) struct EdgeWorker {
    pub(crate) state: Arc<EdgeState>,
    pub(crate) ordinal: usize,
    pub(crate) budget: Budget,
    pub(crate) quic: QuicDialer,
    current: RefCell<Option<Rc<EdgeSession>>>,
    /// The current one, and those that finish their streams.
    sessions: RefCell<Vec<Rc<EdgeSession>>>,
    listeners: RefCell<HashMap<ListenerId, Vec<Listener>>>,
    pub(super) udp: Rc<EdgeUdp>,
    tasks: RefCell<Vec<AbortHandle>>,
    /// Of the worker that looks whether QUIC works again.
    probe: Cell<Option<AbortHandle>>,
    /// The last failure to reach the hub that was warned of.
    pub(crate) complaint: Cell<Option<(ErrorCode, Instant)>>,
    /// Of sessions that are gone.
    ended: RefCell<Totals>,
}

/// A listener's task, and how it is told to close.
struct Listener {
    stop: Rc<Notify>,
    task: JoinHandle<()>,
}

/// Runs a worker until its commands end or it is told to stop.
pub(crate) async fn run(
    state: Arc<EdgeState>,
    ordinal: usize,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let (stray, mut strays) = mpsc::channel(MAX_STRAYS);
    if let Some(own) = state.strays.get(ordinal) {
        // Set once, here.
        let _ = own.set(stray);
    }
    let worker = Rc::new(EdgeWorker {
        budget: Budget::new(state.budget.clone()),
        quic: QuicDialer::new(
            state.instance.0.first().copied().unwrap_or_default(),
            ordinal,
        ),
        udp: EdgeUdp::new(&state, ordinal),
        state,
        ordinal,
        current: RefCell::default(),
        sessions: RefCell::default(),
        listeners: RefCell::default(),
        tasks: RefCell::default(),
        probe: Cell::new(None),
        complaint: Cell::new(None),
        ended: RefCell::default(),
    });
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            Some(stray) = strays.recv() => {
                worker.take_in(&stray);
                continue;
            }
            _ = sweep.tick() => {
                worker.sweep();
                continue;
            }
        };
        match command {
            Some(Command::Stop(done)) => {
                worker.say_goodbye().await;
                // Nobody may be waiting any more.
                let _ = done.send(());
                return;
            }
            Some(command) => worker.obey(command),
            None => return,
        }
    }
}

impl EdgeWorker {
    fn obey(self: &Rc<Self>, command: Command) {
        match command {
            Command::Connect => {
                let task = spawn_local(keep(self.clone()));
                self.tasks.borrow_mut().push(task.abort_handle());
                let can_fall_back =
                    self.state.config.transport_mode == TransportMode::QuicWithFallback;
                if self.ordinal == 0 && can_fall_back {
                    let task = spawn_local(probe(self.clone())).abort_handle();
                    self.probe.set(Some(task.clone()));
                    self.tasks.borrow_mut().push(task);
                }
            }
            Command::AddListener { id, port, listener } => self.add_listener(id, port, listener),
            Command::RemoveListener { id } => {
                for listener in self.listeners.borrow_mut().remove(&id).unwrap_or_default() {
                    listener.stop.notify_one();
                }
                self.udp.close(id);
            }
            Command::Client(client) => self.carry(client),
            Command::Control(frames) => {
                if let Some(session) = &*self.current.borrow() {
                    for frame in frames {
                        session.local.session().send_control(&frame);
                    }
                    session.local.notify();
                }
            }
            Command::Status(reply) => {
                // Nobody may be waiting any more.
                let _ = reply.send(self.status());
            }
            Command::Drain(done) => self.close_listeners(done),
            Command::Ping => {
                if let Some(session) = &*self.current.borrow() {
                    session.local.session().ping_now();
                    session.local.notify();
                }
            }
            Command::Leave => self.leave(),
            Command::EndStreams => {
                for session in &*self.sessions.borrow() {
                    session.local.end_streams(AbortCode::Ended);
                }
            }
            Command::Stop(_) => {}
        }
    }

    fn add_listener(self: &Rc<Self>, id: ListenerId, port: u16, listener: ListenerSocket) {
        if self.state.draining.load(Ordering::Relaxed) {
            return;
        }
        let stop = Rc::new(Notify::new());
        let worker = self.clone();
        let spawned = match listener {
            ListenerSocket::Tcp(listener) => tokio::net::TcpListener::from_std(listener)
                .map(|listener| spawn_local(serve_listener(worker, port, listener, stop.clone()))),
            ListenerSocket::Udp(socket) => UdpListener::new(id, socket)
                .map(|listener| spawn_local(serve_udp(worker, listener, stop.clone()))),
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
            Err(error) => tracing::error!(port, %error, "failed to watch a listener"),
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

    /// Opens a stream for a client and moves its bytes; one whose socket is dropped instead is reset.
    /// Without a session the client waits for
    /// one; without memory it is reset.
    pub(crate) fn carry(self: &Rc<Self>, client: Client) {
        if !self.state.may_open() {
            self.state.refusals.count("maxStreamsPerEdge");
            return;
        }
        let header = StreamHeader {
            protocol: Protocol::Tcp,
            listener_port: client.ticket.port,
            client: client.client,
            listener: client.listener,
        };
        let mut bytes = Vec::with_capacity(48);
        header.encode(&mut bytes);
        let opened = self
            .attached()
            .ok_or(OpenError::GoingAway)
            .and_then(|session| {
                let key = session.local.session().open(Instant::now(), &bytes)?;
                Ok((session.local.clone(), key))
            });
        let (local, key) = match opened {
            Ok(opened) => opened,
            Err(OpenError::GoingAway | OpenError::Exhausted) => {
                spawn_local(hold(self.clone(), client));
                return;
            }
            Err(OpenError::Overloaded) => {
                self.state.refusals.count("overloaded");
                return;
            }
        };
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
        pipe.connected(local.handle(), socket, bytes::Bytes::new());
        spawn_local(self.clone().watch(local, pipe, header, client.ticket));
    }

    /// Moves a client's bytes to the stream's end. Every idle stream pays for what this holds: an
    /// `async fn` would hold its arguments twice.
    fn watch(
        self: Rc<Self>,
        local: Rc<LocalSession>,
        pipe: Rc<Pipe>,
        header: StreamHeader,
        ticket: super::state::Ticket,
    ) -> impl Future<Output = ()> {
        let StreamHeader {
            protocol, client, ..
        } = header;
        self.state.events.stream_opened(|| {
            json!({
                "edgeId": self.state.config.edge_id, "streamId": pipe.serial(),
                "clientAddress": client.to_string(), "protocol": protocol.as_str(),
                "port": ticket.port,
            })
        });
        async move {
            let outcome = local.run(&pipe).await;
            let port = ticket.port;
            drop(ticket);
            tracing::debug!(%client, port, outcome = outcome.as_str(), "stream closed");
            self.state.events.stream_closed(|| {
                let (bytes_in, bytes_out) = pipe.moved();
                json!({
                    "edgeId": self.state.config.edge_id, "streamId": pipe.serial(),
                    "bytesIn": bytes_in, "bytesOut": bytes_out, "reason": outcome.as_str(),
                })
            });
        }
    }

    /// A session is ready for streams.
    pub(crate) fn adopt(&self, session: &Rc<EdgeSession>) {
        session.number.set(self.udp.new_session());
        *self.current.borrow_mut() = Some(session.clone());
        self.sessions.borrow_mut().push(session.clone());
        self.state.set_live(self.ordinal, true);
    }

    /// A session has lost its connection.
    pub(crate) fn lost(&self, session: &Rc<EdgeSession>) {
        if self.is_current(session) {
            self.state.set_live(self.ordinal, false);
        }
    }

    /// A session has a connection again.
    pub(crate) fn found(&self, session: &Rc<EdgeSession>) {
        if self.is_current(session) {
            self.state.set_live(self.ordinal, true);
        }
    }

    /// A session is gone.
    pub(crate) fn dismiss(&self, session: &Rc<EdgeSession>) {
        if self.is_current(session) {
            self.state.set_live(self.ordinal, false);
            *self.current.borrow_mut() = None;
        }
        session.count_drops();
        let totals = session.local.session().totals();
        let mut ended = self.ended.borrow_mut();
        ended.received += totals.received;
        ended.sent += totals.sent;
        ended.streams += totals.streams;
        self.sessions
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, session));
    }

    /// A session finishes its streams without new ones.
    pub(crate) fn retire(self: &Rc<Self>, session: &Rc<EdgeSession>, task: OwnedTask) {
        if self.is_current(session) {
            self.state.set_live(self.ordinal, false);
            *self.current.borrow_mut() = None;
        }
        let (worker, session) = (self.clone(), session.clone());
        spawn_local(async move {
            let mut task = task;
            // It may have panicked; then it is over, too.
            let _ = (&mut task).await;
            worker.dismiss(&session);
        });
    }

    /// The task ends with the worker at the latest.
    pub(crate) fn owned(&self, task: JoinHandle<()>) -> OwnedTask {
        let mut tasks = self.tasks.borrow_mut();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        task
    }

    /// The session that datagrams of clients go into now. A hub that hasn't said Welcome yet would lose them, and from a
    /// path that is silent they would come too late.
    pub(super) fn welcome(&self) -> Option<Rc<EdgeSession>> {
        self.attached().filter(|session| {
            let session = session.local.session();
            session.is_welcome() && !session.is_silent()
        })
    }

    fn attached(&self) -> Option<Rc<EdgeSession>> {
        let current = self.current.borrow().clone();
        current.filter(|session| session.local.session().is_attached())
    }

    pub(crate) fn is_current(&self, session: &EdgeSession) -> bool {
        let current = self.current.borrow();
        current
            .as_ref()
            .is_some_and(|current| std::ptr::eq(Rc::as_ptr(current), session))
    }

    fn sweep(&self) {
        self.quic.follow_routes();
        let engine = &self.state.config.engine;
        for session in &*self.sessions.borrow() {
            session
                .local
                .sweep(engine.idle_timeout, engine.half_closed_timeout);
            session.count_drops();
        }
        self.udp.sweep();
        // One worker looks for all.
        if self.ordinal == 0 && self.state.budget.has_shrunk() {
            return_memory();
        }
    }

    fn status(&self) -> WorkerStatus {
        let ended = self.ended.borrow();
        let mut status = WorkerStatus {
            total_streams: ended.streams,
            bytes_in: ended.sent,
            bytes_out: ended.received,
            active_flows: self.udp.active_flows(),
            ..WorkerStatus::default()
        };
        status.transport = self
            .current
            .borrow()
            .as_ref()
            .map(|session| session.transport());
        for session in &*self.sessions.borrow() {
            let transport = session.transport();
            session.count_drops();
            let session = session.local.session();
            match transport {
                Transport::TcpTls => status.streams_over_tcp_tls += session.active_streams(),
                Transport::Quic => status.streams_over_quic += session.active_streams(),
            }
            let totals = session.totals();
            status.sessions += usize::from(session.is_attached());
            status.active_streams += session.active_streams();
            status.total_streams += totals.streams;
            status.bytes_in += totals.sent;
            status.bytes_out += totals.received;
            status.rtt_ms = status.rtt_ms.or_else(|| rtt_ms(&session));
        }
        status
    }

    /// Tells the hub that this edge opens nothing more, so that another instance may take over.
    fn leave(&self) {
        // Its session would look like one that stays.
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        self.state.set_live(self.ordinal, false);
        for session in &*self.sessions.borrow() {
            session
                .local
                .session()
                .go_away(GoAwayCode::Draining, Duration::ZERO);
            session.local.notify();
        }
    }

    /// Gives sessions a moment for their last frames, and ends them.
    async fn say_goodbye(&self) {
        self.leave();
        let sessions = self.sessions.borrow().clone();
        let deadline = Instant::now() + SWEEP;
        while Instant::now() < deadline
            && sessions.iter().any(|session| {
                let session = session.local.session();
                session.is_attached() && !session.is_flushed()
            })
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.sweep();
        tokio::task::yield_now().await;
        for task in self.tasks.borrow().iter() {
            task.abort();
        }
    }
}

/// A task whose end its maker awaits.
pub(crate) type OwnedTask = JoinHandle<()>;
