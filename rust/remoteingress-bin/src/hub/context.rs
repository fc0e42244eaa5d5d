//! The parts that the sessions of a worker share, and those that the streams and flows of a session share.

use super::pools::PoolsView;
use super::state::HubState;
use remoteingress_config::AllowedEdge;
use remoteingress_core::hub::registry::EdgeCounters;
use remoteingress_core::hub::stream_admission::{StreamCounts, StreamLoad};
use remoteingress_core::hub::target_addresses::GoodAddresses;
use remoteingress_core::hub::warnings::Warnings;
use remoteingress_os::random;
use remoteingress_os::resolve::TargetResolver;
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_upstream::pick::unit;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// One worker's part of the hub.
pub(super) struct WorkerContext {
    pub(super) state: Arc<HubState>,
    /// Number of this worker, counted from 0.
    pub(super) ordinal: usize,
    pub(super) budget: Budget,
    pub(super) resolver: TargetResolver,
    pub(super) good_addresses: RefCell<GoodAddresses>,
    warnings: RefCell<Warnings>,
    pools: RefCell<Arc<PoolsView>>,
    /// State of the random numbers.
    random: Cell<u64>,
}

impl WorkerContext {
    pub(super) fn new(state: Arc<HubState>, ordinal: usize) -> Rc<Self> {
        let pools = RefCell::new(state.pools.view());
        Rc::new(Self {
            budget: Budget::new(state.budget.clone()),
            resolver: TargetResolver::new(state.config().allow_special_targets),
            state,
            ordinal,
            good_addresses: RefCell::default(),
            warnings: RefCell::default(),
            pools,
            random: Cell::new(u64::from_ne_bytes(random::bytes())),
        })
    }

    /// The pools in force.
    pub(super) fn pools(&self) -> Arc<PoolsView> {
        self.pools.borrow().clone()
    }

    pub(super) fn set_pools(&self, pools: Arc<PoolsView>) {
        self.pools.replace(pools);
    }

    /// The same as a number from 0 to 1.
    pub(super) fn random_unit(&self) -> f64 {
        unit(self.random())
    }

    /// 64 random bits for a choice that needn't be secret: SplitMix64.
    pub(super) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// One session and its edge, as streams and flows see them. They may outlive the session's own task.
pub(super) struct SessionContext {
    pub(super) worker: Rc<WorkerContext>,
    pub(super) edge: EdgeId,
    pub(super) transport: Transport,
    pub(super) counters: Arc<EdgeCounters>,
    pub(super) local: Rc<LocalSession>,
    allowed: RefCell<Arc<AllowedEdge>>,
}

impl SessionContext {
    pub(super) fn new(
        worker: Rc<WorkerContext>,
        local: Rc<LocalSession>,
        transport: Transport,
        allowed: Arc<AllowedEdge>,
        counters: Arc<EdgeCounters>,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            edge: allowed.id.clone(),
            transport,
            counters,
            local,
            allowed: RefCell::new(allowed),
        })
    }

    /// The edge as it is configured now.
    pub(super) fn allowed(&self) -> Arc<AllowedEdge> {
        self.allowed.borrow().clone()
    }

    pub(super) fn set_allowed(&self, allowed: Arc<AllowedEdge>) {
        *self.allowed.borrow_mut() = allowed;
    }

    /// The streams that count against a new one.
    pub(super) fn load(&self) -> StreamLoad {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        StreamLoad {
            edge: load(&self.counters.streams),
            hub: load(&self.worker.state.streams),
            dials: load(&self.counters.dials),
        }
    }

    /// Writes a warning that many streams of a port may give reason to, but not each time. Port 0 is the whole edge.
    pub(super) fn warn(&self, port: u16, write: impl FnOnce()) {
        let mut warnings = self.worker.warnings.borrow_mut();
        if warnings.is_due(Instant::now(), &self.edge, port) {
            write();
        }
    }
}

impl StreamCounts for SessionContext {
    fn streams(&self) -> impl Iterator<Item = &AtomicUsize> {
        let WorkerContext { state, ordinal, .. } = &*self.worker;
        let gauge = state.gauges.get(*ordinal).map(|gauge| &gauge.streams);
        [&state.streams, &self.counters.streams]
            .into_iter()
            .chain(gauge)
    }

    fn dials(&self) -> &AtomicUsize {
        &self.counters.dials
    }
}
