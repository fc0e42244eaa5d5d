//! The state that the edge's threads share. None of it is touched per byte.

use super::clients::Clients;
use super::command::{Command, Incoming};
use super::strangers::Strangers;
use super::udp::listener::StrayDatagram;
use crate::access::Access;
use remoteingress_config::{EdgeConfig, EdgeLimits, Limit, SHARED_UDP_FLOWS};
use remoteingress_core::edge::admission::Admission;
use remoteingress_core::edge::placement;
use remoteingress_core::edge::udp_idle::UdpIdle;
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::udp_counters::UdpCounters;
use remoteingress_observe::events::Events;
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_os::memory;
use remoteingress_proto::control::ConfigPort;
use remoteingress_proto::flow::{FlowQuota, MaxPerClient};
use remoteingress_proto::mux::budget::BudgetPool;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::transport::tcp_tls::Detached;
use remoteingress_tunnel::uplink::Uplink;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// UDP flows that a client network may have however many there are.
const LEAST_UDP_FLOWS: usize = 256;

/// One edge of this process.
pub(super) struct EdgeState {
    config: RwLock<Arc<EdgeConfig>>,
    /// Its id, which stays until a restart.
    pub(super) edge_id: EdgeId,
    /// Files that the process may open.
    pub(super) descriptors: u64,
    pub(super) budget: Arc<BudgetPool>,
    pub(super) events: Events,
    /// Where the time of streams goes.
    pub(super) times: Arc<StreamTimes>,
    pub(super) access: Option<Access>,
    pub(super) clients: Arc<Clients>,
    /// The way to its hub.
    pub(super) hub: Hub,
    /// Those at the tunnel port, where the hub dials.
    pub(super) strangers: Strangers,
    workers: OnceLock<Vec<mpsc::UnboundedSender<Command>>>,
    pub(super) udp: UdpCounters,
    pub(super) udp_quota: Arc<FlowQuota>,
    /// By worker: where others give it the datagrams of their clients while they have no session.
    pub(super) strays: Vec<OnceLock<mpsc::Sender<StrayDatagram>>>,
}

/// A hub of this edge: the way there, and the limit that it has set.
pub(super) struct Hub {
    pub(super) uplink: Arc<Uplink>,
    /// Streams that the hub allows this edge; 0 = any number.
    max_streams: AtomicUsize,
    /// The silence of UDP flows that it allows, by ports.
    udp_idle: Mutex<UdpIdle>,
    /// Ports that are open for it, of both protocols.
    open_ports: AtomicUsize,
}

impl Hub {
    pub(super) fn new(uplink: Arc<Uplink>) -> Self {
        Self {
            uplink,
            max_streams: AtomicUsize::new(0),
            udp_idle: Mutex::default(),
            open_ports: AtomicUsize::new(0),
        }
    }

    /// The control task has opened or closed ports: so many are open now.
    pub(super) fn set_open_ports(&self, count: usize) {
        self.open_ports.store(count, Ordering::Relaxed);
    }

    /// A session takes streams, and a port is open.
    pub(super) fn can_serve(&self) -> bool {
        *self.uplink.live().borrow() > 0 && self.open_ports.load(Ordering::Relaxed) > 0
    }

    fn limit_streams(&self, max_streams: u32) {
        let most = usize::try_from(max_streams).unwrap_or(usize::MAX);
        self.max_streams.store(most, Ordering::Relaxed);
    }

    /// The ports of a generation: the hub's word on how long their flows may be silent.
    pub(super) fn set_udp_idle(&self, ports: &[ConfigPort]) {
        *self.udp_idle.lock().unwrap_or_else(PoisonError::into_inner) = UdpIdle::new(ports);
    }

    /// The hub's word on a port at this address, if it has said one.
    pub(super) fn udp_idle(&self, listener: SocketAddr) -> Option<Duration> {
        let timed = self.udp_idle.lock().unwrap_or_else(PoisonError::into_inner);
        timed.of(listener)
    }

    /// The hub allows the stream that was counted last.
    pub(super) fn may_open(&self) -> bool {
        placement::may_open(
            self.max_streams.load(Ordering::Relaxed),
            self.uplink.loads(),
        )
    }
}

impl EdgeState {
    pub(super) fn new(
        config: EdgeConfig,
        uplink: Arc<Uplink>,
        events: Events,
        descriptors: u64,
        access: Option<Access>,
    ) -> Arc<Self> {
        let times: Arc<StreamTimes> = Arc::default();
        if access.is_some() {
            times.turn_on();
        }
        Arc::new(Self {
            descriptors,
            budget: config.engine.budget_pool(memory::available()),
            events,
            times: times.clone(),
            access,
            clients: Clients::new(
                Admission::new(config.limits.clone(), descriptors),
                uplink.clone(),
                times,
            ),
            hub: Hub::new(uplink),
            strangers: Strangers::new(Guard::new((&config.limits).into(), Instant::now())),
            workers: OnceLock::new(),
            udp: UdpCounters::default(),
            udp_quota: Arc::new(FlowQuota::new(
                config.limits.max_udp_flows_per_listener.count(),
                max_flows_per_client(&config.limits),
            )),
            strays: vec![OnceLock::new(); config.engine.workers],
            edge_id: config.edge_id.clone(),
            config: RwLock::new(Arc::new(config)),
        })
    }

    /// The hub allows so many streams; 0 is any number.
    pub(super) fn limit_streams(&self, max_streams: u32) {
        self.hub.limit_streams(max_streams);
        self.clients.limit_streams(Limit::new(max_streams));
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Arc<EdgeConfig> {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        config.clone()
    }

    /// Puts a configuration in force, as far as it doesn't need a restart.
    pub(super) fn set_config(&self, config: EdgeConfig) {
        let limits = &config.limits;
        self.clients.set_limits(limits.clone());
        self.strangers.guard().set_limits(limits.into());
        self.udp_quota.set_limits(
            limits.max_udp_flows_per_listener.count(),
            max_flows_per_client(limits),
        );
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// No session is begun and no port is opened any more.
    pub(super) fn drain(&self) {
        self.hub.uplink.drain();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.hub.uplink.is_draining()
    }

    /// Takes a call that was admitted to its worker.
    pub(super) fn take_in(&self, incoming: Incoming<Detached>) {
        if let Some(worker) = self.worker(incoming.place) {
            // A worker that has ended drops it.
            let _ = worker.send(Command::Called(Box::new(incoming)));
        }
    }

    /// Makes the workers known to each other, once.
    pub(super) fn set_workers(&self, workers: Vec<mpsc::UnboundedSender<Command>>) {
        let _ = self.workers.set(workers);
    }

    /// All workers, in their order.
    pub(super) fn workers(&self) -> &[mpsc::UnboundedSender<Command>] {
        self.workers.get().map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn worker(&self, ordinal: usize) -> Option<&mpsc::UnboundedSender<Command>> {
        self.workers().get(ordinal)
    }
}

/// Without a number of its own a client network has as many as are still free, and at least what every one had before
/// that was so.
fn max_flows_per_client(limits: &EdgeLimits) -> MaxPerClient {
    match limits.max_udp_flows_per_ip {
        Some(limit) => MaxPerClient::Fixed(limit.count()),
        None => MaxPerClient::Shared {
            pool: SHARED_UDP_FLOWS,
            at_least: LEAST_UDP_FLOWS,
        },
    }
}
