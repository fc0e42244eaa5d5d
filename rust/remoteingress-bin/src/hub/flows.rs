//! UDP at the hub: a flow's datagrams to its target through a socket of its own, and the target's answers back (D10).

mod flow;

use super::context::SessionContext;
use super::target::v2_header;
use bytes::Bytes;
use flow::{Flow, ToTarget};
use remoteingress_config::UdpProxyProtocol;
use remoteingress_core::hub::flow_admission::{Backlog, UnknownFlows, WaitingBytes, admit_flow};
use remoteingress_core::hub::upstream::{NoTarget, Opening, Target, Upstream};
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::resolve::ResolveError;
use remoteingress_os::udp::ReceiveBatch;
use remoteingress_os::udp_runs::Runs;
use remoteingress_proto::flow::{FlowId, HubFlows, TunnelDatagram};
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_proxy_protocol::Protocol;
use remoteingress_tunnel::session::flow_channel::FlowChannel;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;

/// A target's name that isn't resolved within this gets no more of a client's patience.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The buffers of a worker's flows. They are empty between two turns.
pub(super) struct FlowBuffers {
    /// Datagrams that a target has sent.
    received: RefCell<ReceiveBatch>,
    /// Datagrams on their way to targets.
    to_targets: RefCell<Runs<ToTarget>>,
}

impl FlowBuffers {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            received: RefCell::new(ReceiveBatch::new()),
            to_targets: RefCell::default(),
        })
    }
}

/// The flows of one session.
pub(super) struct FlowTable {
    session: Rc<SessionContext>,
    buffers: Rc<FlowBuffers>,
    flows: RefCell<HubFlows<Rc<Flow>>>,
    channel: FlowChannel,
    unknown: UnknownFlows,
    /// Bytes that wait for names.
    waiting: WaitingBytes,
}

impl FlowTable {
    pub(super) fn new(session: Rc<SessionContext>, buffers: Rc<FlowBuffers>) -> Rc<Self> {
        let config = session.worker.state.config();
        let max = config.limits.max_udp_flows_per_edge.count();
        let idle = config.engine.udp_idle_timeout;
        let flows = HubFlows::new(idle, max, session.counters.flows.clone());
        Rc::new(Self {
            session,
            buffers,
            flows: RefCell::new(flows),
            channel: FlowChannel::default(),
            unknown: UnknownFlows::new(Instant::now()),
            waiting: WaitingBytes::default(),
        })
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
        self.buffers.to_targets.borrow_mut().flush();
    }

    /// The ports of the edge have changed: flows whose target is another one now begin anew with that.
    pub(super) fn retarget(self: &Rc<Self>) {
        let now = Instant::now();
        let moved: Vec<Rc<Flow>> = {
            let flows = self.flows.borrow();
            let is_moved =
                |flow: &Flow| !self.pick(flow.header).is_ok_and(|now| now == flow.target);
            let flows = flows.iter().map(|(_, flow)| flow);
            flows.filter(|flow| is_moved(flow)).cloned().collect()
        };
        for flow in moved {
            self.flows.borrow_mut().remove(flow.id);
            // Its port may be gone; the edge closes it then.
            if let Err(reason) = self.open(now, flow.id, flow.header) {
                tracing::debug!(edge = %self.session.edge, ?reason, "a flow's target is gone");
            }
        }
    }

    /// Ends flows that were silent for too long, and counts what the tunnel has dropped.
    pub(super) fn sweep(&self) {
        let config = self.session.worker.state.config();
        let max = config.limits.max_udp_flows_per_edge.count();
        let mut flows = self.flows.borrow_mut();
        // The configuration may have been read again.
        flows.set_limits(config.engine.udp_idle_timeout, max);
        flows.expire(Instant::now());
        drop(flows);
        self.channel
            .count_drops(&self.session.local, &self.session.counters.udp);
    }

    /// Ends all flows.
    pub(super) fn end(&self) {
        self.sweep();
        self.flows.borrow_mut().clear();
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
                if header.is_some() && flow.socket().is_some() {
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
        flow.carry(&mut self.buffers.to_targets.borrow_mut(), payload)
    }

    /// The edge needn't send the header any more.
    fn acknowledge(&self, now: Instant, flow: &Flow) {
        if flow.acknowledgements.is_due(now) {
            self.channel.say_known(&self.session.local, now, flow.id);
            self.session.local.notify();
        }
    }

    fn pick(&self, header: StreamHeader) -> Result<Target<UdpProxyProtocol>, NoTarget> {
        let entry = self.session.entry();
        let config = self.session.worker.state.config();
        let upstream = Upstream {
            config: &config,
            entry: &entry,
            ports: &entry.udp,
        };
        upstream.pick(&Opening { header })
    }

    /// A flow with its socket, or without one yet where a name must be resolved first.
    fn open(
        self: &Rc<Self>,
        now: Instant,
        id: FlowId,
        header: StreamHeader,
    ) -> Result<Rc<Flow>, UdpDrop> {
        let worker = &self.session.worker;
        let state = &worker.state;
        let target = self.pick(header)?;
        let open = state.flow_sockets.load(Ordering::Relaxed);
        admit_flow(open, state.max_flow_sockets).inspect_err(|_| self.warn_of_descriptors())?;
        let resolved = worker
            .resolver
            .resolve_now(&target.host, target.port, now.into());
        let proxy_header = match target.proxy_protocol {
            UdpProxyProtocol::None => Bytes::new(),
            UdpProxyProtocol::FirstDatagram | UdpProxyProtocol::EveryDatagram => {
                v2_header(Protocol::Datagram, &self.session.entry(), &header)
            }
        };
        let backlog = Backlog::new(self.waiting.clone());
        let session = self.session.clone();
        let flow = Flow::new(session, id, header, target, proxy_header, backlog);
        match resolved {
            Some(Ok(address)) => self.connect(&flow, address)?,
            Some(Err(error)) => {
                self.warn_of_target(&flow, &error);
                return Err(UdpDrop::TargetUnreachable);
            }
            None => {}
        }
        let inserted = self.flows.borrow_mut().insert(now, id, flow.clone());
        inserted.map_err(|_| UdpDrop::MaxFlowsPerEdge)?;
        let task = spawn_local(serve(self.clone(), Rc::downgrade(&flow)));
        // A flow has one task.
        let _ = flow.task.set(task.abort_handle());
        if flow.socket().is_some() {
            self.acknowledge(now, &flow);
        }
        Ok(flow)
    }

    fn connect(&self, flow: &Flow, address: SocketAddr) -> Result<(), UdpDrop> {
        let connected = flow.connect(address);
        if connected == Err(UdpDrop::Descriptors) {
            self.warn_of_descriptors();
        }
        connected
    }

    fn warn_of_descriptors(&self) {
        self.session.warn(0, || {
            tracing::warn!(edge = %self.session.edge, "no descriptors are left for UDP flows");
        });
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
            let is_connected = flow.socket().is_some();
            (!is_connected).then(|| (flow.target.host.clone(), flow.target.port))
        }) else {
            return Ok(());
        };
        let now = tokio::time::Instant::now();
        let resolving = self.session.worker.resolver.resolve(&host, port, now);
        let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, resolving).await;
        let Some(flow) = flow.upgrade() else {
            return Ok(());
        };
        let address = match resolved {
            Ok(Ok(addresses)) => addresses.first().copied(),
            Ok(Err(error)) => {
                self.warn_of_target(&flow, &error);
                None
            }
            Err(_) => None,
        };
        self.connect(&flow, address.ok_or(UdpDrop::TargetUnreachable)?)?;
        self.acknowledge(Instant::now(), &flow);
        for payload in flow.backlog.take() {
            let sent = flow.carry(&mut self.buffers.to_targets.borrow_mut(), &payload);
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
        let is_known = self.flows.borrow_mut().from_target(now, id).is_some();
        for (_, payload) in self.buffers.received.borrow().datagrams() {
            let sent = if is_known {
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
        let waited = flow.upgrade().map_or(0, |flow| flow.backlog.take().len());
        counters.drop_many(reason, waited as u64);
        table.flows.borrow_mut().remove(id);
        return;
    }
    loop {
        let received = poll_fn(|cx| {
            let flow = flow.upgrade();
            let Some(socket) = flow.as_ref().and_then(|flow| flow.socket()) else {
                return Poll::Ready(None);
            };
            let mut batch = table.buffers.received.borrow_mut();
            socket.io.poll_receive(cx, &mut batch).map(Some)
        });
        match received.await {
            Some(Ok(())) => table.to_edge(id),
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                counters.drop(UdpDrop::TargetRefused);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a flow's socket has failed");
                counters.drop(UdpDrop::TargetUnreachable);
            }
            None => return,
        }
        // The session gets its turn before more is read: its queue is short.
        tokio::task::yield_now().await;
    }
}
