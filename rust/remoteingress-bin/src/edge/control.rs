//! The edge's control task: applies what the hub wants, tells it what became of that, and answers for status.
//!
//! The consequences of a report are decided in `remoteingress-core` `edge/`; here they are carried out.

use super::bind::bind;
use super::command::{Command, ListenerSocket, NewListener, WorkerStatus};
use super::state::EdgeState;
use crate::access::Access;
use remoteingress_config::error::CodedError;
use remoteingress_config::events::{
    Event, Ports, PublicAddress, TransportChanged, TunnelConnected, TunnelDisconnected,
};
use remoteingress_config::port_status;
use remoteingress_config::reasons::DialledBy;
use remoteingress_config::status::{EdgeStatus, SessionsByTransport, StreamsByTransport};
use remoteingress_core::edge::connectivity::{Action, Connectivity, SessionUp};
use remoteingress_core::edge::generations::{Generations, PortsEvent, Received, Told};
use remoteingress_core::edge::placement::{is_live, lowest_live};
use remoteingress_core::edge::port_runs::runs;
use remoteingress_core::edge::port_table::{Change, ListenerId, PortKey};
use remoteingress_core::edge::spread::{self, Descriptors};
use remoteingress_core::failed_ports::newly_failed;
use remoteingress_os::stun;
use remoteingress_os::worker::ask;
use remoteingress_proto::control::{
    ApplyOutcome, Config, ControlMessage, PortFailure, PortState, PortStatus,
};
use remoteingress_proto::wire::header::Protocol;
use remoteingress_tunnel::uplink::report::{Report, Up};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// The time between two looks at ports that drain: their last streams may have ended.
const DRAIN_POLL: Duration = Duration::from_secs(1);

/// Listeners that a worker gets at a time: their clients wait for less than 10 ms.
const MAX_OPENING: usize = 256;

/// The state of the control task.
pub(super) struct Control {
    state: Arc<EdgeState>,
    descriptors: Descriptors,
    /// By worker, the listeners that it is to get: to wake it for each would take longer than to open the port.
    opening: Vec<Vec<NewListener>>,
    hub: HubControl,
    stun: Stun,
}

/// The state of one hub of this edge, as the control task knows it.
#[derive(Default)]
struct HubControl {
    connectivity: Connectivity,
    generations: Generations,
}

/// Finding out this edge's public address.
#[derive(Default)]
struct Stun {
    interval: Option<Duration>,
    next: Option<Instant>,
    running: JoinSet<Option<IpAddr>>,
    public_address: Option<IpAddr>,
}

impl Control {
    pub(super) fn new(state: Arc<EdgeState>) -> Self {
        Self {
            descriptors: Descriptors::new(state.descriptors),
            opening: Vec::new(),
            state,
            hub: HubControl::default(),
            stun: Stun::default(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        mut questions: mpsc::Receiver<oneshot::Sender<EdgeStatus>>,
    ) {
        loop {
            let timer = self.next_timer();
            let far = Instant::now() + Duration::from_secs(3_600);
            tokio::select! {
                Some(report) = reports.recv() => self.handle(report),
                Some(reply) = questions.recv() => {
                    // Nobody may be waiting any more.
                    let _ = reply.send(self.status().await);
                }
                () = sleep_until(timer.unwrap_or(far).into()) => self.handle_timer(),
                Some(found) = self.stun.running.join_next() => {
                    if let Ok(Some(address)) = found {
                        self.public_address(address);
                    }
                }
            }
        }
    }

    fn next_timer(&self) -> Option<Instant> {
        let generations = &self.hub.generations;
        let is_draining = self.state.is_draining();
        let retry = generations.next_retry().filter(|_| !is_draining);
        let has_draining = generations.has_draining();
        let drained = has_draining.then(|| Instant::now() + DRAIN_POLL);
        let timers = [retry, self.stun.next, drained];
        timers.into_iter().flatten().min()
    }

    fn handle_timer(&mut self) {
        if !self.state.is_draining() {
            self.retry_ports();
        }
        let with_clients = self.state.clients.places();
        let told = self.hub.generations.check_drained(&with_clients);
        self.tell(told, None);
        self.stun.start_if_due(&self.state);
    }

    fn handle(&mut self, report: Report) {
        match report {
            Report::SessionUp(up) => self.session_up(up),
            Report::SessionDown { error } => self.session_down(&error),
            Report::Control {
                worker,
                message: ControlMessage::Config(config),
            } => self.apply(worker, &config),
            Report::Control {
                worker,
                message: ControlMessage::SelfTest(test),
            } => {
                if let Some(worker) = self.state.worker(worker) {
                    // A worker that has ended has no session.
                    let _ = worker.send(Command::SelfTest(test));
                }
            }
            // Only hubs are told these.
            Report::Control {
                message: ControlMessage::Applied(_) | ControlMessage::PublicAddress(_),
                ..
            } => {}
        }
    }

    fn session_up(&mut self, up: Up) {
        let uplink = &self.state.hub.uplink;
        let session = SessionUp {
            transport: up.transport,
            is_chosen: uplink.transport() == up.transport,
            max_sessions: up.max_sessions.into(),
        };
        let workers = self.state.workers().len();
        for action in self.hub.connectivity.up(session, workers) {
            self.carry_out(action, |state| {
                state.events.emit(&Event::TunnelConnected(TunnelConnected {
                    hub_address: up.peer,
                    transport: up.transport.into(),
                    resumed: up.is_resumed,
                }));
            });
        }
        if let Some(address) = self.stun.public_address {
            self.to_hub(ControlMessage::PublicAddress(address));
        }
        let with_clients = self.state.clients.places();
        let told = self.hub.generations.session_up(&with_clients);
        self.tell(told, None);
    }

    /// A failed attempt marks the hub as behind, too, although it can't have lost anything: the report of a loss before it
    /// may have found the queue full, and to say the same again costs the hub one message that changes nothing.
    fn session_down(&mut self, error: &CodedError) {
        self.hub.generations.hub_missed();
        if self.state.is_draining() {
            return;
        }
        let live = *self.state.hub.uplink.live().borrow();
        for action in self.hub.connectivity.down(error.code, live) {
            self.carry_out(action, |state| {
                state
                    .events
                    .emit(&Event::TunnelDisconnected(TunnelDisconnected {
                        reason: error.message.clone(),
                        code: error.code,
                    }));
            });
        }
    }

    /// Carries out what a change of the tunnel means; `announce` emits the event that it is.
    fn carry_out(&mut self, action: Action, announce: impl FnOnce(&EdgeState)) {
        match action {
            Action::Start(worker) => {
                if let Some(worker) = self.state.worker(worker) {
                    // A worker that has ended is of no use.
                    let _ = worker.send(Command::Connect);
                }
            }
            Action::TransportChanged(transport) => {
                let reason = self.state.hub.uplink.choice().borrow().reason.clone();
                self.state
                    .events
                    .emit(&Event::TransportChanged(TransportChanged {
                        transport: transport.into(),
                        reason: reason.unwrap_or_default(),
                    }));
            }
            Action::Connected | Action::Disconnected => announce(&self.state),
            Action::ClosePorts => self.close_ports(),
        }
    }

    fn public_address(&mut self, address: IpAddr) {
        if self.stun.public_address.replace(address) != Some(address) {
            let event = Event::PublicAddressDiscovered(PublicAddress {
                public_address: address,
            });
            self.state.events.emit(&event);
            self.to_hub(ControlMessage::PublicAddress(address));
        }
    }

    fn apply(&mut self, worker: usize, config: &Config) {
        if self.state.is_draining() {
            return;
        }
        let told = match self.hub.generations.receive(config) {
            Received::Old => return,
            Received::Refused(applied) => {
                if let ApplyOutcome::Refused(refusal) = &applied.outcome {
                    let (generation, error) = (config.generation, &refusal.message);
                    tracing::warn!(generation, %error, "refused a configuration of the hub");
                }
                vec![Told::Hub(applied)]
            }
            Received::Known => self.hub.generations.repeated(&self.state.clients.places()),
            Received::New(changes) => {
                self.change_ports(changes);
                self.state.limit_streams(config.max_streams);
                self.state.hub.set_udp_idle(&config.ports);
                let can_ask = !self.state.config().stun_servers.is_empty();
                self.stun.set(config.stun_interval_secs, can_ask);
                self.hub.generations.applied(&self.state.clients.places())
            }
        };
        self.tell(told, Some(worker));
    }

    /// The hub has no such edge any more: clients are better refused than held.
    fn close_ports(&mut self) {
        let Some(changes) = self.hub.generations.close() else {
            return;
        };
        self.change_ports(changes);
        let told = self.hub.generations.closed(&self.state.clients.places());
        self.tell(told, None);
    }

    fn retry_ports(&mut self) {
        let due = self.hub.generations.due(Instant::now());
        if due.is_empty() {
            return;
        }
        let before = self.hub.generations.open_ports();
        self.change_ports(due);
        let with_clients = self.state.clients.places();
        let told = self.hub.generations.retried(before, &with_clients);
        self.tell(told, None);
    }

    fn change_ports(&mut self, changes: Vec<Change>) {
        let before = self.hub.generations.states(&[]);
        let mut opened = Vec::new();
        let mut closed = Vec::new();
        for change in changes {
            match change {
                Change::Bind { key, .. } => opened.push(key),
                Change::Close { key, .. } => closed.push(key),
            }
            self.change_port(change);
        }
        self.hand_over();
        let open_ports = self.hub.generations.open_ports();
        self.state.hub.set_open_ports(open_ports);
        opened.retain(|key| self.hub.generations.is_open(*key));
        log_ports("ports open", opened);
        log_ports("ports closed", closed);
        let states = self.hub.generations.states(&[]);
        if states.iter().any(is_udp_in_use) {
            self.vacate(&states);
        }
        let (failed, left_out) = newly_failed(&before, &states);
        for ports in failed {
            let (reason, error) = (ports.code.as_str(), &ports.message);
            tracing::warn!(%ports, reason, %error, "failed to open a port; it is tried again");
        }
        if left_out > 0 {
            tracing::warn!(ports = left_out, "failed to open more ports");
        }
    }

    /// The kernel may have chosen a port for the tunnel that the hub wants here: the next try finds it free.
    fn vacate(&self, states: &[PortState]) {
        let udp = |state: &PortState| (state.protocol == Protocol::Udp).then_some(state.port);
        let wanted: Arc<[u16]> = states.iter().filter_map(udp).collect();
        for worker in self.state.workers() {
            // A worker that has ended has no socket.
            let _ = worker.send(Command::Vacate(wanted.clone()));
        }
    }

    fn change_port(&mut self, change: Change) {
        match change {
            Change::Bind {
                key,
                replaces,
                is_beside_own,
                range_ports,
            } => {
                let workers = self.state.workers().len();
                let waiting = self.hub.generations.unbound_ports().saturating_sub(1);
                let config = self.state.config();
                let descriptors = &self.descriptors;
                let listeners =
                    descriptors.listeners(&config.limits, range_ports, waiting, workers);
                match bind(&config, key, listeners, workers, is_beside_own) {
                    Ok(listeners) => {
                        self.open(key, listeners);
                        if let Some(id) = replaces {
                            self.close(id);
                        }
                    }
                    Err((code, message)) => {
                        let reason = code.as_str();
                        let (protocol, port) = (key.protocol.as_str(), key.port);
                        tracing::debug!(protocol, port, address = ?key.address, reason, error = %message, "failed to open a port");
                        let now = Instant::now();
                        self.hub.generations.failed(now, key, code, message);
                    }
                }
            }
            Change::Close { listener, .. } => self.close(listener),
        }
    }

    fn open(&mut self, key: PortKey, families: Vec<Vec<ListenerSocket>>) {
        let port = key.port;
        let workers = self.state.workers().len();
        let id = self.hub.generations.bound(key);
        let place = self.hub.generations.place(key);
        let descriptors = families.iter().map(Vec::len).sum();
        self.descriptors.opened(id, descriptors);
        for listeners in families {
            let copies = listeners.len();
            for (copy, listener) in listeners.into_iter().enumerate() {
                let worker = spread::worker_of(port, copy, copies, workers);
                let new = NewListener {
                    id,
                    place,
                    listener,
                };
                self.opening.resize_with(workers, Vec::new);
                if let Some(opening) = self.opening.get_mut(worker) {
                    opening.push(new);
                }
            }
        }
        if self
            .opening
            .iter()
            .any(|opening| opening.len() >= MAX_OPENING)
        {
            self.hand_over();
        }
    }

    /// Gives their listeners to the workers.
    fn hand_over(&mut self) {
        for (worker, opening) in self.state.workers().iter().zip(&mut self.opening) {
            if !opening.is_empty() {
                // A worker that has ended listens no more.
                let _ = worker.send(Command::AddListeners(std::mem::take(opening)));
            }
        }
    }

    fn close(&mut self, id: ListenerId) {
        self.descriptors.closed(id);
        for worker in self.state.workers() {
            // A worker that has ended has no listener.
            let _ = worker.send(Command::RemoveListener { id });
        }
    }

    /// Tells the operator and the hub, which hears it from `worker` if that is live, or else from the lowest live one.
    fn tell(&mut self, told: Vec<Told>, worker: Option<usize>) {
        for told in told {
            match told {
                Told::Operator {
                    event,
                    generation,
                    ports,
                } => {
                    let ports = Ports {
                        generation,
                        ports: statuses(&ports),
                    };
                    self.state.events.emit(&match event {
                        PortsEvent::Assigned => Event::PortsAssigned(ports),
                        PortsEvent::Updated => Event::PortsUpdated(ports),
                    });
                }
                Told::Hub(applied) => {
                    let message = ControlMessage::Applied(applied);
                    let loads = || self.state.hub.uplink.loads();
                    match worker.filter(|worker| is_live(*worker, loads())) {
                        Some(worker) => self.send(worker, message),
                        None if self.to_hub(message) => {}
                        None => self.hub.generations.hub_missed(),
                    }
                }
            }
        }
    }

    /// Sends a message over the lowest worker that is live; false if there is none.
    fn to_hub(&self, message: ControlMessage) -> bool {
        let worker = lowest_live(self.state.hub.uplink.loads());
        if let Some(worker) = worker {
            self.send(worker, message);
        }
        worker.is_some()
    }

    fn send(&self, worker: usize, message: ControlMessage) {
        if let Some(worker) = self.state.worker(worker) {
            // A worker that has ended has no session.
            let _ = worker.send(Command::Control(message));
        }
    }

    async fn status(&self) -> EdgeStatus {
        let state = &self.state;
        let uplink = &state.hub.uplink;
        let mut sum = WorkerStatus::default();
        for worker in state.workers() {
            let Some(part) = ask(worker, Command::Status).await else {
                continue;
            };
            sum.add(&part);
        }
        let generations = &self.hub.generations;
        let is_open = !state.is_draining();
        let open = |protocol| {
            let open = generations.open(protocol).filter(|_| is_open);
            open.collect::<Vec<u16>>()
        };
        let mut ports = statuses(&generations.states(&state.clients.places()));
        let draining = state.is_draining();
        if draining {
            ports = ports
                .into_iter()
                .map(port_status::PortStatus::of_leaving)
                .collect();
        }
        EdgeStatus {
            running: true,
            edge_id: state.edge_id.clone(),
            hub_address: state.config().access.hub_address(),
            draining,
            connected: *uplink.live().borrow() > 0,
            transport: sum.transport.map(Into::into),
            dialled_by: if uplink.is_called() {
                DialledBy::Hub
            } else {
                DialledBy::Edge
            },
            proxy: uplink.proxy().map(ToString::to_string),
            transport_reason: uplink.choice().borrow().reason.clone(),
            public_address: self.stun.public_address,
            sessions: sum.sessions,
            sessions_by_transport: SessionsByTransport {
                tcp_tls: sum.sessions_over_tcp_tls,
                quic: sum.sessions_over_quic,
            },
            active_streams: sum.active_streams,
            active_streams_by_transport: StreamsByTransport {
                tcp_tls: sum.streams_over_tcp_tls,
                quic: sum.streams_over_quic,
            },
            total_streams: sum.total_streams,
            bytes_in: sum.bytes_in,
            bytes_out: sum.bytes_out,
            rtt_ms: sum.rtt_ms,
            queued_bytes: sum.queued.into(),
            listen_ports: open(Protocol::Tcp),
            listen_ports_udp: open(Protocol::Udp),
            ports,
            udp: state.udp.status(sum.active_flows),
            reconnects: uplink.reconnects(),
            resumed: uplink.resumed(),
            held_clients: state.clients.held(),
            rejected: state.clients.refusals.snapshot(),
            memory_budget: (&*state.budget).into(),
            events_dropped: state.events.lost(),
            access_log_lost: state.access.as_ref().map_or(0, Access::lost),
        }
    }
}

impl Stun {
    /// Asks this often from now on; never if the interval is 0 or nobody can be asked.
    fn set(&mut self, interval_secs: u32, can_ask: bool) {
        let interval =
            (interval_secs > 0 && can_ask).then(|| Duration::from_secs(interval_secs.into()));
        if interval != self.interval {
            self.interval = interval;
            self.next = interval.map(|_| Instant::now());
        }
    }

    fn start_if_due(&mut self, state: &EdgeState) {
        if self.next.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.next = self.interval.map(|every| Instant::now() + every);
        let config = state.config();
        let servers = config.stun_servers.iter();
        let servers: Vec<String> = servers.map(ToString::to_string).collect();
        if self.running.is_empty() {
            self.running
                .spawn_local(async move { stun::discover(&servers).await });
        }
    }
}

/// A line for each run of ports, as far as there are few of them.
fn log_ports(what: &str, ports: Vec<PortKey>) {
    let (runs, left_out) = runs(ports);
    for ports in runs {
        tracing::info!(%ports, "{what}");
    }
    if left_out > 0 {
        tracing::info!(ports = left_out, "more {what}");
    }
}

fn is_udp_in_use(state: &PortState) -> bool {
    let code = match state.status {
        PortStatus::Failed { code, .. } => Some(code),
        PortStatus::Bound | PortStatus::Draining => None,
    };
    state.protocol == Protocol::Udp && code == Some(PortFailure::AddressInUse)
}

fn statuses(ports: &[PortState]) -> Vec<port_status::PortStatus> {
    ports.iter().map(port_status::PortStatus::from).collect()
}
