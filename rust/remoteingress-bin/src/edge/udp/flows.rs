//! A worker's table of UDP flows: a client's datagram into a session, a target's back to its client (D10).

use super::listener::{StrayDatagram, UdpListener};
use crate::access::{EndedFlow, reason_of};
use crate::edge::state::EdgeState;
use crate::listing::{FlowFacts, Flows};
use bytes::Bytes;
use remoteingress_config::EdgeConfig;
use remoteingress_core::client_network::client_network;
use remoteingress_core::edge::placement::{is_live, place_flow};
use remoteingress_core::edge::port_table::ListenerId;
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::udp::ReceiveBatch;
use remoteingress_os::udp_runs::{Destination, Runs, transmit};
use remoteingress_proto::flow::{
    EdgeFlows, Ended, FlowId, FlowKey, MAX_PAYLOAD, Refusal, Settings, TunnelDatagram,
};
use remoteingress_proto::handshake::Transport;
use remoteingress_proto::mux::{Carrier, GoAwayCode};
use remoteingress_proto::wire::header::{Protocol, StreamHeader};
use remoteingress_tunnel::session::flow_channel::FlowChannel;
use remoteingress_tunnel::session::local_session::LocalSession;
use remoteingress_tunnel::stream::facts::Facts;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Datagrams of other workers that wait for one: a few reads' worth, at most 16 MiB.
pub(in crate::edge) const MAX_STRAYS: usize = 256;
/// Flows at other workers that are remembered; others move to this worker when it has a session again.
const MAX_LENT: usize = 16_384;
/// A flow that another worker's session carries.
#[derive(Clone, Copy, Debug)]
struct Lent {
    ordinal: usize,
    used_at: Instant,
    idle: Duration,
}

/// The UDP part of a worker.
pub(in crate::edge) struct EdgeUdp {
    state: Arc<EdgeState>,
    ordinal: usize,
    flows: RefCell<EdgeFlows<Arc<UdpListener>, Box<Name>>>,
    /// Flows stay where they have begun: elsewhere the target would see them come from another port.
    lent: RefCell<HashMap<FlowKey, Lent>>,
    pub(super) batch: RefCell<ReceiveBatch>,
    /// Answers to clients; empty between two turns.
    answers: RefCell<Runs<Client>>,
}

/// What the access log says of the session that carries a flow. Boxed, since without that log none has one.
struct Name {
    id: String,
    transport: Transport,
}

/// Destination of answers: a client by the listener that it has asked, from the address that it has asked.
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

impl EdgeUdp {
    pub(in crate::edge) fn new(state: &Arc<EdgeState>, ordinal: usize) -> Rc<Self> {
        let settings = settings(&state.config());
        let mut flows = EdgeFlows::new(settings, state.udp_quota.clone());
        if state.access.is_some() {
            flows.keep_ended();
        }
        Rc::new(Self {
            state: state.clone(),
            ordinal,
            flows: RefCell::new(flows),
            lent: RefCell::default(),
            batch: RefCell::new(ReceiveBatch::new()),
            answers: RefCell::default(),
        })
    }

    pub(in crate::edge) fn new_session(&self) -> u32 {
        self.flows.borrow_mut().new_session(Instant::now())
    }

    pub(in crate::edge) fn active_flows(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Writes the flows that have ended to the access log, if there is one.
    fn log_ended(&self) {
        let Some(access) = &self.state.access else {
            return;
        };
        let (ended, unseen) = self.flows.borrow_mut().take_ended();
        access.count_lost(unseen);
        for ended in ended {
            let Ended { flow, end, at, .. } = ended;
            // A session had to be welcome to carry it.
            let Some(name) = ended.name else {
                access.count_lost(1);
                continue;
            };
            let header = header(flow.key);
            let ended = EndedFlow {
                id: Some(name.id),
                facts: &Facts::new(&header, None),
                moved: (flow.received, flow.sent),
                reason: reason_of(end),
                begun_at: flow.begun_at,
                ended_at: at,
                first_byte: flow.answered_after,
            };
            access.flow(&self.state.edge_id, name.transport, ended);
        }
    }

    pub(in crate::edge) fn sweep(&self) {
        let now = Instant::now();
        let mut flows = self.flows.borrow_mut();
        // The configuration may have been read again.
        flows.set(settings(&self.state.config()));
        flows.expire(now);
        drop(flows);
        let mut lent = self.lent.borrow_mut();
        lent.retain(|_, lent| now < lent.used_at + lent.idle);
        drop(lent);
        self.log_ended();
    }

    /// How long a flow of this listener may be silent: where the ends differ, the hub's word counts.
    fn idle_timeout(&self, listener: SocketAddr) -> Duration {
        let own = self.state.config().engine.udp_idle_timeout;
        self.state.hub.udp_idle(listener).unwrap_or(own)
    }

    /// A listener is gone, and its flows with it.
    pub(in crate::edge) fn close(&self, id: ListenerId) {
        let mut flows = self.flows.borrow_mut();
        flows.retain(Instant::now(), |listener| listener.id != id);
    }

    /// All flows end.
    pub(in crate::edge) fn end(&self) {
        self.flows.borrow_mut().retain(Instant::now(), |_| false);
        self.log_ended();
    }

    /// Sends a client's datagram into a session, whose driver is to be notified once for all of a batch.
    pub(super) fn to_hub(
        &self,
        (local, channel): (&LocalSession, &FlowChannel),
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
        let network = || {
            let client = key.client.ip();
            let is_exempt = self.state.config().limits.exempt.contains(client);
            (!is_exempt).then(|| client_network(client))
        };
        let begin = || (listener.clone(), self.idle_timeout(key.local));
        let admitted = flows.from_client(now, key, network, payload.len(), begin);
        let departure = admitted.map_err(|refusal| {
            if refusal == Refusal::IdsExhausted {
                tracing::info!(
                    worker = self.ordinal,
                    "flow ids are used up: a new session takes over"
                );
                let code = GoAwayCode::Exhausted;
                local.session().go_away(code, Duration::ZERO);
                local.closing().notify_one();
            }
            UdpDrop::from(refusal)
        })?;
        // The hub of each further session needs it.
        let header = departure.with_header.then(|| header(key));
        if header.is_some() && self.state.access.is_some() {
            flows.name(departure.flow, || name(local, departure.flow));
        }
        channel.send(local, now, departure.flow, header.as_ref(), payload)
    }

    /// The worker that has this flow, if it is another one and can still carry it.
    pub(super) fn lent_to(&self, key: &FlowKey) -> Option<usize> {
        let lent = self.lent.borrow();
        if lent.is_empty() {
            return None;
        }
        let ordinal = lent.get(key)?.ordinal;
        is_live(ordinal, self.state.hub.uplink.loads()).then_some(ordinal)
    }

    /// To the worker that has the flow already, or the least loaded one that has a session.
    pub(super) fn lend(
        &self,
        now: Instant,
        lent: Option<usize>,
        listener: &Arc<UdpListener>,
        key: FlowKey,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        let ordinal = place_flow(lent, self.state.hub.uplink.loads());
        let ordinal = ordinal.ok_or(UdpDrop::NoSession)?;
        let strays = self.state.strays.get(ordinal).and_then(OnceLock::get);
        let strays = strays.ok_or(UdpDrop::NoSession)?;
        let mut lent = self.lent.borrow_mut();
        // This worker's own session may be about to be welcome: what goes to itself only waits for that.
        let is_lent = ordinal != self.ordinal;
        if is_lent && (lent.len() < MAX_LENT || lent.contains_key(&key)) {
            lent.insert(
                key,
                Lent {
                    ordinal,
                    used_at: now,
                    idle: self.idle_timeout(key.local),
                },
            );
        }
        let room = strays.try_reserve().map_err(|_| UdpDrop::HandoverFull)?;
        room.send(StrayDatagram {
            listener: listener.clone(),
            key,
            payload: Bytes::copy_from_slice(payload),
        });
        Ok(())
    }

    /// A tunnel datagram has come, in the session that flows know by this number.
    pub(super) fn take_datagram(&self, session: u32, channel: &FlowChannel, datagram: &Bytes) {
        let now = Instant::now();
        match TunnelDatagram::decode(datagram) {
            // Only hubs need headers.
            Ok(TunnelDatagram::Payload { flow, payload, .. }) => self.answer(now, flow, &payload),
            Ok(TunnelDatagram::Fragment { flow, fragment, .. }) => {
                if let Some(payload) = channel.join(now, flow, &fragment) {
                    self.answer(now, flow, &payload);
                }
            }
            Ok(TunnelDatagram::Known(flow)) => {
                self.flows.borrow_mut().known(flow, session);
            }
            Ok(TunnelDatagram::Unknown(flow)) => {
                self.flows.borrow_mut().unknown(flow, session);
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

impl Flows for EdgeUdp {
    fn begun(&self) -> Vec<(FlowId, Instant)> {
        let flows = self.flows.borrow();
        flows.iter().map(|flow| (flow.id, flow.begun_at)).collect()
    }

    fn facts(&self, id: FlowId) -> Option<FlowFacts> {
        let flow = self.flows.borrow().get(id)?;
        Some(FlowFacts {
            client: flow.key.client,
            listener: flow.key.local,
            target: None,
            bytes_in: flow.received,
            bytes_out: flow.sent,
            waits_for: None,
        })
    }
}

/// Flows that begin while the worker ends end with it.
impl Drop for EdgeUdp {
    fn drop(&mut self) {
        self.end();
    }
}

fn name(local: &LocalSession, flow: FlowId) -> Option<Box<Name>> {
    let transport = match local.session().carrier() {
        Carrier::Ordered => Transport::TcpTls,
        Carrier::Lanes => Transport::Quic,
    };
    let id = local.flow_name(flow)?;
    Some(Box::new(Name { id, transport }))
}

fn header(key: FlowKey) -> StreamHeader {
    StreamHeader {
        protocol: Protocol::Udp,
        listener_port: key.local.port(),
        client: key.client,
        listener: key.local,
    }
}

fn settings(config: &EdgeConfig) -> Settings {
    Settings {
        unvalidated_reply_factor: config.limits.unvalidated_reply_factor.get(),
    }
}
