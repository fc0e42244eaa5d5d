//! UDP at the hub: a flow's datagrams to its target through a socket of its own, and the target's answers back (D10).

mod choice;
mod connected;
mod flow;
mod listed;
mod place;
mod upstream;
mod wait;

use super::context::SessionContext;
use super::pools::selection::{HeldSlot, Selection};
use super::state::HubState;
use super::target::v2_header;
use crate::access::reason_of;
use bytes::Bytes;
use connected::{Unopened, Watch, address_fault};
use flow::{Flow, ToTarget};
use place::{Place, Repeated};
use remoteingress_config::UdpProxyProtocol;
use remoteingress_config::reasons::StreamCloseReason;
use remoteingress_core::hub::flow_admission::{Backlog, UnknownFlows, WaitingBytes};
use remoteingress_core::hub::flow_sockets::{FlowSocket, MakesRoom, WorkerSockets};
use remoteingress_core::hub::target_addresses::TargetAddresses;
use remoteingress_core::hub::upstream::{Opening, Route, Target};
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::dial::interleave;
use remoteingress_os::resolve::ResolveError;
use remoteingress_os::udp::ReceiveBatch;
use remoteingress_os::udp_runs::Runs;
use remoteingress_proto::flow::{FlowEnd, FlowId, HubFlows, TunnelDatagram};
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_proxy_protocol::Protocol;
use remoteingress_tunnel::session::flow_channel::FlowChannel;
use remoteingress_upstream::pick::{NoTarget, Picked};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};
use tokio::task::spawn_local;
use upstream::{refused, selection, stays, upstream};
use wait::wait;

/// A target's name that isn't resolved within this gets no more of a client's patience.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the flows of a worker share. The buffers are empty between two turns.
pub(super) struct WorkerFlows {
    sockets: Rc<WorkerSockets>,
    /// Of every session.
    tables: RefCell<Vec<Weak<FlowTable>>>,
    /// Datagrams that a target has sent.
    received: RefCell<ReceiveBatch>,
    /// Datagrams on their way to targets.
    to_targets: RefCell<Runs<ToTarget>>,
}

impl WorkerFlows {
    pub(super) fn new(state: &HubState) -> Rc<Self> {
        Rc::new(Self {
            sockets: WorkerSockets::new(state.flow_sockets.clone()),
            tables: RefCell::default(),
            received: RefCell::new(ReceiveBatch::new()),
            to_targets: RefCell::default(),
        })
    }
}

/// The flows of one session.
pub(super) struct FlowTable {
    session: Rc<SessionContext>,
    worker: Rc<WorkerFlows>,
    flows: RefCell<HubFlows<Rc<Flow>>>,
    channel: FlowChannel,
    unknown: UnknownFlows,
    /// Bytes that wait for names.
    waiting: WaitingBytes,
    /// Bytes that are kept for a target's other addresses.
    kept: WaitingBytes,
    /// Some flow may be one to a target of a pool.
    has_pooled: Cell<bool>,
}

impl FlowTable {
    pub(super) fn new(session: Rc<SessionContext>, worker: Rc<WorkerFlows>) -> Rc<Self> {
        let config = session.worker.state.config();
        let max = config.limits.max_udp_flows_per_edge.count();
        let mut flows = HubFlows::new(max, session.counters.flows.clone());
        if session.worker.state.access.is_some() {
            flows.tell_end(|flow: &Rc<Flow>, end| flow.ends(reason_of(end)));
        }
        let table = Rc::new(Self {
            session,
            worker: worker.clone(),
            flows: RefCell::new(flows),
            channel: FlowChannel::default(),
            unknown: UnknownFlows::new(Instant::now()),
            waiting: WaitingBytes::default(),
            kept: WaitingBytes::default(),
            has_pooled: Cell::new(false),
        });
        let mut tables = worker.tables.borrow_mut();
        tables.retain(|table| table.strong_count() > 0);
        tables.push(Rc::downgrade(&table));
        table
    }

    /// A tunnel datagram has come.
    pub(super) fn handle(self: &Rc<Self>, datagram: &Bytes) {
        let now = Instant::now();
        let sent = match TunnelDatagram::decode(datagram) {
            Ok(TunnelDatagram::Payload {
                flow,
                header,
                payload,
            }) => self.to_target(now, flow, header, &payload),
            Ok(TunnelDatagram::Fragment {
                flow,
                header,
                fragment,
            }) => match self.channel.join(now, flow, &fragment) {
                Some(payload) => self.to_target(now, flow, header, &payload),
                None => return,
            },
            // Only edges are told these.
            Ok(TunnelDatagram::Known(_) | TunnelDatagram::Unknown(_)) => Err(UdpDrop::Malformed),
            Err(error) => {
                tracing::debug!(edge = %self.session.edge, %error, "an edge sent a bad datagram");
                Err(UdpDrop::Malformed)
            }
        };
        if let Err(reason) = sent {
            self.session.counters.udp.drop(reason);
        }
    }

    /// Sends on its way what [`Self::handle`] has gathered.
    pub(super) fn flush(&self) {
        self.worker.to_targets.borrow_mut().flush();
    }

    /// The ports of the edge or the pools have changed: flows whose target is another one now begin anew with that. A
    /// flow of a pool keeps its target while the pool has that.
    pub(super) fn retarget(self: &Rc<Self>) {
        let now = Instant::now();
        let moved: Vec<Rc<Flow>> = {
            let flows = self.flows.borrow();
            let flows = flows.iter().map(|(_, flow)| flow);
            flows
                .filter(|flow| !stays(&self.session, flow))
                .cloned()
                .collect()
        };
        for flow in moved {
            self.flows.borrow_mut().remove(flow.id);
            // Its port may be gone; the edge closes it then.
            if let Err(reason) = self.open(now, flow.id, flow.header) {
                tracing::debug!(edge = %self.session.edge, ?reason, "a flow's target is gone");
            }
        }
    }

    /// Gives flows whose target is dead or fails another one, where their pool has that.
    fn move_unwell(self: &Rc<Self>, now: Instant) {
        let mut has_pooled = false;
        let mut unwell: Vec<Rc<Flow>> = Vec::new();
        for (_, flow) in self.flows.borrow().iter() {
            has_pooled |= flow.place.is_some();
            if flow.is_unwell() {
                unwell.push(flow.clone());
            }
        }
        self.has_pooled.set(has_pooled);
        for flow in unwell {
            self.move_on(now, &flow);
        }
    }

    /// Gives a flow another target of its pool, and to that what its own has refused. False: there is none, and it stays
    /// where it is.
    fn move_on(self: &Rc<Self>, now: Instant, flow: &Flow) -> bool {
        let (config, allowed) = (self.session.worker.state.config(), self.session.allowed());
        let number = flow.place.as_ref().and_then(|place| place.held.number());
        let route = upstream(&config, &allowed).route(&flow.opening());
        let (Some(number), Ok(Route::Pool(pool, header))) = (number, route) else {
            return false;
        };
        let Some(mut selection) = selection(&self.session, &pool.name, flow.header) else {
            return false;
        };
        selection.avoid(number);
        for number in flow.refused_by() {
            selection.avoid(number);
        }
        let Ok(picked) = selection.pick(&self.session.worker) else {
            return false;
        };
        let (id, header) = (flow.id, (flow.header, (header, pool.says_header)));
        let brought = flow.take_repeated();
        self.flows.borrow_mut().remove(id);
        if let Err(reason) = self.open_at(now, id, header, &selection, picked, brought) {
            tracing::debug!(edge = %self.session.edge, ?reason, "a flow's next target fails, too");
        }
        true
    }

    /// Ends flows that were silent for too long, and counts what the tunnel has dropped.
    pub(super) fn sweep(self: &Rc<Self>) {
        let now = Instant::now();
        if self.has_pooled.get() {
            self.move_unwell(now);
        }
        let max = self
            .session
            .worker
            .state
            .config()
            .limits
            .max_udp_flows_per_edge;
        let mut flows = self.flows.borrow_mut();
        // The configuration may have been read again.
        flows.set_limit(max.count());
        flows.expire(now);
        drop(flows);
        if !self.kept.is_empty() {
            for (_, flow) in self.flows.borrow().iter() {
                flow.sweep(now);
            }
        }
        self.channel
            .count_drops(&self.session.local, &self.session.counters.udp);
    }

    /// Ends the flows at the target of a pool with this number.
    pub(super) fn end_at(&self, number: u32) {
        let mut flows = self.flows.borrow_mut();
        let is_there =
            |flow: &Flow| flow.place.as_ref().and_then(|place| place.held.number()) == Some(number);
        let ids: Vec<_> = flows
            .iter()
            .filter(|(_, flow)| is_there(flow))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            flows.remove(id);
        }
    }

    /// Ends all flows, whose session has ended like this.
    pub(super) fn end(self: &Rc<Self>, end: FlowEnd) {
        self.sweep();
        self.flows.borrow_mut().clear(end);
    }

    fn to_target(
        self: &Rc<Self>,
        now: Instant,
        id: FlowId,
        header: Option<StreamHeader>,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        let known = self.flows.borrow_mut().from_edge(now, id).cloned();
        let known = known.filter(|flow| header.is_none_or(|header| header == flow.header));
        let flow = match (known, header) {
            (Some(flow), header) => {
                if header.is_some() && flow.is_connected() {
                    self.acknowledge(now, &flow);
                }
                flow
            }
            (None, Some(header)) => self.open(now, id, header)?,
            (None, None) => {
                if self.unknown.may_answer(now) {
                    self.channel.say_unknown(&self.session.local, now, id);
                    self.session.local.notify();
                }
                return Err(UdpDrop::UnknownFlow);
            }
        };
        flow.carry(&mut self.worker.to_targets.borrow_mut(), payload)
    }

    /// The edge needn't send the header any more.
    fn acknowledge(&self, now: Instant, flow: &Flow) {
        if flow.acknowledgements.is_due(now) {
            self.channel.say_known(&self.session.local, now, flow.id);
            self.session.local.notify();
        }
    }

    /// The longest silence of a flow.
    fn idle_timeout(&self, header: &StreamHeader) -> Duration {
        let allowed = self.session.allowed();
        let own = allowed
            .udp
            .target(header.listener_port, header.listener.ip());
        own.and_then(|(range, _)| range.udp_idle_timeout)
            .unwrap_or(self.session.worker.state.config().engine.udp_idle_timeout)
    }

    /// A flow to the target of its port, or to one of the pool that the port names.
    fn open(
        self: &Rc<Self>,
        now: Instant,
        id: FlowId,
        header: StreamHeader,
    ) -> Result<Rc<Flow>, UdpDrop> {
        let worker = &self.session.worker;
        let (config, allowed) = (worker.state.config(), self.session.allowed());
        let (pool, proxy) = match upstream(&config, &allowed).route(&Opening { header })? {
            Route::Target(target) => return self.open_to(now, id, header, target, None),
            Route::Pool(pool, proxy) => (pool, proxy),
        };
        let selection = selection(&self.session, &pool.name, header);
        let refused = |none| refused(&self.session, &pool.name, none);
        let mut selection = selection.ok_or_else(|| refused(NoTarget::Empty))?;
        let live = &selection.pooled().live;
        let mut tries = u32::from(live.config.retries);
        if !live.is_over_tcp {
            // One more of those of which retries are a part.
            live.plan.retries().dialled(worker.state.pools.now());
        }
        loop {
            let picked = selection.pick(worker).map_err(|none| {
                selection.refuse(none);
                refused(none)
            })?;
            let header = (header, (proxy, pool.says_header));
            match self.open_at(now, id, header, &selection, picked, Repeated::default()) {
                Err(UdpDrop::TargetUnreachable) if tries > 0 => tries -= 1,
                opened => return opened,
            }
        }
    }

    /// A flow to this target of a pool.
    fn open_at(
        self: &Rc<Self>,
        now: Instant,
        id: FlowId,
        (header, proxy): (StreamHeader, (UdpProxyProtocol, bool)),
        selection: &Selection,
        picked: Picked,
        brought: Repeated,
    ) -> Result<Rc<Flow>, UdpDrop> {
        let held = HeldSlot::new(selection.pooled(), picked);
        let index = held.index();
        let target = selection
            .pooled()
            .target(index, header.listener_port, proxy);
        let target = target.ok_or(UdpDrop::PoolEmpty)?;
        let brought = RefCell::new(brought);
        let place = Box::new(Place { held, brought });
        let opened = self.open_to(now, id, header, target, Some(place))?;
        selection.settle(&self.session.worker, index);
        self.has_pooled.set(true);
        Ok(opened)
    }

    /// A flow with its socket, or without one yet where a name must be resolved first.
    fn open_to(
        self: &Rc<Self>,
        now: Instant,
        id: FlowId,
        header: StreamHeader,
        target: Target<UdpProxyProtocol>,
        place: Option<Box<Place>>,
    ) -> Result<Rc<Flow>, UdpDrop> {
        let counted = self.take_socket(now)?;
        let resolver = &self.session.worker.resolver;
        let resolved = resolver.resolve_now(&target.host, target.port, now.into());
        let proxy_header = match target.proxy_protocol {
            UdpProxyProtocol::None => Bytes::new(),
            UdpProxyProtocol::FirstDatagram | UdpProxyProtocol::EveryDatagram => {
                let name = self.session.local.flow_name(id);
                v2_header(Protocol::Datagram, &self.session.allowed(), &header, name)
            }
        };
        let backlog = Backlog::new(self.waiting.clone());
        let session = self.session.clone();
        let to = (target, place);
        let flow = Flow::new(session, id, header, to, proxy_header, backlog, counted);
        let connected = match resolved {
            Some(Ok(addresses)) => self.connect(now, &flow, addresses),
            Some(Err(error)) => {
                self.warn_of_target(&flow, &error);
                Err(UdpDrop::TargetUnreachable)
            }
            None => Ok(()),
        };
        connected.inspect_err(|reason| flow.failed(*reason))?;
        let idle = self.idle_timeout(&header);
        let inserted = self.flows.borrow_mut().insert(now, id, idle, flow.clone());
        if inserted.is_err() {
            let refusals = &self.session.worker.state.flow_refusals;
            refusals.count(UdpDrop::MaxFlowsPerEdge);
            return Err(UdpDrop::MaxFlowsPerEdge);
        }
        let task = spawn_local(serve(self.clone(), Rc::downgrade(&flow)));
        // A flow has one task.
        let _ = flow.task.set(task.abort_handle());
        if flow.is_connected() {
            self.acknowledge(now, &flow);
        }
        Ok(flow)
    }

    fn connect(
        &self,
        now: Instant,
        flow: &Flow,
        addresses: Vec<SocketAddr>,
    ) -> Result<(), UdpDrop> {
        let mut addresses = match addresses[..] {
            [_] => addresses,
            _ => interleave(&addresses),
        };
        let good = self.session.worker.good_addresses.borrow();
        good.put_first(now, &flow.target.host, &mut addresses);
        let addresses = TargetAddresses::new(addresses).ok_or(UdpDrop::TargetUnreachable)?;
        let connect = || flow.connect(addresses.clone(), Backlog::new(self.kept.clone()));
        let connected = match connect() {
            Err(short @ (Unopened::Descriptors | Unopened::Ports)) => {
                self.warn_of_limit(now, short.into());
                // Other programs have the rest.
                if self.make_room() {
                    connect()
                } else {
                    Err(short)
                }
            }
            connected => connected,
        };
        connected.map_err(UdpDrop::from)
    }

    /// Counts a new flow in; where there are as many as may be, another one makes room.
    fn take_socket(&self, now: Instant) -> Result<FlowSocket, UdpDrop> {
        let sockets = &self.worker.sockets;
        sockets.take().or_else(|short| {
            self.warn_of_limit(now, short);
            if self.make_room() {
                sockets.take()
            } else {
                Err(short)
            }
        })
    }

    /// Ends the oldest flow without an answer of the worker's session that has the most; false if all are answered.
    fn make_room(&self) -> bool {
        // Datagrams that wait hold their flows.
        self.flush();
        let tables = self.worker.tables.borrow();
        let is_own = |table: &Rc<Self>| std::ptr::eq(Rc::as_ptr(table), self);
        let others = || {
            let tables = tables.iter().filter_map(Weak::upgrade);
            tables.filter(|table| !is_own(table))
        };
        let own = self.flows.borrow().one_way();
        let counts = others().map(|table| table.flows.borrow().one_way());
        match MakesRoom::of(own, counts) {
            MakesRoom::Own => self.flows.borrow_mut().evict(),
            MakesRoom::Other(place) => {
                let other = others().nth(place);
                other.is_some_and(|table| table.flows.borrow_mut().evict())
            }
            MakesRoom::Nobody => false,
        }
    }

    fn warn_of_limit(&self, now: Instant, short: UdpDrop) {
        let all = &self.session.worker.state.flow_sockets;
        if !all.is_warning_due(now) {
            return;
        }
        let remedy = if short == UdpDrop::EphemeralPorts {
            "widen net.ipv4.ip_local_port_range"
        } else {
            "raise the limit of descriptors (LimitNOFILE)"
        };
        tracing::warn!(edge = %self.session.edge, reason = short.as_str(), max = all.max(), "no socket is left for another UDP flow: the oldest flow that its target hasn't answered ends, and a new one is refused while there is none; {remedy}, or shorten udpIdleTimeoutSecs");
    }

    fn warn_of_target(&self, flow: &Flow, error: &ResolveError) {
        let port = flow.header.listener_port;
        self.session.warn(port, || {
            tracing::warn!(edge = %self.session.edge, port, %error, "a UDP target can't be reached");
        });
    }

    /// Connects a flow whose target's name had to be resolved, and sends what has waited.
    async fn resolve(&self, flow: &Weak<Flow>) -> Result<(), UdpDrop> {
        let Some((host, port)) = flow.upgrade().and_then(|flow| {
            (!flow.is_connected()).then(|| (flow.target.host.clone(), flow.target.port))
        }) else {
            return Ok(());
        };
        let now = tokio::time::Instant::now();
        let resolving = self.session.worker.resolver.resolve(&host, port, now);
        let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, resolving).await;
        let Some(flow) = flow.upgrade() else {
            return Ok(());
        };
        let addresses = match resolved {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                self.warn_of_target(&flow, &error);
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let now = Instant::now();
        self.connect(now, &flow, addresses)?;
        self.acknowledge(now, &flow);
        for payload in flow.backlog.take() {
            let sent = flow.carry(&mut self.worker.to_targets.borrow_mut(), &payload);
            if let Err(reason) = sent {
                self.session.counters.udp.drop(reason);
            }
        }
        self.flush();
        Ok(())
    }

    /// Sends what was read just now back to the edge.
    fn to_edge(&self, id: FlowId) {
        let now = Instant::now();
        let SessionContext {
            local, counters, ..
        } = &*self.session;
        let flow = self.flows.borrow_mut().from_target(now, id).cloned();
        if let Some(flow) = &flow {
            flow.answered(now);
        }
        for (_, payload) in self.worker.received.borrow().datagrams() {
            let sent = if let Some(flow) = &flow {
                let (to, from) = flow.moved.get();
                flow.moved.set((to, from + payload.len() as u64));
                self.channel.send(local, now, id, None, payload)
            } else {
                Err(UdpDrop::UnknownFlow)
            };
            match sent {
                Ok(()) => counters.udp.count_out(1),
                Err(reason) => counters.udp.drop(reason),
            }
        }
        local.notify();
    }
}

/// Reads the target's answers until the flow is gone, which ends this task.
async fn serve(table: Rc<FlowTable>, flow: Weak<Flow>) {
    let Some(id) = flow.upgrade().map(|flow| flow.id) else {
        return;
    };
    let counters = &table.session.counters.udp;
    if let Err(reason) = table.resolve(&flow).await {
        if let Some(flow) = flow.upgrade() {
            flow.failed(reason);
        }
        let waited = flow.upgrade().map_or(0, |flow| flow.backlog.take().len());
        counters.drop_many(reason, waited as u64);
        if let Some(flow) = flow.upgrade() {
            flow.ends(StreamCloseReason::TargetUnreachable);
        }
        table.flows.borrow_mut().remove(id);
        return;
    }
    let mut watch = Watch::default();
    loop {
        match wait(&flow, &mut watch, &table.worker.received).await {
            Some((_, _, Ok(()))) => table.to_edge(id),
            Some((flow, socket, Err(error))) => {
                if let Some(error) = error {
                    tracing::debug!(%error, "a flow's socket has failed");
                    let reason = address_fault(&error).unwrap_or(UdpDrop::TargetUnreachable);
                    flow.handle_failure(&socket, reason);
                }
                if flow.is_to_move() && table.move_on(Instant::now(), &flow) {
                    // Its task ends with it: this one.
                    return;
                }
                flow.stay();
            }
            None => return,
        }
        // The session gets its turn before more is read: its queue is short.
        tokio::task::yield_now().await;
    }
}
