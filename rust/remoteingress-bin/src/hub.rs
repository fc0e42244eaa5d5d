//! The hub engine: accepts edges, tells them their ports, and carries their streams to targets.

mod calling;
pub(crate) mod certificate;
mod context;
mod edge_keys;
mod entrance;
mod flows;
mod session;
mod state;
mod streams;
mod target;
mod warnings;
mod worker;

use crate::logging;
use crate::reload::log_reload;
use crate::tunnel_port::TunnelPort;
use certificate::{Certificate, identity};
use remoteingress_config::commands::EdgesRemoved;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::port_status::PortStatus;
use remoteingress_config::status::{ConnectedEdge, HubStatus, StreamsByTransport};
use remoteingress_config::{AllowedEdge, AllowedEdgesChange, HubConfig, reload_hub};
use remoteingress_core::hub::flow_sockets::FlowSockets;
use remoteingress_core::hub::registry::{ConnectedEdge as Connected, Registry};
use remoteingress_observe::events::Events;
use remoteingress_os::process_options::{ephemeral_ports, raise_descriptor_limit};
use remoteingress_os::worker::{Worker, ask, ask_all, drain, stop_all, tell_all};
use remoteingress_proto::handshake::{HubEpoch, Transport};
use remoteingress_proto::mux::Role;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::pin::Pin;
use remoteingress_proto::token::{Access, ConnectionToken, ListenTunnel};
use remoteingress_tunnel::entrance::quic::{QuicSockets, share};
use remoteingress_tunnel::transport::quic::config::ServerQuic;
use remoteingress_tunnel::transport::tls::ServerTls;
use state::{Command, HubState, SessionStatus};
use std::collections::HashMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;
use tokio::sync::oneshot;

/// Lines of warnings about one list of edges, which may have many thousands.
const MAX_WARNINGS: usize = 10;

/// A running hub.
pub(crate) struct Hub {
    state: Arc<HubState>,
    workers: Vec<Worker<Command>>,
    /// Of a hub that listens.
    acceptor: Option<Worker<oneshot::Sender<()>>>,
    tunnel_port: u16,
    certificate: Rc<Certificate>,
}

/// Where an edge that dials reaches the hub.
#[derive(Clone, Copy)]
pub(crate) struct HubPlace<'a> {
    /// Host and port, if they were given.
    pub(crate) address: Option<(&'a str, u16)>,
    /// The name of the host where it was asked for: a field or an option.
    pub(crate) field: &'static str,
    /// The hub has a tunnel port.
    pub(crate) listens: bool,
}

/// The connection token of an edge.
pub(crate) fn token(
    allowed: &AllowedEdge,
    pin: Option<Pin>,
    hub: HubPlace<'_>,
) -> Result<String, CodedError> {
    let HubPlace {
        address,
        field,
        listens,
    } = hub;
    let access = match (&allowed.dial, address) {
        (Some(dial), None) => Access::Listen(ListenTunnel {
            port: dial.port,
            bind_address: None,
        }),
        (Some(_), Some(_)) => {
            let problem = "is for an edge that dials; this hub dials the edge, so leave it out";
            return Err(CodedError::invalid_config(field, problem));
        }
        (None, _) if !listens => {
            let problem =
                "is false, so no edge reaches this hub: give the edge a dial, and the hub dials it";
            return Err(CodedError::invalid_config("listen", problem));
        }
        (None, None) => {
            let problem = "is missing: the edge needs to know where it reaches this hub";
            return Err(CodedError::invalid_config(field, problem));
        }
        (None, Some((hub_host, hub_port))) => Access::Dial {
            hub_host: Host::new(hub_host)
                .map_err(|error| CodedError::invalid_config(field, error))?,
            hub_port,
            hub_pins: pin.into_iter().collect(),
        },
    };
    let token = ConnectionToken {
        access,
        edge_id: allowed.id.clone(),
        secret: allowed.secret.clone(),
        extra: serde_json::Map::new(),
    };
    Ok(token.encode()?)
}

impl Hub {
    /// Binds the tunnel port, starts workers and admits edges.
    pub(crate) fn start(mut config: HubConfig, events: Events) -> Result<Self, CodedError> {
        logging::prefer(config.log_format);
        warn_of(&config.edges, config.listens);
        let internal = |error: std::io::Error| {
            CodedError::new(ErrorCode::Internal, format!("failed to start: {error}"))
        };
        let descriptors = raise_descriptor_limit().map_err(internal)?;
        let (identity, pin) = identity(&config)?;
        let certificate = Certificate::new(&config, &identity, pin)?;
        let tls = ServerTls::showing(certificate.shown())
            .map_err(|error| CodedError::new(ErrorCode::Tls, format!("TLS: {error}")))?;
        let controller = config.engine.congestion_controller;
        let quic = ServerQuic::new(
            &tls,
            identity.key.secret_der(),
            Role::Hub,
            controller,
            config.engine.keepalive,
        )
        .map_err(|error| CodedError::new(ErrorCode::Tls, format!("QUIC: {error}")))?;
        let workers = config.engine.workers;
        let fields = "tunnelPort or bindAddress";
        let port = if config.listens {
            TunnelPort::bind(config.bind_address, config.tunnel_port, workers, fields)?
        } else {
            TunnelPort::default()
        };
        let tunnel_port = port.number().map_err(internal)?;
        let TunnelPort { listeners, groups } = port;
        let edges = std::mem::take(&mut config.edges);
        let max_streams = config.limits.max_streams_per_edge.get().unwrap_or(0);
        let epoch = HubEpoch(remoteingress_os::random::bytes());
        let mut registry = Registry::new(epoch, config.max_sessions_per_edge, max_streams);
        registry.udp_idle = Some(config.engine.udp_idle_timeout);
        let flow_sockets = FlowSockets::new(descriptors, ephemeral_ports(), workers);
        let state = HubState::new(config, epoch, registry, events, flow_sockets);
        if !edges.is_empty() {
            state.registry().update(edges);
        }
        let start = |(ordinal, sockets): (usize, QuicSockets)| {
            let state = state.clone();
            Worker::start(&format!("hub-{ordinal}"), move |commands| {
                worker::run(state, ordinal, sockets, commands)
            })
        };
        let count = state.gauges.len();
        let workers = share(groups, count, &quic)
            .into_iter()
            .enumerate()
            .map(start)
            .collect::<Result<Vec<_>, _>>()
            .map_err(internal)?;
        let senders = workers
            .iter()
            .map(|worker| worker.commands.clone())
            .collect();
        // Set once, here.
        let _ = state.workers.set(senders);
        let accept = || {
            let state = state.clone();
            Worker::start("acceptor", move |stop| {
                crate::acceptor::run(state, tls, listeners, HubState::take_in, stop)
            })
        };
        let listens = state.config().listens;
        let acceptor = listens.then(accept).transpose().map_err(internal)?;
        certificate.follow();
        calling::call_all(&state);
        tracing::info!(tunnel_port, workers = count, "hub is up");
        Ok(Self {
            state,
            workers,
            acceptor,
            tunnel_port,
            certificate,
        })
    }

    /// The port that edges dial; 0 where they don't.
    pub(crate) fn tunnel_port(&self) -> u16 {
        self.tunnel_port
    }

    /// The pin that tokens carry.
    pub(crate) fn pin(&self) -> Option<Pin> {
        self.certificate.pin()
    }

    /// Takes over the whole set of edges.
    pub(crate) fn update_edges(&self, edges: Vec<AllowedEdge>) -> AllowedEdgesChange {
        warn_of(&edges, self.state.config().listens);
        let change = self.state.change(|registry| registry.update(edges));
        calling::call_all(&self.state);
        change
    }

    /// Puts a configuration that was read again in force, its edges included, as far as it doesn't need a restart.
    pub(crate) fn reload(&self, mut config: HubConfig) -> AllowedEdgesChange {
        let edges = std::mem::take(&mut config.edges);
        let reloaded = reload_hub(&self.state.config(), config);
        logging::prefer(reloaded.config.log_format);
        log_reload(&reloaded);
        self.state.set_config(reloaded.config);
        self.certificate.look();
        self.update_edges(edges)
    }

    /// Adds these edges, or replaces those of the same id.
    pub(crate) fn upsert_edges(&self, edges: Vec<AllowedEdge>) -> AllowedEdgesChange {
        warn_of(&edges, self.state.config().listens);
        let change = self.state.change(|registry| registry.upsert(edges));
        calling::call_all(&self.state);
        change
    }

    /// Removes these edges.
    pub(crate) fn remove_edges(&self, ids: Vec<EdgeId>) -> EdgesRemoved {
        let removed = self.state.change(|registry| registry.remove(ids));
        calling::call_all(&self.state);
        removed
    }

    /// See `allowSpecialTargets`.
    pub(crate) fn allows_special_targets(&self) -> bool {
        self.state.config().allow_special_targets
    }

    /// The token of an edge that this hub knows.
    pub(crate) fn token(
        &self,
        edge: &EdgeId,
        hub_host: Option<&str>,
        hub_port: Option<u16>,
    ) -> Result<String, CodedError> {
        let allowed = self.state.registry().allowed(edge).ok_or_else(|| {
            let message = format!("there is no edge {edge}; give it to updateAllowedEdges first");
            CodedError::new(ErrorCode::UnknownEdge, message)
        })?;
        let port = hub_port.unwrap_or(self.tunnel_port);
        let hub = HubPlace {
            address: hub_host.map(|host| (host, port)),
            field: "hubHost",
            listens: self.state.config().listens,
        };
        token(&allowed, self.certificate.pin(), hub)
    }

    /// The hub's status now.
    pub(crate) async fn status(&self) -> HubStatus {
        let mut sessions: HashMap<EdgeId, Vec<SessionStatus>> = HashMap::new();
        for worker in &self.workers {
            for status in ask(&worker.commands, Command::Status)
                .await
                .unwrap_or_default()
            {
                sessions
                    .entry(status.edge.clone())
                    .or_default()
                    .push(status);
            }
        }
        let registry = self.state.registry();
        let connected_edges = registry
            .connected()
            .map(|edge| {
                let own = sessions.get(edge.id).map(Vec::as_slice).unwrap_or_default();
                edge_status(&edge, own)
            })
            .collect();
        HubStatus {
            running: true,
            tunnel_port: self.tunnel_port,
            hub_pin: self.certificate.pin(),
            connected_edges,
            unreachable_edges: calling::unreachable(&self.state),
            rejected: self.state.refusals.snapshot(),
            events_dropped: self.state.events.lost(),
        }
    }

    /// Admits no new streams, waits for the others up to the drain timeout, resets the rest, and ends.
    /// Sessions can be resumed meanwhile, unless `orphaned` resolves: then the tunnel port is a successor's.
    pub(crate) async fn stop(
        self,
        cut: impl Future<Output = ()>,
        orphaned: impl Future<Output = ()>,
    ) {
        let state = &self.state;
        let mut acceptor: Vec<_> = self.acceptor.into_iter().collect();
        let drain_timeout = state.config().engine.drain_timeout;
        state.registry().draining = true;
        calling::end_all(state);
        tell_all(&self.workers, || Command::Drain);
        let is_idle = || state.streams.load(Ordering::Relaxed) == 0;
        tracing::info!(
            streams = state.streams.load(Ordering::Relaxed),
            drain_timeout_secs = drain_timeout.as_secs(),
            "hub drains"
        );
        let mut drained = pin!(drain(is_idle, drain_timeout, cut));
        let is_orphan = tokio::select! {
            () = &mut drained => false,
            () = orphaned => true,
        };
        if is_orphan {
            stop_all(std::mem::take(&mut acceptor), |done| done).await;
            ask_all(&self.workers, Command::ReleasePort).await;
            drained.await;
        }
        tell_all(&self.workers, || Command::EndStreams);
        stop_all(acceptor, |done| done).await;
        stop_all(self.workers, Command::Stop).await;
        tracing::info!("hub has stopped");
    }
}

/// Warns of what is accepted of the edges but shouldn't stay, in a bounded number of lines.
fn warn_of(edges: &[AllowedEdge], hub_listens: bool) {
    let mut warnings = edges.iter().flat_map(|edge| edge.warnings(hub_listens));
    for warning in warnings.by_ref().take(MAX_WARNINGS) {
        tracing::warn!("{warning}");
    }
    let more = warnings.count();
    if more > 0 {
        tracing::warn!(more, "further edges give reason to the same warnings");
    }
}

/// The status of an edge whose own sessions are `own`.
fn edge_status(edge: &Connected<'_>, own: &[SessionStatus]) -> ConnectedEdge {
    let connected_at = edge
        .connected_at
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let sum = |count: fn(&SessionStatus) -> u64| own.iter().map(count).sum::<u64>();
    ConnectedEdge {
        edge_id: edge.id.clone(),
        remote_address: edge.address,
        transport: edge.transport.into(),
        connected_at: u64::try_from(connected_at.as_millis()).unwrap_or(u64::MAX),
        sessions: edge.sessions,
        active_streams: own.iter().map(|session| session.active_streams).sum(),
        active_streams_by_transport: StreamsByTransport {
            tcp_tls: streams_over(own, Transport::TcpTls),
            quic: streams_over(own, Transport::Quic),
        },
        total_streams: edge.ended.streams + sum(|session| session.total_streams),
        bytes_in: edge.ended.received + sum(|session| session.bytes_in),
        bytes_out: edge.ended.sent + sum(|session| session.bytes_out),
        rtt_ms: own.iter().find_map(|session| session.rtt_ms),
        public_address: edge.public_address,
        version: edge.version.to_owned(),
        dialled_by: edge.dialled_by,
        proxy: edge.proxy.map(ToString::to_string),
        ports: edge.ports.iter().map(PortStatus::from).collect(),
        udp: edge.counters.udp.status(edge.counters.flows.get()),
    }
}

fn streams_over(sessions: &[SessionStatus], transport: Transport) -> usize {
    let own = sessions
        .iter()
        .filter(|session| session.transport == transport);
    own.map(|session| session.active_streams).sum()
}
