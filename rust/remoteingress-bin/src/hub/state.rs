//! The state that the hub's threads share. None of it is touched per byte.

use super::edge_keys::EdgeKeys;
use super::pools::kept::KeptState;
use super::pools::{HubPools, PoolsView};
use super::running_tests::SelfTests;
use crate::access::Access;
use crate::listing::Asked;
use remoteingress_config::events::{
    EdgeConnected, EdgeDisconnected, Event, PortsApplied, TargetRefused,
};
use remoteingress_config::port_status::PortStatus;
use remoteingress_config::reasons::{HubRefusalReason, UdpDropReason};
use remoteingress_config::streams::StreamList;
use remoteingress_config::{AllowedEdge, HubConfig};
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::entrance::reason::Reason;
use remoteingress_core::hub::flow_sockets::FlowSockets;
use remoteingress_core::hub::registry::{Action, Place, Registry};
use remoteingress_core::hub::rejections::Rejections;
use remoteingress_core::refusals::Refusals;
use remoteingress_observe::events::Events;
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_os::memory;
use remoteingress_os::worker::Gauge;
use remoteingress_proto::control::ControlMessage;
use remoteingress_proto::handshake::{HubEpoch, SessionId, Transport};
use remoteingress_proto::mux::Queued;
use remoteingress_proto::mux::budget::BudgetPool;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_store::geo_file::GeoFile;
use remoteingress_tunnel::calling::Callee;
use remoteingress_tunnel::entrance::acceptor::Admitted;
use remoteingress_tunnel::transport::connection::Connection;
use remoteingress_tunnel::transport::tcp_tls::Detached;
use remoteingress_upstream::pool_set::{Assembled, PoolSet, Refused};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// One hub of this process.
pub(crate) struct HubState {
    config: RwLock<Arc<HubConfig>>,
    /// This run of the hub.
    pub(crate) epoch: HubEpoch,
    pub(crate) budget: Arc<BudgetPool>,
    pub(crate) events: Events,
    /// Where the time of streams goes.
    pub(crate) times: Arc<StreamTimes>,
    pub(crate) access: Option<Access>,
    pub(crate) refusals: Refusals<HubRefusalReason>,
    /// Doctors that have proved an edge's secret, of whom nobody is warned.
    pub(super) doctors: Refusals<()>,
    /// Datagrams for which there was no flow.
    pub(crate) flow_refusals: Refusals<UdpDropReason>,
    pub(crate) gauges: Vec<Gauge>,
    pub(crate) workers: OnceLock<Vec<mpsc::UnboundedSender<Command>>>,
    /// Streams of all edges.
    pub(crate) streams: AtomicUsize,
    pub(crate) flow_sockets: Arc<FlowSockets>,
    /// Edges that this hub dials.
    pub(crate) callees: Mutex<HashMap<EdgeId, Arc<Callee>>>,
    /// The keys that they have shown.
    pub(crate) edge_keys: EdgeKeys,
    pub(super) tests: SelfTests,
    pub(super) pools: HubPools,
    registry: Mutex<Registry>,
    guard: Mutex<Guard>,
    rejections: Mutex<Rejections>,
}

impl HubState {
    pub(crate) fn new(
        config: HubConfig,
        epoch: HubEpoch,
        registry: Registry,
        events: Events,
        flow_sockets: FlowSockets,
        access: Option<Access>,
        kept: Option<&mut KeptState>,
    ) -> Arc<Self> {
        Arc::new(Self {
            budget: config.engine.budget_pool(memory::available()),
            epoch,
            events,
            times: Arc::default(),
            access,
            refusals: Refusals::default(),
            doctors: Refusals::default(),
            flow_refusals: Refusals::default(),
            gauges: Gauge::of_workers(config.engine.workers),
            workers: OnceLock::new(),
            streams: AtomicUsize::new(0),
            flow_sockets: Arc::new(flow_sockets),
            callees: Mutex::default(),
            tests: SelfTests::default(),
            pools: HubPools::new(&config, kept),
            edge_keys: EdgeKeys::load(config.state_dir.as_ref()),
            registry: Mutex::new(registry),
            guard: Mutex::new(Guard::new((&config.limits).into(), Instant::now())),
            rejections: Mutex::default(),
            config: RwLock::new(Arc::new(config)),
        })
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<HubConfig> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        config.clone()
    }

    /// Puts a configuration in force, as far as it doesn't need a restart.
    pub(crate) fn set_config(&self, config: HubConfig) {
        self.guard().set_limits((&config.limits).into());
        let max_sessions = config.max_sessions_per_edge;
        let max_streams = config.limits.max_streams_per_edge.get().unwrap_or(0);
        let udp_idle = config.engine.udp_idle_timeout;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        self.change(|registry| {
            let actions = registry.set_limits(max_sessions, max_streams, Some(udp_idle));
            ((), actions)
        });
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits on peers that have proved nothing.
    pub(crate) fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusals that the operator knows of.
    pub(crate) fn rejections(&self) -> MutexGuard<'_, Rejections> {
        self.rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The refusals so far, with those of doctors.
    pub(crate) fn rejected(&self) -> BTreeMap<HubRefusalReason, u64> {
        let mut rejected = self.refusals.snapshot();
        for doctors in self.doctors.snapshot().into_values() {
            *rejected.entry(Reason::Doctor.into()).or_default() += doctors;
        }
        rejected
    }

    /// All workers, in their order.
    pub(crate) fn workers(&self) -> &[mpsc::UnboundedSender<Command>] {
        self.workers.get().map(Vec::as_slice).unwrap_or_default()
    }

    pub(crate) fn worker(&self, ordinal: usize) -> Option<&mpsc::UnboundedSender<Command>> {
        self.workers().get(ordinal)
    }

    /// Takes a connection that was admitted to its worker.
    pub(crate) fn take_in(&self, incoming: Incoming<Detached>) {
        if let Some(worker) = self.worker(incoming.place.worker) {
            // A worker that has ended drops it.
            let _ = worker.send(Command::Connection(Box::new(incoming)));
        }
    }

    /// Changes the registry and carries out what follows, before the next change: events and
    /// commands come in the order of the changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Registry) -> (T, Vec<Action>)) -> T {
        let mut registry = self.registry();
        let (result, actions) = change(&mut registry);
        self.act(actions);
        result
    }

    /// Changes the pools, and puts what has changed in force at every worker.
    pub(super) fn change_pools(&self, change: impl FnOnce(&mut PoolSet)) -> Assembled {
        let assembled = self.pools.change(change, |view| self.publish(view));
        for Refused {
            pool,
            id,
            source,
            reason,
        } in &assembled.refused
        {
            self.events.emit(&Event::TargetRefused(TargetRefused {
                source: *source,
                id: Some(id.as_str().to_owned()),
                row: None,
                reason: format!("pool {pool}: {reason}"),
            }));
        }
        assembled
    }

    /// Takes over another database of countries.
    pub(super) fn set_geo_file(&self, geo: Option<Arc<GeoFile>>) {
        self.pools.set_geo_file(geo, |view| self.publish(view));
    }

    /// Ends the streams and flows of a target, which is one of a pool.
    pub(super) fn cut_target(&self, number: u32) {
        for worker in self.workers() {
            // One that has ended has none.
            let _ = worker.send(Command::CutTarget(number));
        }
    }

    /// The pool of all rows is there for ports that name it.
    pub(super) fn follow_named_pools(&self) {
        // Checks send what ports do.
        self.pools.changed.notify_one();
        let config = self.config();
        if config.routing_db.is_none() && config.pools.is_empty() {
            return;
        }
        let (mut named, mut over_tcp) = (BTreeSet::new(), BTreeSet::new());
        for edge in self.registry().all() {
            over_tcp.extend(edge.tcp.pools().map(|pool| pool.name.clone()));
            named.extend(edge.udp.pools().map(|pool| pool.name.clone()));
        }
        named.extend(over_tcp.iter().cloned());
        self.change_pools(|set| set.set_named(named, over_tcp));
    }

    fn publish(&self, view: &Arc<PoolsView>) {
        for worker in self.workers() {
            // One that has ended needs none.
            let _ = worker.send(Command::ChangePools(view.clone()));
        }
    }

    fn act(&self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SendConfig {
                    worker,
                    session,
                    config,
                } => match ControlMessage::Config(config).encode() {
                    Ok(frames) => self.command(worker, Command::Control { session, frames }),
                    Err(error) => tracing::error!(%error, "failed to encode a configuration"),
                },
                Action::ChangeAllowedEdge {
                    worker,
                    session,
                    allowed,
                } => {
                    self.command(worker, Command::ChangeAllowedEdge { session, allowed });
                }
                Action::Cut {
                    worker,
                    session,
                    replaced,
                } => self.command(worker, Command::Cut { session, replaced }),
                Action::Connected {
                    edge,
                    address,
                    transport,
                    version,
                    dialled_by,
                } => {
                    self.events.emit(&Event::EdgeConnected(EdgeConnected {
                        edge_id: edge,
                        remote_address: address,
                        transport: transport.into(),
                        version,
                        dialled_by,
                    }));
                }
                Action::Disconnected {
                    edge,
                    address,
                    reason,
                } => {
                    self.events.emit(&Event::EdgeDisconnected(EdgeDisconnected {
                        edge_id: edge,
                        remote_address: address,
                        reason,
                    }));
                }
                Action::PortsLeftOut { edge, left_out } => {
                    tracing::warn!(%edge, left_out, "the edge's version takes at most 4,096 ports: the others were left out; update the edge");
                }
                Action::UdpLeftOut { edge } => {
                    tracing::warn!(%edge, "the edge's version can't carry UDP: its UDP ports were left out; update the edge");
                }
                Action::SharedPortsLeftOut { edge, ports } => {
                    tracing::warn!(%edge, %ports, "the edge's version can't have one port on several addresses: these ports were left out; update the edge");
                }
                Action::ConfigRefused {
                    edge,
                    generation,
                    refusal,
                } => {
                    tracing::error!(%edge, generation, reason = refusal.code.as_str(), error = %refusal.message, "the edge refused its configuration");
                }
                Action::PortsApplied {
                    edge,
                    generation,
                    ports,
                    failed,
                    left_out,
                } => {
                    for ports in failed {
                        let (reason, error) = (ports.code.as_str(), &ports.message);
                        tracing::warn!(%edge, %ports, reason, %error, "the edge failed to open a port");
                    }
                    if left_out > 0 {
                        tracing::warn!(%edge, ports = left_out, "the edge failed to open more ports");
                    }
                    self.events.emit(&Event::PortsApplied(PortsApplied {
                        edge_id: edge,
                        generation,
                        ports: ports.iter().map(PortStatus::from).collect(),
                    }));
                }
            }
        }
    }

    fn command(&self, worker: usize, command: Command) {
        if self
            .worker(worker)
            .is_some_and(|worker| worker.send(command).is_err())
        {
            tracing::error!(worker, "a worker takes no commands");
        }
    }
}

/// An edge's connection that was admitted: on its worker, or [`Detached`] on its way there.
pub(crate) type Incoming<C = Connection> = Admitted<Place, C>;

/// To a worker.
pub(crate) enum Command {
    Connection(Box<Incoming<Detached>>),
    /// Call an edge for one of its sessions, and again whenever that has no connection.
    Call {
        callee: Arc<Callee>,
        ordinal: u16,
        delay: Duration,
    },
    ChangeAllowedEdge {
        session: SessionId,
        allowed: Arc<AllowedEdge>,
    },
    /// The pools have changed.
    ChangePools(Arc<PoolsView>),
    /// End the streams and flows of the pools' target with this number.
    CutTarget(u32),
    Control {
        session: SessionId,
        frames: Vec<Vec<u8>>,
    },
    Cut {
        session: SessionId,
        replaced: bool,
    },
    /// Ask the session's peer for a sign of life.
    Ping {
        session: SessionId,
        answered: oneshot::Sender<()>,
    },
    Status(oneshot::Sender<Vec<SessionStatus>>),
    /// Tell the oldest streams and flows.
    Streams(Asked, oneshot::Sender<StreamList>),
    /// Ask edges to open nothing more here.
    Drain,
    EndStreams,
    /// Give the tunnel port up: connections that need its socket end.
    ReleasePort(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// One session as status counts it.
#[derive(Clone, Debug)]
pub(crate) struct SessionStatus {
    pub(crate) edge: EdgeId,
    pub(crate) active_streams: usize,
    pub(crate) total_streams: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) rtt_ms: Option<f64>,
    pub(crate) transport: Transport,
    pub(crate) is_attached: bool,
    pub(crate) queued: Queued,
}
