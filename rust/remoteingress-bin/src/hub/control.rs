//! What is asked of a hub while it runs or drains: its status, and changes of its edges.

mod pools;

use super::calling;
use super::certificate::Certificate;
use super::enrolment::{HubPlace, token};
use super::pools::sources::SourceOrders;
use super::state::{Command, HubState, SessionStatus};
use crate::access::Access;
use crate::listing::list;
use crate::logging;
use crate::reload::log_reload;
use pools::PoolsControl;
use remoteingress_config::commands::EdgesRemoved;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::name::Name;
use remoteingress_config::overview::{AllowedEdgeShown, EdgeShown, Origin};
use remoteingress_config::port_status::PortStatus;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_config::shown::HubShown;
use remoteingress_config::status::{
    ConnectedEdge, HubStatus, SessionsByTransport, StreamsByTransport, UnreachableEdge,
};
use remoteingress_config::streams::{StreamList, StreamsParams};
use remoteingress_config::{
    AllowedEdge, AllowedEdgesChange, HubConfig, check_pools_of, reload_hub,
};
use remoteingress_core::hub::registry::ConnectedEdge as Connected;
use remoteingress_observe::clock::unix_millis;
use remoteingress_observe::histogram::Counts;
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_os::worker::ask;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::Queued;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::pin::Pin;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Lines of warnings about one list of edges, which may have many thousands.
const MAX_WARNINGS: usize = 10;

/// A hub as those see it who ask and change it. Clones are the same hub.
#[derive(Clone)]
pub(crate) struct HubControl {
    state: Arc<HubState>,
    tunnel_port: u16,
    certificate: Rc<Certificate>,
    pools: PoolsControl,
    started_at: SystemTime,
}

impl HubControl {
    pub(super) fn new(
        state: Arc<HubState>,
        tunnel_port: u16,
        certificate: Rc<Certificate>,
        sources: SourceOrders,
    ) -> Self {
        let pools = PoolsControl::new(state.clone(), sources);
        Self {
            state,
            tunnel_port,
            certificate,
            pools,
            started_at: SystemTime::now(),
        }
    }

    pub(super) fn state(&self) -> &Arc<HubState> {
        &self.state
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
    ///
    /// # Errors
    /// A port names a pool that isn't there; nothing has changed.
    pub(crate) fn update_edges(
        &self,
        edges: Vec<AllowedEdge>,
    ) -> Result<AllowedEdgesChange, CodedError> {
        self.check_pools(&edges)?;
        Ok(self.take_edges(edges))
    }

    /// Refuses edges of which a port names a pool that isn't there.
    pub(crate) fn check_pools(&self, edges: &[AllowedEdge]) -> Result<(), CodedError> {
        let config = self.state.config();
        check_pools_of(edges, &config.pools, config.routing_db.is_some())
    }

    fn take_edges(&self, edges: Vec<AllowedEdge>) -> AllowedEdgesChange {
        warn_of(&edges, self.state.config().listens);
        let change = self.state.change(|registry| registry.update(edges));
        self.follow_edges();
        change
    }

    /// What follows from a change of the edges.
    fn follow_edges(&self) {
        calling::call_all(&self.state);
        self.state.follow_named_pools();
    }

    /// Puts a configuration that was read again in force, its edges included, as far as it doesn't need a restart.
    pub(crate) fn reload(&self, mut config: HubConfig) -> AllowedEdgesChange {
        let edges = std::mem::take(&mut config.edges);
        let reloaded = reload_hub(&self.state.config(), config);
        logging::prefer(reloaded.config.log_format);
        log_reload(&reloaded);
        self.state.set_config(reloaded.config);
        // Ahead of the edges, whose ports name them.
        self.pools.reload();
        self.certificate.look();
        self.take_edges(edges)
    }

    /// Its pools.
    pub(crate) fn pools(&self) -> &PoolsControl {
        &self.pools
    }

    /// Adds these edges, or replaces those of the same id.
    ///
    /// # Errors
    /// A port names a pool that isn't there; nothing has changed.
    pub(crate) fn upsert_edges(
        &self,
        edges: Vec<AllowedEdge>,
    ) -> Result<AllowedEdgesChange, CodedError> {
        self.check_pools(&edges)?;
        warn_of(&edges, self.state.config().listens);
        let change = self.state.change(|registry| registry.upsert(edges));
        self.follow_edges();
        Ok(change)
    }

    /// Removes these edges.
    pub(crate) fn remove_edges(&self, ids: Vec<EdgeId>) -> EdgesRemoved {
        let removed = self.state.change(|registry| registry.remove(ids));
        self.follow_edges();
        removed
    }

    /// Edges can come and be served.
    pub(crate) fn is_ready(&self) -> bool {
        let registry = self.state.registry();
        registry.is_told && !registry.draining
    }

    /// Counts a connection of the admin server that was refused.
    pub(crate) fn admin_refusals(&self) -> impl Fn(Option<IpAddr>) + Send + Sync + 'static {
        let state = self.state.clone();
        let reason = HubRefusalReason::AdminConnections;
        move |address| state.refusals.count_from(reason, address)
    }

    /// The allowed edges and their state, by id: all, or the one of this id.
    pub(crate) async fn edges(
        &self,
        id: Option<&str>,
        origin: impl Fn(&AllowedEdge) -> Origin,
    ) -> Vec<EdgeShown> {
        let status = self.status().await;
        let by_id = |edge: ConnectedEdge| (edge.edge_id.clone(), edge);
        let mut connected: HashMap<_, _> = status.connected_edges.into_iter().map(by_id).collect();
        let by_id = |edge: UnreachableEdge| (edge.edge_id.clone(), edge);
        let mut unreachable: HashMap<_, _> =
            status.unreachable_edges.into_iter().map(by_id).collect();
        let registry = self.state.registry();
        let wanted = registry
            .all()
            .filter(|edge| id.is_none_or(|id| edge.id.as_str() == id));
        let shown = wanted.map(|allowed| EdgeShown {
            id: allowed.id.clone(),
            config: AllowedEdgeShown::from(&**allowed),
            origin: origin(allowed),
            connected: connected.remove(&allowed.id),
            unreachable: unreachable.remove(&allowed.id),
        });
        let mut shown: Vec<EdgeShown> = shown.collect();
        shown.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        shown
    }

    /// Ids of the allowed edges, in order.
    pub(crate) fn edge_ids(&self) -> Vec<EdgeId> {
        let mut ids: Vec<EdgeId> = {
            let registry = self.state.registry();
            registry.all().map(|edge| edge.id.clone()).collect()
        };
        ids.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        ids
    }

    /// Where the time of its streams goes.
    pub(crate) fn times(&self) -> &StreamTimes {
        &self.state.times
    }

    /// Connect times of the targets of each pool, while streams are timed.
    pub(crate) fn pool_connects(&self) -> Vec<(Name, Counts)> {
        self.state.pools.connects()
    }

    /// Pools that ports name and that aren't there.
    pub(crate) fn missing_pools(&self) -> Vec<Name> {
        self.state.pools.missing()
    }

    /// Time of its start.
    pub(crate) fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> HubShown {
        let registry = self.state.registry();
        let mut edges: Vec<&AllowedEdge> = registry.all().map(|edge| &**edge).collect();
        edges.sort_by(|one, other| one.id.cmp(&other.id));
        HubShown::new(&self.state.config(), edges.into_iter())
    }

    /// An edge as it is allowed now.
    pub(crate) fn allowed(&self, id: &EdgeId) -> Option<Arc<AllowedEdge>> {
        self.state.registry().allowed(id)
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

    /// Opens the access log anew, if there is one.
    pub(crate) fn reopen_log(&self) {
        if let Some(access) = &self.state.access {
            access.reopen();
        }
    }

    /// The streams and flows that are open now.
    pub(crate) async fn streams(&self, params: &StreamsParams) -> StreamList {
        list(self.state.workers(), params, Command::Streams).await
    }

    /// The hub's status now.
    pub(crate) async fn status(&self) -> HubStatus {
        let mut sessions: HashMap<EdgeId, Vec<SessionStatus>> = HashMap::new();
        for worker in self.state.workers() {
            for status in ask(worker, Command::Status).await.unwrap_or_default() {
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
            draining: registry.draining,
            tunnel_port: self.tunnel_port,
            hub_pin: self.certificate.pin(),
            connected_edges,
            unreachable_edges: calling::unreachable(&self.state),
            pools: self.state.pools.status(),
            bindings: self.state.pools.bindings.len() as u64,
            routing_db: self.state.pools.routing_db(),
            geo: self.state.pools.geo(),
            rejected: self.state.rejected(),
            memory_budget: (&*self.state.budget).into(),
            events_dropped: self.state.events.lost(),
            access_log_lost: self.state.access.as_ref().map_or(0, Access::lost),
        }
    }
}

/// Warns of what is accepted of the edges but shouldn't stay, in a bounded number of lines.
pub(super) fn warn_of(edges: &[AllowedEdge], hub_listens: bool) {
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
    let sum = |count: fn(&SessionStatus) -> u64| own.iter().map(count).sum::<u64>();
    let mut queued = Queued::default();
    for session in own {
        queued.add(&session.queued);
    }
    let ports = edge.ports.iter().map(PortStatus::from);
    ConnectedEdge {
        edge_id: edge.id.clone(),
        remote_address: edge.address,
        draining: edge.is_leaving,
        transport: edge.transport.into(),
        connected_at: unix_millis(edge.connected_at),
        sessions: edge.sessions,
        sessions_by_transport: SessionsByTransport {
            tcp_tls: sessions_over(own, Transport::TcpTls),
            quic: sessions_over(own, Transport::Quic),
        },
        active_streams: own.iter().map(|session| session.active_streams).sum(),
        active_streams_by_transport: StreamsByTransport {
            tcp_tls: streams_over(own, Transport::TcpTls),
            quic: streams_over(own, Transport::Quic),
        },
        total_streams: edge.ended.streams + sum(|session| session.total_streams),
        bytes_in: edge.ended.received + sum(|session| session.bytes_in),
        bytes_out: edge.ended.sent + sum(|session| session.bytes_out),
        rtt_ms: own.iter().find_map(|session| session.rtt_ms),
        queued_bytes: queued.into(),
        resumed: edge.counters.resumed.load(Ordering::Relaxed),
        public_address: edge.public_address,
        version: edge.version.to_owned(),
        dialled_by: edge.dialled_by,
        proxy: edge.proxy.map(ToString::to_string),
        ports: if edge.is_leaving {
            ports.map(PortStatus::of_leaving).collect()
        } else {
            ports.collect()
        },
        udp: edge.counters.udp.status(edge.counters.flows.get()),
    }
}

fn sessions_over(sessions: &[SessionStatus], transport: Transport) -> usize {
    let is_one = |session: &&SessionStatus| session.is_attached && session.transport == transport;
    sessions.iter().filter(is_one).count()
}

fn streams_over(sessions: &[SessionStatus], transport: Transport) -> usize {
    let own = sessions
        .iter()
        .filter(|session| session.transport == transport);
    own.map(|session| session.active_streams).sum()
}
