//! The edge's control task: applies what the hub wants, tells it what became of that, and answers for status.

use super::state::{Command, EdgeState, ListenerSocket, Report, WorkerStatus};
use remoteingress_config::error::ErrorCode;
use remoteingress_config::events::{
    Event, Ports, PublicIp, TransportChanged, TunnelConnected, TunnelDisconnected,
};
use remoteingress_config::port_status;
use remoteingress_config::status::{EdgeStatus, StreamsByTransport};
use remoteingress_core::edge::port_table::{
    Change, ListenerId, Port, PortKey, PortState, PortTable, Refused,
};
use remoteingress_os::bind::{BindError, bind_families};
use remoteingress_os::socket_options::tune_stream;
use remoteingress_os::stun;
use remoteingress_os::worker::ask;
use remoteingress_proto::control::{
    Applied, ApplyOutcome, ApplyRefusal, Config, ControlMessage, MAX_PORT_STATES, PortFailure,
    PortState as Reported, PortStatus, RefusalCode,
};
use remoteingress_proto::handshake::{HubEpoch, Transport};
use remoteingress_proto::wire::header::Protocol;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

/// Listener descriptors beyond which a port is opened by one worker only (D1).
const MAX_LISTENERS: usize = 4_096;
/// How often it is looked whether a port that drains has no more streams.
const DRAIN_POLL: Duration = Duration::from_secs(1);

/// See the file's first line.
pub(super) struct Control {
    state: Arc<EdgeState>,
    ports: PortTable,
    applied: Option<(HubEpoch, u64)>,
    /// The generation whose ports were closed because the hub has no such edge any more.
    closed_generation: u64,
    started_workers: usize,
    connected: bool,
    /// Why no session is up, as it was told last.
    outage: Option<ErrorCode>,
    assigned: bool,
    stun_interval: Option<Duration>,
    stun_at: Option<Instant>,
    public_ip: Option<IpAddr>,
    /// What carried new streams, as it was told last.
    transport: Option<Transport>,
    /// Ports that were reported as draining.
    draining: Vec<u16>,
}

impl Control {
    pub(super) fn new(state: Arc<EdgeState>) -> Self {
        Self {
            state,
            ports: PortTable::default(),
            applied: None,
            closed_generation: 0,
            started_workers: 1,
            connected: false,
            outage: None,
            assigned: false,
            stun_interval: None,
            stun_at: None,
            public_ip: None,
            transport: None,
            draining: Vec::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut reports: mpsc::Receiver<Report>,
        mut questions: mpsc::Receiver<oneshot::Sender<EdgeStatus>>,
    ) {
        let mut stun = tokio::task::JoinSet::new();
        loop {
            let is_draining = self.state.draining.load(Ordering::Relaxed);
            let retry = self.ports.next_retry().filter(|_| !is_draining);
            let drained = (!self.draining.is_empty()).then(|| Instant::now() + DRAIN_POLL);
            let timers = [retry, self.stun_at, drained];
            let timer = timers.into_iter().flatten().min();
            let far = Instant::now() + Duration::from_secs(3_600);
            tokio::select! {
                Some(report) = reports.recv() => self.handle(report),
                Some(reply) = questions.recv() => {
                    // Nobody may be waiting any more.
                    let _ = reply.send(self.status().await);
                }
                () = sleep_until(timer.unwrap_or(far).into()) => {
                    if !is_draining {
                        self.retry_ports();
                    }
                    self.check_drained();
                    if self.stun_at.is_some_and(|at| at <= Instant::now()) {
                        self.stun_at = self.stun_interval.map(|every| Instant::now() + every);
                        let servers: Vec<String> =
                            self.state.config.stun_servers.iter().map(ToString::to_string).collect();
                        if stun.is_empty() {
                            stun.spawn_local(async move { stun::discover(&servers).await });
                        }
                    }
                }
                Some(found) = stun.join_next() => {
                    if let Ok(Some(address)) = found {
                        self.handle(Report::PublicAddress(address));
                    }
                }
            }
        }
    }

    fn handle(&mut self, report: Report) {
        match report {
            Report::SessionUp {
                hub,
                transport,
                resumed,
                max_sessions,
            } => {
                self.start_workers(max_sessions.into());
                // A session that only finishes its streams may come back over the other one.
                let is_chosen = self.state.transport() == transport;
                let before = if is_chosen {
                    self.transport.replace(transport)
                } else {
                    None
                };
                if before.is_some_and(|before| before != transport) {
                    let reason = self.state.choice.borrow().reason.clone();
                    self.tell(Event::TransportChanged(TransportChanged {
                        transport: transport.into(),
                        reason: reason.unwrap_or_default(),
                    }));
                }
                if !self.connected {
                    self.connected = true;
                    self.outage = None;
                    self.tell(Event::TunnelConnected(TunnelConnected {
                        hub_address: hub,
                        transport: transport.into(),
                        resumed,
                    }));
                }
                if let Some(address) = self.public_ip {
                    self.to_hub(&ControlMessage::PublicAddress(address));
                }
            }
            Report::SessionDown { error } => {
                // An outage is told once, and again when its cause is another one.
                let is_news = self.connected || self.outage != Some(error.code);
                let is_draining = self.state.draining.load(Ordering::Relaxed);
                if *self.state.live.borrow() == 0 && is_news && !is_draining {
                    self.connected = false;
                    self.outage = Some(error.code);
                    self.tell(Event::TunnelDisconnected(TunnelDisconnected {
                        reason: error.message,
                        code: error.code,
                    }));
                    if error.code == ErrorCode::AuthFailed {
                        self.close_all();
                    }
                }
            }
            Report::Control {
                ordinal,
                message: ControlMessage::Config(config),
            } => {
                self.apply(ordinal, &config);
            }
            // Only hubs are told these.
            Report::Control {
                message: ControlMessage::Applied(_),
                ..
            }
            | Report::Control {
                message: ControlMessage::PublicAddress(_),
                ..
            } => {}
            Report::PublicAddress(address) => {
                if self.public_ip.replace(address) != Some(address) {
                    self.tell(Event::PublicIpDiscovered(PublicIp { public_ip: address }));
                    self.to_hub(&ControlMessage::PublicAddress(address));
                }
            }
        }
    }

    /// As many workers get a session as the hub allows.
    fn start_workers(&mut self, max_sessions: usize) {
        let wanted = max_sessions.min(self.state.gauges.len());
        for ordinal in self.started_workers..wanted {
            if let Some(worker) = self.state.worker(ordinal) {
                // A worker that has ended is of no use.
                let _ = worker.send(Command::Connect);
            }
        }
        self.started_workers = self.started_workers.max(wanted);
    }

    fn apply(&mut self, ordinal: usize, config: &Config) {
        let (epoch, generation) = (config.epoch, config.generation);
        let is_old = self
            .applied
            .is_some_and(|(at, last)| at == epoch && generation < last);
        if is_old || self.state.draining.load(Ordering::Relaxed) {
            return;
        }
        let is_known = self.applied == Some((epoch, generation));
        if !is_known {
            let changes = match self.ports.apply(config) {
                Ok(changes) => changes,
                Err(refused) => {
                    let message = refusal(generation, refused);
                    tracing::warn!(generation, error = %message, "refused a configuration of the hub");
                    let code = RefusalCode::InvalidConfig;
                    let outcome = ApplyOutcome::Refused(ApplyRefusal { code, message });
                    self.reply(
                        ordinal,
                        Applied {
                            epoch,
                            generation,
                            outcome,
                        },
                    );
                    return;
                }
            };
            self.applied = Some((epoch, generation));
            for change in changes {
                self.carry_out(change);
            }
            let most = usize::try_from(config.max_streams).unwrap_or(usize::MAX);
            self.state.max_streams.store(most, Ordering::Relaxed);
            self.set_stun(config.stun_interval_secs);
            let event = if self.assigned {
                Event::PortsUpdated
            } else {
                Event::PortsAssigned
            };
            self.assigned = true;
            self.announce(event, generation);
        }
        self.draining = self.draining_ports();
        let outcome = ApplyOutcome::Applied(self.report());
        self.reply(
            ordinal,
            Applied {
                epoch,
                generation,
                outcome,
            },
        );
    }

    /// The hub has no such edge any more: clients are better refused than held.
    fn close_all(&mut self) {
        let Some((_, generation)) = self.applied.take() else {
            return;
        };
        self.closed_generation = generation;
        for change in self.ports.clear() {
            self.carry_out(change);
        }
        self.draining = self.draining_ports();
        self.announce(Event::PortsUpdated, generation);
    }

    fn set_stun(&mut self, secs: u32) {
        let interval = (secs > 0 && !self.state.config.stun_servers.is_empty())
            .then(|| Duration::from_secs(secs.into()));
        if interval != self.stun_interval {
            self.stun_interval = interval;
            self.stun_at = interval.map(|_| Instant::now());
        }
    }

    fn carry_out(&mut self, change: Change) {
        match change {
            Change::Bind {
                key,
                bind_address,
                replaces,
            } => match self.bind(key, bind_address, replaces.is_some()) {
                Ok(listeners) => {
                    self.open(key, listeners);
                    if let Some(id) = replaces {
                        self.close(id);
                    }
                }
                Err((code, message)) => {
                    let reason = code.as_str();
                    let (protocol, port) = (key.protocol.as_str(), key.port);
                    tracing::warn!(protocol, port, reason, error = %message, "failed to open a port");
                    self.ports.failed(Instant::now(), key, code, message);
                }
            },
            Change::Close { key, listener } => {
                let protocol = key.protocol.as_str();
                tracing::info!(protocol, port = key.port, "port closed");
                self.close(listener);
            }
        }
    }

    fn close(&self, id: ListenerId) {
        for worker in self.state.workers.get().into_iter().flatten() {
            // A worker that has ended has no listener.
            let _ = worker.send(Command::RemoveListener { id });
        }
    }

    /// Listeners of a port: per address family as many as there are workers, or one.
    fn bind(
        &self,
        key: PortKey,
        bind_address: Option<IpAddr>,
        replaces_own: bool,
    ) -> Result<Vec<Vec<ListenerSocket>>, (PortFailure, String)> {
        let config = &self.state.config;
        let PortKey { protocol, port } = key;
        let is_allowed = match protocol {
            Protocol::Tcp => config.allowed_ports.tcp.contains(port),
            Protocol::Udp => config.allowed_ports.udp.contains(port),
        };
        if !is_allowed {
            let protocol = protocol.as_str();
            let message = format!("{protocol} port {port} is not among the edge's allowedPorts");
            return Err((PortFailure::NotAllowed, message));
        }
        let workers = self.state.gauges.len();
        let all_workers = (self.ports.bound_count() + 1) * 2 * workers <= MAX_LISTENERS;
        let copies = if all_workers { workers } else { 1 };
        let ip = bind_address.or(config.bind_address);
        let probe = !replaces_own;
        match protocol {
            Protocol::Tcp => {
                let families = bind_families::<TcpListener>(ip, port, copies, probe);
                let families = families.map_err(|error| failure(&error))?;
                for listener in families.iter().flatten() {
                    // Accepted sockets inherit these; without them a part of a transfer could look like all of it.
                    tune_stream(listener).map_err(|error| {
                        let message = format!("failed to set the options of port {port}: {error}");
                        (PortFailure::BindFailed, message)
                    })?;
                }
                Ok(wrap(families, ListenerSocket::Tcp))
            }
            Protocol::Udp => {
                let families = bind_families::<UdpSocket>(ip, port, copies, probe);
                let families = families.map_err(|error| failure(&error))?;
                Ok(wrap(families, ListenerSocket::Udp))
            }
        }
    }

    fn open(&mut self, key: PortKey, families: Vec<Vec<ListenerSocket>>) {
        let PortKey { protocol, port } = key;
        let workers = self.state.gauges.len();
        let base = self.ports.bound(key).0;
        for listeners in families {
            let is_everywhere = listeners.len() == workers;
            for (copy, listener) in listeners.into_iter().enumerate() {
                let ordinal = if is_everywhere {
                    copy
                } else {
                    usize::from(port) % workers
                };
                let id = ListenerId(base);
                if let Some(worker) = self.state.worker(ordinal) {
                    // A worker that has ended listens no more.
                    let _ = worker.send(Command::AddListener { id, port, listener });
                }
            }
        }
        tracing::info!(protocol = protocol.as_str(), port, "port open");
    }

    fn retry_ports(&mut self) {
        let due = self.ports.due(Instant::now());
        if due.is_empty() {
            return;
        }
        let before = self.ports.bound_count();
        for change in due {
            self.carry_out(change);
        }
        if let (Some((epoch, generation)), true) = (self.applied, self.ports.bound_count() > before)
        {
            self.tell_hub(epoch, generation);
        }
    }

    /// Something has changed without a new generation.
    fn tell_hub(&self, epoch: HubEpoch, generation: u64) {
        self.announce(Event::PortsUpdated, generation);
        let outcome = ApplyOutcome::Applied(self.report());
        self.to_hub(&ControlMessage::Applied(Applied {
            epoch,
            generation,
            outcome,
        }));
    }

    /// A port whose last stream has ended is no longer reported.
    fn check_drained(&mut self) {
        let draining = self.draining_ports();
        if draining != self.draining {
            self.draining = draining;
            match self.applied {
                Some((epoch, generation)) => self.tell_hub(epoch, generation),
                None => self.announce(Event::PortsUpdated, self.closed_generation),
            }
        }
    }

    /// Ports that only finish their streams. A UDP port ends with its flows, since none can tell that it has ended.
    fn draining_ports(&self) -> Vec<u16> {
        let admission = self.state.admission();
        let ports = admission.ports();
        let tcp = |port| PortKey {
            protocol: Protocol::Tcp,
            port,
        };
        let mut ports: Vec<u16> = ports
            .filter(|port| !self.ports.contains(tcp(*port)))
            .collect();
        ports.sort_unstable();
        ports
    }

    fn reply(&self, ordinal: usize, applied: Applied) {
        self.send(ordinal, &ControlMessage::Applied(applied));
    }

    fn to_hub(&self, message: &ControlMessage) {
        if let Some(ordinal) = self.state.lowest_live() {
            self.send(ordinal, message);
        }
    }

    fn send(&self, ordinal: usize, message: &ControlMessage) {
        match message.encode() {
            Ok(frames) => {
                if let Some(worker) = self.state.worker(ordinal) {
                    // A worker that has ended has no session.
                    let _ = worker.send(Command::Control(frames));
                }
            }
            Err(error) => tracing::error!(%error, "failed to encode a control message"),
        }
    }

    /// Every port's state, those that only finish their streams behind the others.
    fn report(&self) -> Vec<Reported> {
        let state = |(key, port): (PortKey, &Port)| Reported {
            protocol: key.protocol,
            port: key.port,
            status: match &port.state {
                PortState::Bound(_) => PortStatus::Bound,
                PortState::Failed { code, message, .. } => PortStatus::Failed {
                    code: *code,
                    message: message.clone(),
                },
                PortState::Wanted => PortStatus::Failed {
                    code: PortFailure::BindFailed,
                    message: "not tried yet".to_owned(),
                },
            },
        };
        let mut states: Vec<Reported> = self.ports.iter().map(state).collect();
        let draining = self.draining_ports();
        let room = MAX_PORT_STATES - states.len();
        states.extend(draining.into_iter().take(room).map(|port| Reported {
            protocol: Protocol::Tcp,
            port,
            status: PortStatus::Draining,
        }));
        states
    }

    fn announce(&self, event: fn(Ports) -> Event, generation: u64) {
        let ports = self
            .report()
            .iter()
            .map(port_status::PortStatus::from)
            .collect();
        self.tell(event(Ports { generation, ports }));
    }

    fn tell(&self, event: Event) {
        self.state.events.emit(&event);
    }

    async fn status(&self) -> EdgeStatus {
        let state = &self.state;
        let mut sum = WorkerStatus::default();
        for worker in state.workers.get().into_iter().flatten() {
            let Some(part) = ask(worker, Command::Status).await else {
                continue;
            };
            sum.sessions += part.sessions;
            sum.active_streams += part.active_streams;
            sum.total_streams += part.total_streams;
            sum.bytes_in += part.bytes_in;
            sum.bytes_out += part.bytes_out;
            sum.rtt_ms = sum.rtt_ms.or(part.rtt_ms);
            sum.transport = sum.transport.or(part.transport);
            sum.streams_over_tcp_tls += part.streams_over_tcp_tls;
            sum.streams_over_quic += part.streams_over_quic;
            sum.active_flows += part.active_flows;
        }
        let bound = |protocol: Protocol| -> Vec<u16> {
            let ports = self.ports.iter();
            let bound =
                ports.filter(|(key, port)| key.protocol == protocol && port.listener().is_some());
            bound.map(|(key, _)| key.port).collect()
        };
        EdgeStatus {
            running: true,
            connected: *state.live.borrow() > 0,
            transport: sum.transport.map(Into::into),
            transport_reason: state.choice.borrow().reason.clone(),
            public_ip: self.public_ip,
            sessions: sum.sessions,
            active_streams: sum.active_streams,
            active_streams_by_transport: StreamsByTransport {
                tcp_tls: sum.streams_over_tcp_tls,
                quic: sum.streams_over_quic,
            },
            total_streams: sum.total_streams,
            bytes_in: sum.bytes_in,
            bytes_out: sum.bytes_out,
            rtt_ms: sum.rtt_ms,
            listen_ports: bound(Protocol::Tcp),
            listen_ports_udp: bound(Protocol::Udp),
            ports: self
                .report()
                .iter()
                .map(port_status::PortStatus::from)
                .collect(),
            udp: state.udp.status(sum.active_flows),
            reconnects: state.reconnects.load(Ordering::Relaxed),
            resumed: state.resumed.load(Ordering::Relaxed),
            held_clients: state.held.load(Ordering::Relaxed),
            rejected: state.refusals.snapshot(),
            events_dropped: state.events.lost(),
        }
    }
}

/// Why a generation is refused whole, in words.
fn refusal(generation: u64, refused: Refused) -> String {
    let Refused::Overlap(PortKey { protocol, port }) = refused;
    let protocol = protocol.as_str();
    format!("generation {generation} has {protocol} port {port} twice")
}

fn failure(error: &BindError) -> (PortFailure, String) {
    let code = if error.code() == ErrorCode::AddressInUse {
        PortFailure::AddressInUse
    } else if error.code() == ErrorCode::PermissionDenied {
        PortFailure::PermissionDenied
    } else {
        PortFailure::BindFailed
    };
    (code, error.to_string())
}

fn wrap<L>(families: Vec<Vec<L>>, socket: fn(L) -> ListenerSocket) -> Vec<Vec<ListenerSocket>> {
    let families = families.into_iter();
    families
        .map(|copies| copies.into_iter().map(socket).collect())
        .collect()
}
