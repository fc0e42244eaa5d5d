//! UDP at the edge: a client's datagram into this worker's session, a target's back to its client (D10).
//!
//! The kernel spreads clients over the workers' sockets. A worker without a live session gives what it
//! reads to one that has one; that worker answers through the socket of the first.

use super::session::EdgeSession;
use super::state::EdgeState;
use super::worker::EdgeWorker;
use bytes::Bytes;
use remoteingress_core::edge::port_table::ListenerId;
use remoteingress_core::party::party;
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::udp::{Fragments, ReceiveBatch, UdpSocket};
use remoteingress_os::udp_runs::{Destination, Runs, transmit};
use remoteingress_os::worker::Gauge;
use remoteingress_proto::flow::{
    EdgeFlows, FlowId, FlowKey, MAX_PAYLOAD, Refusal, Settings, TunnelDatagram,
};
use remoteingress_proto::mux::GoAwayCode;
use remoteingress_proto::wire::header::{Protocol, StreamHeader};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Datagrams of other workers that wait for one: a few reads' worth, at most 16 MiB.
pub(crate) const MAX_STRAYS: usize = 256;
/// Flows at other workers that are remembered; others move to this worker when it has a session again.
const MAX_LENT: usize = 16_384;
/// A listener that can't be read is tried again after this.
const RECEIVE_RETRY: Duration = Duration::from_millis(100);

/// A bound UDP socket of a port. It outlives its worker's task while other workers answer through it.
#[derive(Debug)]
pub(crate) struct UdpListener {
    id: ListenerId,
    socket: UdpSocket,
    bound: SocketAddr,
    is_closed: AtomicBool,
}

/// A datagram whose worker has no session, on its way to another.
#[derive(Debug)]
pub(crate) struct StrayDatagram {
    listener: Arc<UdpListener>,
    key: FlowKey,
    payload: Bytes,
}

/// A flow that another worker's session carries.
#[derive(Clone, Copy, Debug)]
struct Lent {
    ordinal: usize,
    used_at: Instant,
}

/// The UDP part of a worker.
pub(crate) struct EdgeUdp {
    state: Arc<EdgeState>,
    ordinal: usize,
    flows: RefCell<EdgeFlows<Arc<UdpListener>>>,
    /// Flows stay where they have begun: elsewhere the target would see them come from another port.
    lent: RefCell<HashMap<FlowKey, Lent>>,
    batch: RefCell<ReceiveBatch>,
    /// Answers to clients; empty between two turns.
    answers: RefCell<Runs<Client>>,
}

/// Where answers go: a client by the listener that it has asked, from the address that it has asked.
struct Client {
    address: SocketAddr,
    local: SocketAddr,
    listener: Arc<UdpListener>,
    state: Arc<EdgeState>,
}

impl Destination for Client {
    fn max_segments(&self) -> usize {
        self.listener.socket.max_segments()
    }

    fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        // Without an address of its own, the answer leaves from where the question came to.
        let is_unspecified = self.listener.bound.ip().is_unspecified();
        let source = is_unspecified.then(|| self.local.ip());
        let transmit = transmit(self.address, contents, segment_size, source);
        self.listener.socket.send_now(&transmit)
    }

    fn count(&self, datagrams: u64, sent: io::Result<()>) {
        let counters = &self.state.udp;
        match sent {
            Ok(()) => counters.count_out(datagrams),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                counters.drop_many(UdpDrop::SocketFull, datagrams);
            }
            Err(error) => {
                tracing::debug!(client = %self.address, %error, "failed to answer a client");
                counters.drop_many(UdpDrop::SendFailed, datagrams);
            }
        }
    }
}

impl UdpListener {
    pub(crate) fn new(id: ListenerId, socket: std::net::UdpSocket) -> io::Result<Arc<Self>> {
        let bound = socket.local_addr()?;
        Ok(Arc::new(Self {
            id,
            socket: UdpSocket::new(socket, Fragments::Allowed)?.with_large_buffers(),
            bound,
            is_closed: AtomicBool::new(false),
        }))
    }
}

/// Reads a listener's socket until told to stop; then its flows are over.
pub(crate) async fn serve_udp(
    worker: Rc<EdgeWorker>,
    listener: Arc<UdpListener>,
    stop: Rc<Notify>,
) {
    let udp = worker.udp.clone();
    loop {
        let received = tokio::select! {
            // The batch is empty again before this task waits the next time.
            received = poll_fn(|cx| listener.socket.poll_receive(cx, &mut udp.batch.borrow_mut())) => received,
            () = stop.notified() => break,
        };
        match received {
            Ok(()) => worker.take_batch(&listener),
            Err(error) => {
                let port = listener.bound.port();
                tracing::debug!(port, %error, "failed to read a UDP listener");
                tokio::time::sleep(RECEIVE_RETRY).await;
            }
        }
        // The session gets its turn before more is read: its queue is short.
        tokio::task::yield_now().await;
    }
    listener.is_closed.store(true, Ordering::Relaxed);
    udp.close(listener.id);
}

impl EdgeWorker {
    /// Sends what was read just now on its way.
    fn take_batch(&self, listener: &Arc<UdpListener>) {
        let session = self.welcome();
        let now = Instant::now();
        let port = listener.bound.port();
        for (meta, payload) in self.udp.batch.borrow().datagrams() {
            self.state.udp.count_in(1);
            let ip = match meta.dst_ip {
                Some(ip) if listener.bound.ip().is_unspecified() => ip,
                Some(_) | None => listener.bound.ip(),
            };
            let key = FlowKey {
                client: meta.addr,
                local: SocketAddr::new(ip, port),
            };
            let sent = match (&session, self.udp.lent_to(&key)) {
                (Some(session), None) => self.udp.to_hub(session, now, listener, key, payload),
                (_, lent) => self.udp.lend(now, lent, listener, key, payload),
            };
            if let Err(reason) = sent {
                self.state.udp.drop(reason);
            }
        }
        if let Some(session) = session {
            session.local.notify();
        }
    }

    /// Another worker had no session for this datagram.
    pub(super) fn take_in(&self, stray: &StrayDatagram) {
        let StrayDatagram {
            listener,
            key,
            payload,
        } = stray;
        // It isn't given away again: it could go round in circles.
        let sent = match self.welcome() {
            Some(session) => {
                let sent = self
                    .udp
                    .to_hub(&session, Instant::now(), listener, *key, payload);
                session.local.notify();
                sent
            }
            None => Err(UdpDrop::NoSession),
        };
        if let Err(reason) = sent {
            self.state.udp.drop(reason);
        }
    }
}

impl EdgeUdp {
    pub(crate) fn new(state: &Arc<EdgeState>, ordinal: usize) -> Rc<Self> {
        let settings = Settings {
            idle: state.config.engine.udp_idle_timeout,
            unvalidated_reply_factor: state.config.limits.unvalidated_reply_factor.get(),
        };
        Rc::new(Self {
            state: state.clone(),
            ordinal,
            flows: RefCell::new(EdgeFlows::new(settings, state.udp_quota.clone())),
            lent: RefCell::default(),
            batch: RefCell::new(ReceiveBatch::new()),
            answers: RefCell::default(),
        })
    }

    pub(crate) fn new_session(&self) -> u32 {
        self.flows.borrow_mut().new_session()
    }

    pub(crate) fn active_flows(&self) -> usize {
        self.flows.borrow().len()
    }

    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.flows.borrow_mut().expire(now);
        let idle = self.state.config.engine.udp_idle_timeout;
        let mut lent = self.lent.borrow_mut();
        lent.retain(|_, lent| now < lent.used_at + idle);
    }

    /// A listener is gone, and its flows with it.
    pub(crate) fn close(&self, id: ListenerId) {
        let mut flows = self.flows.borrow_mut();
        flows.retain(|listener| listener.id != id);
    }

    fn to_hub(
        &self,
        session: &EdgeSession,
        now: Instant,
        listener: &Arc<UdpListener>,
        key: FlowKey,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        if payload.len() > MAX_PAYLOAD {
            return Err(UdpDrop::TooLarge);
        }
        if listener.is_closed.load(Ordering::Relaxed) {
            return Err(UdpDrop::UnknownListener);
        }
        let mut flows = self.flows.borrow_mut();
        let party = party(key.client.ip());
        let admitted = flows.from_client(now, key, party, payload.len(), || listener.clone());
        let departure = admitted.map_err(|refusal| {
            if refusal == Refusal::IdsExhausted {
                tracing::info!(
                    worker = self.ordinal,
                    "flow ids are used up: a new session takes over"
                );
                let code = GoAwayCode::Exhausted;
                session.local.session().go_away(code, Duration::ZERO);
                session.local.closing().notify_one();
            }
            UdpDrop::from(refusal)
        })?;
        let header = departure.with_header.then(|| StreamHeader {
            protocol: Protocol::Udp,
            listener_port: key.local.port(),
            client: key.client,
            listener: key.local,
        });
        let (local, channel) = (&session.local, &session.channel);
        channel.send(local, now, departure.flow, header.as_ref(), payload)
    }

    /// The worker that has this flow, if it is another one and can still carry it.
    fn lent_to(&self, key: &FlowKey) -> Option<usize> {
        let lent = self.lent.borrow();
        if lent.is_empty() {
            return None;
        }
        let ordinal = lent.get(key)?.ordinal;
        let is_live = self.state.gauges.get(ordinal).is_some_and(Gauge::is_live);
        is_live.then_some(ordinal)
    }

    /// To the worker that has the flow already, or the least loaded one that has a session.
    fn lend(
        &self,
        now: Instant,
        lent: Option<usize>,
        listener: &Arc<UdpListener>,
        key: FlowKey,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        let least = || self.state.least_loaded().map(|(ordinal, _)| ordinal);
        let ordinal = lent.or_else(least).ok_or(UdpDrop::NoSession)?;
        let strays = self.state.strays.get(ordinal).and_then(OnceLock::get);
        let strays = strays.ok_or(UdpDrop::NoSession)?;
        let mut lent = self.lent.borrow_mut();
        // This worker's own session may be about to be welcome: what goes to itself only waits for that.
        let is_lent = ordinal != self.ordinal;
        if is_lent && (lent.len() < MAX_LENT || lent.contains_key(&key)) {
            let used_at = now;
            lent.insert(key, Lent { ordinal, used_at });
        }
        let room = strays.try_reserve().map_err(|_| UdpDrop::HandoverFull)?;
        room.send(StrayDatagram {
            listener: listener.clone(),
            key,
            payload: Bytes::copy_from_slice(payload),
        });
        Ok(())
    }

    /// A tunnel datagram has come.
    pub(super) fn take_datagram(&self, session: &EdgeSession, datagram: &Bytes) {
        let now = Instant::now();
        match TunnelDatagram::decode(datagram) {
            // Only hubs need headers.
            Ok(TunnelDatagram::Payload { flow, payload, .. }) => self.answer(now, flow, &payload),
            Ok(TunnelDatagram::Fragment { flow, fragment, .. }) => {
                if let Some(payload) = session.channel.join(now, flow, &fragment) {
                    self.answer(now, flow, &payload);
                }
            }
            Ok(TunnelDatagram::Known(flow)) => {
                self.flows.borrow_mut().known(flow, session.number.get());
            }
            Ok(TunnelDatagram::Unknown(flow)) => {
                self.flows.borrow_mut().unknown(flow, session.number.get());
            }
            Err(error) => {
                tracing::debug!(%error, "the hub sent a bad datagram");
                self.state.udp.drop(UdpDrop::Malformed);
            }
        }
    }

    /// To the client: one datagram for one of the target, and never an error (threats A1.6).
    fn answer(&self, now: Instant, flow: FlowId, payload: &[u8]) {
        let counters = &self.state.udp;
        let mut flows = self.flows.borrow_mut();
        let reply = match flows.to_client(now, flow, payload.len()) {
            Ok(reply) => reply,
            Err(refusal) => return counters.drop(refusal.into()),
        };
        let is_same = |to: &Client| {
            Arc::ptr_eq(&to.listener, reply.listener)
                && (to.address, to.local) == (reply.client, reply.local)
        };
        let client = || Client {
            address: reply.client,
            local: reply.local,
            listener: reply.listener.clone(),
            state: self.state.clone(),
        };
        self.answers.borrow_mut().push(&[payload], is_same, client);
    }

    /// Sends the answers that a turn has gathered.
    pub(super) fn flush(&self) {
        self.answers.borrow_mut().flush();
    }
}
