//! The state that the edge's threads share. None of it is touched per byte.

use super::clients::Clients;
use super::command::{Command, Incoming};
use super::strangers::Strangers;
use super::udp::listener::StrayDatagram;
use remoteingress_config::EdgeConfig;
use remoteingress_core::edge::admission::Admission;
use remoteingress_core::edge::placement;
use remoteingress_core::entrance::guard::Guard;
use remoteingress_core::udp_counters::UdpCounters;
use remoteingress_observe::events::Events;
use remoteingress_proto::flow::FlowQuota;
use remoteingress_proto::mux::budget::BudgetPool;
use remoteingress_tunnel::transport::tcp_tls::Detached;
use remoteingress_tunnel::uplink::Uplink;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::mpsc;

/// One edge of this process.
pub(super) struct EdgeState {
    pub(super) config: EdgeConfig,
    pub(super) budget: Arc<BudgetPool>,
    pub(super) events: Events,
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
}

impl Hub {
    pub(super) fn new(uplink: Arc<Uplink>) -> Self {
        Self {
            uplink,
            max_streams: AtomicUsize::new(0),
        }
    }

    pub(super) fn limit_streams(&self, max_streams: u32) {
        let most = usize::try_from(max_streams).unwrap_or(usize::MAX);
        self.max_streams.store(most, Ordering::Relaxed);
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
    ) -> Arc<Self> {
        Arc::new(Self {
            budget: config.engine.budget_pool(),
            events,
            clients: Clients::new(
                Admission::new(config.limits.clone(), descriptors),
                uplink.clone(),
            ),
            hub: Hub::new(uplink),
            strangers: Strangers::new(Guard::new((&config.limits).into(), Instant::now())),
            workers: OnceLock::new(),
            udp: UdpCounters::default(),
            udp_quota: Arc::new(FlowQuota::new(
                config.limits.max_udp_flows_per_listener.count(),
                config.limits.max_udp_flows_per_ip.count(),
            )),
            strays: vec![OnceLock::new(); config.engine.workers],
            config,
        })
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
