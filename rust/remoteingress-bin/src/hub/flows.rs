//! UDP at the hub: a flow's datagrams to its target through a socket of its own, and the target's answers back (D10).

use super::session::HubSession;
use super::state::HubState;
use super::target::{Target, TargetError, pick, v2_header};
use bytes::Bytes;
use remoteingress_config::{HubConfig, UdpProxyProtocol};
use remoteingress_core::client_network::TokenBucket;
use remoteingress_core::hub::registry::EdgeCounters;
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::resolve::ResolveError;
use remoteingress_os::udp::{Fragments, UdpSocket, any_socket};
use remoteingress_os::udp_runs::{Destination, Runs, transmit};
use remoteingress_proto::flow::{FlowId, HubFlows, TunnelDatagram};
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_proxy_protocol::Protocol;
use remoteingress_tunnel::session::flow_channel::FlowChannel;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, spawn_local};

/// Payload of flows whose target's name is being resolved, per session: the first datagrams of many clients. Each counts
/// for [`WAITING_OVERHEAD`] bytes more, so that tiny ones are bounded, too.
const MAX_WAITING_BYTES: usize = 1_024 * 1_024;
const WAITING_OVERHEAD: usize = 64;
/// Datagrams of one such flow: a burst of a client that doesn't wait for an answer.
const MAX_WAITING: usize = 32;
/// A flow's header is acknowledged again after this at the earliest; the edge repeats it meanwhile.
const ACKNOWLEDGE_AGAIN: Duration = Duration::from_millis(100);
/// FLOW_UNKNOWN per second and session, so that a hub that lost its flows doesn't answer each datagram.
const UNKNOWN_RATE: f64 = 1_000.0;
/// A target's name that isn't resolved within this gets no more of a client's patience.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The flows of one session.
pub(super) struct SessionFlows {
    table: RefCell<HubFlows<Rc<Flow>>>,
    channel: FlowChannel,
    unknown: RefCell<TokenBucket>,
    /// Bytes that wait for names.
    waiting: Rc<Cell<usize>>,
}

/// One client's association with its target. Dropping it ends its task.
pub(super) struct Flow {
    id: FlowId,
    header: StreamHeader,
    target: Target<UdpProxyProtocol>,
    /// What the target is told of the client; empty with `none`.
    proxy_header: Bytes,
    /// Absent while the target's name is resolved.
    socket: OnceCell<Connected>,
    is_greeted: Cell<bool>,
    waiting: RefCell<Vec<Box<[u8]>>>,
    waiting_of_all: Rc<Cell<usize>>,
    acknowledged_at: Cell<Option<Instant>>,
    task: OnceCell<AbortHandle>,
    state: Arc<HubState>,
    counters: Arc<EdgeCounters>,
}

struct Connected {
    io: UdpSocket,
    target: SocketAddr,
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        let waited = self.take_waiting().len();
        self.counters
            .udp
            .drop_many(UdpDrop::Resolving, waited as u64);
        self.state.flow_sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Flow {
    fn take_waiting(&self) -> Vec<Box<[u8]>> {
        let waiting = self.waiting.take();
        let bytes: usize = waiting.iter().map(|payload| waiting_cost(payload)).sum();
        self.waiting_of_all.set(self.waiting_of_all.get() - bytes);
        waiting
    }

    fn wait(&self, payload: &[u8]) -> Result<(), UdpDrop> {
        let bytes = self.waiting_of_all.get() + waiting_cost(payload);
        let mut waiting = self.waiting.borrow_mut();
        // The first ones stay: a flow's beginning is what it can't do without.
        if bytes > MAX_WAITING_BYTES || waiting.len() == MAX_WAITING {
            return Err(UdpDrop::Resolving);
        }
        self.waiting_of_all.set(bytes);
        // A slice of what the session has read would keep all of that.
        waiting.push(payload.into());
        Ok(())
    }

    fn connect(&self, target: SocketAddr) -> Result<(), UdpDrop> {
        let connected = || -> io::Result<Connected> {
            let socket = any_socket(target.is_ipv6())?;
            // From here on the kernel drops what others send, and tells of ICMP errors.
            socket.connect(target)?;
            let io = UdpSocket::new(socket, Fragments::Allowed)?;
            Ok(Connected { io, target })
        };
        match connected() {
            Ok(socket) => {
                // A flow is connected once.
                let _ = self.socket.set(socket);
                Ok(())
            }
            Err(error) => {
                let errno = error.raw_os_error();
                let is_short = matches!(errno, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS));
                tracing::debug!(%target, %error, "failed to open a flow's socket");
                Err(if is_short {
                    UdpDrop::Descriptors
                } else {
                    UdpDrop::TargetUnreachable
                })
            }
        }
    }

    /// Adds a datagram to what leaves in this turn; with `firstDatagram`, the header goes ahead alone.
    fn deliver(
        self: &Rc<Self>,
        socket: &Connected,
        runs: &mut Runs<ToTarget>,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        let header = match self.target.proxy_protocol {
            UdpProxyProtocol::None => &[],
            UdpProxyProtocol::FirstDatagram => {
                if !self.is_greeted.get() {
                    let sent = self.send(socket, &self.proxy_header, None);
                    sent.map_err(|error| self.reason(&error))?;
                    self.is_greeted.set(true);
                }
                &[]
            }
            UdpProxyProtocol::EveryDatagram => &self.proxy_header[..],
        };
        let is_same = |to: &ToTarget| Rc::ptr_eq(&to.0, self);
        runs.push(&[header, payload], is_same, || ToTarget(self.clone()));
        Ok(())
    }

    fn send(
        &self,
        socket: &Connected,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = transmit(socket.target, contents, segment_size, None);
        match socket.io.send_now(&transmit) {
            // That was the ICMP answer to an earlier datagram, and this one hasn't been sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.counters.udp.drop(UdpDrop::TargetRefused);
                socket.io.send_now(&transmit)
            }
            sent => sent,
        }
    }

    fn reason(&self, error: &io::Error) -> UdpDrop {
        if error.kind() == io::ErrorKind::WouldBlock {
            UdpDrop::SocketFull
        } else if error.kind() == io::ErrorKind::ConnectionRefused {
            UdpDrop::TargetRefused
        } else {
            tracing::debug!(target = %self.target.name(), %error, "failed to send to a target");
            UdpDrop::SendFailed
        }
    }
}

fn waiting_cost(payload: &[u8]) -> usize {
    payload.len() + WAITING_OVERHEAD
}

/// A flow that has its socket.
pub(super) struct ToTarget(Rc<Flow>);

impl ToTarget {
    fn connected(&self) -> &Connected {
        self.0.socket.get().expect("deliver has seen it")
    }
}

impl Destination for ToTarget {
    fn max_segments(&self) -> usize {
        self.connected().io.max_segments()
    }

    fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        self.0.send(self.connected(), contents, segment_size)
    }

    fn count(&self, datagrams: u64, sent: io::Result<()>) {
        let counters = &self.0.counters.udp;
        match sent {
            Ok(()) => counters.count_in(datagrams),
            Err(error) => counters.drop_many(self.0.reason(&error), datagrams),
        }
    }
}

impl SessionFlows {
    pub(super) fn new(config: &HubConfig, counters: &EdgeCounters) -> Self {
        let max = config.limits.max_udp_flows_per_edge.count();
        let idle = config.engine.udp_idle_timeout;
        Self {
            table: RefCell::new(HubFlows::new(idle, max, counters.flows.clone())),
            channel: FlowChannel::default(),
            unknown: RefCell::new(TokenBucket::full(Instant::now(), UNKNOWN_RATE)),
            waiting: Rc::default(),
        }
    }
}

impl HubSession {
    /// A tunnel datagram has come.
    pub(super) fn datagram(&self, datagram: &Bytes) {
        let now = Instant::now();
        let sent = match TunnelDatagram::decode(datagram) {
            Ok(TunnelDatagram::Payload {
                flow,
                header,
                payload,
            }) => self.to_target(now, flow, header, payload),
            Ok(TunnelDatagram::Fragment {
                flow,
                header,
                fragment,
            }) => match self.flows.channel.join(now, flow, &fragment) {
                Some(payload) => self.to_target(now, flow, header, payload),
                None => return,
            },
            // Only edges are told these.
            Ok(TunnelDatagram::Known(_) | TunnelDatagram::Unknown(_)) => Err(UdpDrop::Malformed),
            Err(error) => {
                tracing::debug!(edge = %self.edge, %error, "an edge sent a bad datagram");
                Err(UdpDrop::Malformed)
            }
        };
        if let Err(reason) = sent {
            self.counters.udp.drop(reason);
        }
    }

    fn to_target(
        &self,
        now: Instant,
        id: FlowId,
        header: Option<StreamHeader>,
        payload: Bytes,
    ) -> Result<(), UdpDrop> {
        let known = self.flows.table.borrow_mut().from_edge(now, id).cloned();
        let known = known.filter(|flow| header.is_none_or(|header| header == flow.header));
        let flow = match (known, header) {
            (Some(flow), header) => {
                if header.is_some() && flow.socket.get().is_some() {
                    self.acknowledge(now, &flow);
                }
                flow
            }
            (None, Some(header)) => self.open_flow(now, id, header)?,
            (None, None) => {
                let mut unknown = self.flows.unknown.borrow_mut();
                if unknown.take(now, UNKNOWN_RATE, UNKNOWN_RATE) {
                    self.flows.channel.say_unknown(&self.local, now, id);
                    self.local.notify();
                }
                return Err(UdpDrop::UnknownFlow);
            }
        };
        match flow.socket.get() {
            Some(socket) => {
                flow.deliver(socket, &mut self.worker.to_targets.borrow_mut(), &payload)
            }
            None => flow.wait(&payload),
        }
    }

    /// The edge needn't say the header any more.
    fn acknowledge(&self, now: Instant, flow: &Flow) {
        let last = flow.acknowledged_at.get();
        if last.is_none_or(|last| now >= last + ACKNOWLEDGE_AGAIN) {
            flow.acknowledged_at.set(Some(now));
            self.flows.channel.say_known(&self.local, now, flow.id);
            self.local.notify();
        }
    }

    /// A flow with its socket, or without one yet where a name must be resolved first.
    fn open_flow(
        &self,
        now: Instant,
        id: FlowId,
        header: StreamHeader,
    ) -> Result<Rc<Flow>, UdpDrop> {
        let state = &self.worker.state;
        let entry = self.entry.borrow().clone();
        let target = pick(&state.config, &entry, &entry.udp, &header).map_err(|error| {
            if matches!(error, TargetError::ClientRefused) {
                UdpDrop::ClientRefused
            } else {
                UdpDrop::UnknownListener
            }
        })?;
        if state.flow_sockets.load(Ordering::Relaxed) >= state.max_flow_sockets {
            self.complain_of_descriptors();
            return Err(UdpDrop::Descriptors);
        }
        let session = self.myself.upgrade().ok_or(UdpDrop::NoSession)?;
        let resolver = &self.worker.resolver;
        let resolved = resolver.resolve_now(&target.host, target.port, now.into());
        let proxy_header = match target.proxy_protocol {
            UdpProxyProtocol::None => Bytes::new(),
            UdpProxyProtocol::FirstDatagram | UdpProxyProtocol::EveryDatagram => {
                v2_header(Protocol::Datagram, &entry, &header)
            }
        };
        state.flow_sockets.fetch_add(1, Ordering::Relaxed);
        let flow = Rc::new(Flow {
            id,
            header,
            target,
            proxy_header,
            socket: OnceCell::new(),
            is_greeted: Cell::new(false),
            waiting: RefCell::default(),
            waiting_of_all: self.flows.waiting.clone(),
            acknowledged_at: Cell::new(None),
            task: OnceCell::new(),
            state: state.clone(),
            counters: self.counters.clone(),
        });
        match resolved {
            Some(Ok(address)) => self.connect(&flow, address)?,
            Some(Err(error)) => {
                self.complain_of_target(&flow, &error);
                return Err(UdpDrop::TargetUnreachable);
            }
            None => {}
        }
        let inserted = self.flows.table.borrow_mut().insert(now, id, flow.clone());
        inserted.map_err(|_| UdpDrop::MaxFlowsPerEdge)?;
        let task = spawn_local(serve(session, Rc::downgrade(&flow)));
        // A flow has one task.
        let _ = flow.task.set(task.abort_handle());
        if flow.socket.get().is_some() {
            self.acknowledge(now, &flow);
        }
        Ok(flow)
    }

    fn connect(&self, flow: &Flow, address: SocketAddr) -> Result<(), UdpDrop> {
        let connected = flow.connect(address);
        if connected == Err(UdpDrop::Descriptors) {
            self.complain_of_descriptors();
        }
        connected
    }

    fn complain_of_descriptors(&self) {
        self.worker.complain(&self.edge, 0, || {
            tracing::warn!(edge = %self.edge, "no descriptors are left for UDP flows");
        });
    }

    fn complain_of_target(&self, flow: &Flow, error: &ResolveError) {
        let port = flow.header.listener_port;
        self.worker.complain(&self.edge, port, || {
            tracing::warn!(edge = %self.edge, port, %error, "a UDP target can't be reached");
        });
    }

    /// The ports of the edge have changed: flows whose target is another one now begin anew with that.
    pub(super) fn retarget_flows(&self) {
        let state = &self.worker.state;
        let entry = self.entry.borrow().clone();
        let now = Instant::now();
        let moved: Vec<Rc<Flow>> = {
            let table = self.flows.table.borrow();
            let is_moved = |flow: &Flow| {
                let target = pick(&state.config, &entry, &entry.udp, &flow.header);
                !target.is_ok_and(|target| target == flow.target)
            };
            let flows = table.iter().map(|(_, flow)| flow);
            flows.filter(|flow| is_moved(flow)).cloned().collect()
        };
        for flow in moved {
            self.flows.table.borrow_mut().remove(flow.id);
            // Its port may be gone; the edge closes it then.
            if let Err(reason) = self.open_flow(now, flow.id, flow.header) {
                tracing::debug!(edge = %self.edge, ?reason, "a flow's target is gone");
            }
        }
    }

    pub(super) fn sweep_flows(&self) {
        self.flows.table.borrow_mut().expire(Instant::now());
        self.flows
            .channel
            .count_drops(&self.local, &self.counters.udp);
    }

    pub(super) fn end_flows(&self) {
        self.sweep_flows();
        self.flows.table.borrow_mut().clear();
    }

    /// Connects a flow whose target's name had to be resolved, and sends what has waited.
    async fn resolve(&self, flow: &Weak<Flow>) -> Result<(), UdpDrop> {
        let Some((host, port)) = flow.upgrade().and_then(|flow| {
            let is_connected = flow.socket.get().is_some();
            (!is_connected).then(|| (flow.target.host.clone(), flow.target.port))
        }) else {
            return Ok(());
        };
        let now = tokio::time::Instant::now();
        let resolving = self.worker.resolver.resolve(&host, port, now);
        let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, resolving).await;
        let Some(flow) = flow.upgrade() else {
            return Ok(());
        };
        let address = match resolved {
            Ok(Ok(addresses)) => addresses.first().copied(),
            Ok(Err(error)) => {
                self.complain_of_target(&flow, &error);
                None
            }
            Err(_) => None,
        };
        self.connect(&flow, address.ok_or(UdpDrop::TargetUnreachable)?)?;
        self.acknowledge(Instant::now(), &flow);
        for payload in flow.take_waiting() {
            let sent = match flow.socket.get() {
                Some(socket) => {
                    flow.deliver(socket, &mut self.worker.to_targets.borrow_mut(), &payload)
                }
                None => Err(UdpDrop::TargetUnreachable),
            };
            if let Err(reason) = sent {
                self.counters.udp.drop(reason);
            }
        }
        self.worker.to_targets.borrow_mut().flush();
        Ok(())
    }

    /// Sends what was read just now back to the edge.
    fn to_edge(&self, id: FlowId) {
        let now = Instant::now();
        let is_known = self.flows.table.borrow_mut().from_target(now, id).is_some();
        for (_, payload) in self.worker.batch.borrow().datagrams() {
            let sent = if is_known {
                self.flows.channel.send(&self.local, now, id, None, payload)
            } else {
                Err(UdpDrop::UnknownFlow)
            };
            match sent {
                Ok(()) => self.counters.udp.count_out(1),
                Err(reason) => self.counters.udp.drop(reason),
            }
        }
        self.local.notify();
    }
}

/// Reads the target's answers until the flow is gone, which ends this task.
async fn serve(session: Rc<HubSession>, flow: Weak<Flow>) {
    let Some(id) = flow.upgrade().map(|flow| flow.id) else {
        return;
    };
    if let Err(reason) = session.resolve(&flow).await {
        let waited = flow.upgrade().map_or(0, |flow| flow.take_waiting().len());
        session.counters.udp.drop_many(reason, waited as u64);
        session.flows.table.borrow_mut().remove(id);
        return;
    }
    loop {
        let received = poll_fn(|cx| {
            let flow = flow.upgrade();
            let Some(socket) = flow.as_ref().and_then(|flow| flow.socket.get()) else {
                return Poll::Ready(None);
            };
            let mut batch = session.worker.batch.borrow_mut();
            socket.io.poll_receive(cx, &mut batch).map(Some)
        });
        match received.await {
            Some(Ok(())) => session.to_edge(id),
            Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                session.counters.udp.drop(UdpDrop::TargetRefused);
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "a flow's socket has failed");
                session.counters.udp.drop(UdpDrop::TargetUnreachable);
            }
            None => return,
        }
        // The session gets its turn before more is read: its queue is short.
        tokio::task::yield_now().await;
    }
}
