//! A UDP socket and the QUIC connections on it, on one worker.
//!
//! The endpoint's task reads the socket and gives each packet to its connection; the connection's own task, see
//! `driver.rs`, does the rest of the turn, or the endpoint itself for a connection that nobody drives any more.

use super::config::{ClientQuic, ServerQuic, client_endpoint_config};
use super::probing::with_open_window;
use super::steering::WorkerIds;
use bytes::BytesMut;
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Endpoint, Incoming, Transmit, VarInt,
};
use remoteingress_os::udp::{Fragments, ReceiveBatch, UdpSocket, socket_on, socket_outside};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Reads of one turn, so that other tasks of the worker get theirs: 4 of up to 32 packets, or more with GRO.
const ROUNDS: usize = 4;
/// Datagrams that one system call may send (GSO), and that the peer's may receive (GRO): 46 KB. With quinn's own 10 bulk took
/// 6 to 8 % more CPU per byte (bench, `quic`). On the path bursts don't grow, since pacing counts each packet.
const MAX_SEGMENTS: usize = 32;
/// Interval at which an endpoint checks connections that nobody drives: they only wait for their end.
const CLOSING_RECHECK: Duration = Duration::from_millis(100);

/// The answer to the first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The handshake begins.
    Accept,
    /// The client has to prove first that it receives at its address.
    Retry,
    /// The client is told that nobody serves it.
    Refuse,
}

/// Decides on new connections and takes those that are accepted.
pub(crate) trait Arrivals {
    /// Answers the first packet from `address`; `is_validated` if the client has proved that it receives there.
    fn admit(&self, address: SocketAddr, is_validated: bool) -> Admission;
    /// One that was admitted isn't a connection after all: its first packet was forged or broken.
    fn failed(&self, address: SocketAddr);
    /// Takes a connection whose handshake has begun.
    fn accepted(&self, endpoint: &Rc<QuicEndpoint>, slot: Rc<Slot>, address: SocketAddr);
}

/// A connection as the endpoint and its driver share it.
pub(crate) struct Slot {
    pub(super) handle: ConnectionHandle,
    pub(super) connection: RefCell<Connection>,
    /// Whoever drives it; None: the endpoint.
    pub(super) driver: Cell<Option<Waker>>,
    /// A packet that the socket didn't take.
    unsent: RefCell<Option<(Transmit, Vec<u8>)>>,
}

/// One worker's UDP socket with the QUIC connections on it. [`Self::run`] is its task.
pub(crate) struct QuicEndpoint {
    endpoint: RefCell<Endpoint>,
    socket: RefCell<Rc<UdpSocket>>,
    slots: RefCell<HashMap<ConnectionHandle, Rc<Slot>>>,
    /// Those that nobody drives any more.
    abandoned: RefCell<Vec<Rc<Slot>>>,
    /// Drivers that wait for room in the socket.
    blocked: RefCell<Vec<Waker>>,
    is_in_turn: Cell<bool>,
    /// The endpoint's own task.
    waker: Cell<Option<Waker>>,
    scratch: RefCell<Vec<u8>>,
}

crate::opaque::opaque_debug!(QuicEndpoint);

impl QuicEndpoint {
    /// A worker's endpoint at the hub.
    pub(crate) fn server(
        socket: std::net::UdpSocket,
        quic: &ServerQuic,
        ids: WorkerIds,
    ) -> io::Result<Rc<Self>> {
        let config = Arc::new(quic.endpoint_config(ids));
        let endpoint = Endpoint::new(config, Some(quic.config.clone()), true, None);
        Self::new(endpoint, socket)
    }

    /// A worker's endpoint for peers that it dials from this address; an unspecified one is any of its family.
    pub(crate) fn client(own: IpAddr) -> io::Result<Rc<Self>> {
        let config = Arc::new(client_endpoint_config());
        let endpoint = Endpoint::new(config, None, true, None);
        Self::new(endpoint, socket_on(own)?)
    }

    fn new(endpoint: Endpoint, socket: std::net::UdpSocket) -> io::Result<Rc<Self>> {
        let socket = UdpSocket::new(socket, Fragments::Forbidden)?.with_large_buffers();
        Ok(Rc::new(Self {
            endpoint: RefCell::new(endpoint),
            socket: RefCell::new(Rc::new(socket)),
            slots: RefCell::default(),
            abandoned: RefCell::default(),
            blocked: RefCell::default(),
            is_in_turn: Cell::new(false),
            waker: Cell::new(None),
            scratch: RefCell::default(),
        }))
    }

    /// Begins a connection to the hub at `address`; `choice` spreads connections over the hub's workers.
    pub(super) fn connect(
        &self,
        quic: &ClientQuic,
        address: SocketAddr,
        choice: u8,
    ) -> io::Result<Rc<Slot>> {
        let config = quic.for_worker(choice);
        let now = Instant::now();
        let connected = self
            .endpoint
            .borrow_mut()
            .connect(now, config, address, &quic.server_name);
        let (handle, connection) = connected.map_err(io::Error::other)?;
        Ok(self.insert(handle, connection))
    }

    /// Goes on from a new socket, as after a change of the route: the hub sees the connections' address change.
    pub(crate) fn rebind(&self) -> io::Result<()> {
        let own = self.socket.borrow().local_addr()?.ip();
        self.go_on_from(socket_on(own)?)
    }

    /// Goes on from a socket with a port outside of `wanted`, if its own is in there.
    pub(crate) fn vacate(&self, wanted: &[u16]) -> io::Result<Option<u16>> {
        let address = self.socket.borrow().local_addr()?;
        if !wanted.contains(&address.port()) {
            return Ok(None);
        }
        let socket = socket_outside(address.ip(), |port| wanted.contains(&port))?;
        self.go_on_from(socket)?;
        Ok(Some(address.port()))
    }

    /// It has no connection.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    fn go_on_from(&self, socket: std::net::UdpSocket) -> io::Result<()> {
        let socket = UdpSocket::new(socket, Fragments::Forbidden)?.with_large_buffers();
        *self.socket.borrow_mut() = Rc::new(socket);
        for slot in self.slots.borrow().values() {
            slot.connection.borrow_mut().local_address_changed();
            slot.wake();
        }
        self.wake();
        Ok(())
    }

    fn insert(&self, handle: ConnectionHandle, connection: Connection) -> Rc<Slot> {
        let slot = Rc::new(Slot {
            handle,
            connection: RefCell::new(connection),
            driver: Cell::new(None),
            unsent: RefCell::new(None),
        });
        self.slots.borrow_mut().insert(handle, slot.clone());
        slot
    }

    /// Runs for ever; for a client's endpoint `arrivals` is never asked.
    pub(crate) async fn run(
        self: Rc<Self>,
        batch: Rc<RefCell<ReceiveBatch>>,
        arrivals: Option<Rc<dyn Arrivals>>,
    ) {
        let mut timer = Box::pin(tokio::time::sleep(CLOSING_RECHECK));
        poll_fn(|cx| {
            self.waker.set(Some(cx.waker().clone()));
            self.is_in_turn.set(true);
            let more = self.receive(cx, &mut batch.borrow_mut(), arrivals.as_deref());
            self.tend(cx, &mut timer);
            self.unblock(cx);
            self.is_in_turn.set(false);
            if more {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Reads what has come; says whether there is more.
    fn receive(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
        arrivals: Option<&dyn Arrivals>,
    ) -> bool {
        let socket = self.socket.borrow().clone();
        for _ in 0..ROUNDS {
            match socket.poll_receive(cx, batch) {
                Poll::Ready(Ok(())) => {}
                // An ICMP error about a peer changes nothing: timers notice that it is gone.
                Poll::Ready(Err(_)) => continue,
                Poll::Pending => return false,
            }
            let now = Instant::now();
            for (meta, read) in batch.reads() {
                let mut rest = BytesMut::from(read);
                while !rest.is_empty() {
                    let packet = rest.split_to(meta.stride.clamp(1, rest.len()));
                    let ecn = meta
                        .ecn
                        .and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8));
                    self.handle(now, meta.addr, meta.dst_ip, ecn, packet, arrivals);
                }
            }
        }
        true
    }

    fn handle(
        self: &Rc<Self>,
        now: Instant,
        remote: SocketAddr,
        local: Option<IpAddr>,
        ecn: Option<quinn_proto::EcnCodepoint>,
        packet: BytesMut,
        arrivals: Option<&dyn Arrivals>,
    ) {
        let mut answer = self.scratch.borrow_mut();
        answer.clear();
        let event = self
            .endpoint
            .borrow_mut()
            .handle(now, remote, local, ecn, packet, &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let slot = self.slots.borrow().get(&handle).cloned();
                if let Some(slot) = slot {
                    slot.connection.borrow_mut().handle_event(event);
                    slot.wake();
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                drop(answer);
                self.incoming(now, incoming, arrivals);
            }
            Some(DatagramEvent::Response(transmit)) => self.send_answer(&transmit, &answer),
            None => {}
        }
    }

    fn incoming(
        self: &Rc<Self>,
        now: Instant,
        incoming: Incoming,
        arrivals: Option<&dyn Arrivals>,
    ) {
        let address = incoming.remote_address();
        let mut answer = self.scratch.borrow_mut();
        answer.clear();
        let mut endpoint = self.endpoint.borrow_mut();
        let is_validated = incoming.remote_address_validated();
        let admission = arrivals.map_or(Admission::Refuse, |arrivals| {
            arrivals.admit(address, is_validated)
        });
        let transmit = match admission {
            Admission::Accept => match endpoint.accept(incoming, now, &mut answer, None) {
                Ok((handle, connection)) => {
                    drop((endpoint, answer));
                    let slot = self.insert(handle, connection);
                    if let Some(arrivals) = arrivals {
                        arrivals.accepted(self, slot, address);
                    }
                    return;
                }
                Err(error) => {
                    if let Some(arrivals) = arrivals {
                        arrivals.failed(address);
                    }
                    error.response
                }
            },
            Admission::Retry => match endpoint.retry(incoming, &mut answer) {
                Ok(transmit) => Some(transmit),
                Err(error) => Some(endpoint.refuse(error.into_incoming(), &mut answer)),
            },
            Admission::Refuse => Some(endpoint.refuse(incoming, &mut answer)),
        };
        drop(endpoint);
        if let Some(transmit) = transmit {
            self.send_answer(&transmit, &answer);
        }
    }

    /// A packet that belongs to no connection; one that doesn't leave at once is lost like any other.
    fn send_answer(&self, transmit: &Transmit, packet: &[u8]) {
        let _ = self.try_send(transmit, packet);
    }

    fn try_send(&self, transmit: &Transmit, contents: &[u8]) -> io::Result<()> {
        let contents = contents.get(..transmit.size).unwrap_or(contents);
        let sent = self.socket.borrow().try_send(&quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit
                .ecn
                .and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8)),
            contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        });
        match sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            // A packet too large for the path, a route that is gone: to QUIC that is a lost packet.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Sends what a connection has to send, at most `most` system calls; says whether there may be more at once.
    pub(super) fn transmit(&self, slot: &Slot, waker: &Waker, now: Instant, most: usize) -> bool {
        let mut unsent = slot.unsent.borrow_mut();
        let mut buffer = self.scratch.borrow_mut();
        let segments = self.socket.borrow().max_segments().min(MAX_SEGMENTS);
        for _ in 0..most {
            if let Some((transmit, packets)) = &*unsent {
                if self.try_send(transmit, packets).is_err() {
                    self.wait_for_room(waker);
                    return false;
                }
                *unsent = None;
            }
            buffer.clear();
            let mut connection = slot.connection.borrow_mut();
            let Some(transmit) = connection.poll_transmit(now, segments, &mut buffer) else {
                return false;
            };
            drop(connection);
            if self.try_send(&transmit, &buffer).is_err() {
                *unsent = Some((transmit, buffer.clone()));
                self.wait_for_room(waker);
                return false;
            }
        }
        true
    }

    /// Sends one packet that asks for an acknowledgement, however much is on its way.
    pub(super) fn probe(&self, slot: &Slot, now: Instant) {
        if slot.unsent.borrow().is_some() {
            return;
        }
        let mut buffer = self.scratch.borrow_mut();
        buffer.clear();
        let mut packet = None;
        with_open_window(&mut slot.connection.borrow_mut(), |connection| {
            connection.ping();
            packet = connection.poll_transmit(now, 1, &mut buffer);
        });
        if let Some(transmit) = packet {
            // One that doesn't leave is lost like any other.
            let _ = self.try_send(&transmit, &buffer);
        }
    }

    fn wait_for_room(&self, waker: &Waker) {
        self.blocked.borrow_mut().push(waker.clone());
        // The endpoint's own turn ends with a look at the socket.
        if !self.is_in_turn.get() {
            self.wake();
        }
    }

    /// Wakes the drivers that wait for room, if there is some.
    fn unblock(&self, cx: &mut Context<'_>) {
        if self.blocked.borrow().is_empty() {
            return;
        }
        let socket = self.socket.borrow().clone();
        if socket.poll_send_ready(cx).is_ready() {
            for waker in self.blocked.take() {
                waker.wake();
            }
        }
    }

    /// Lets endpoint and connection tell each other what concerns both: connection ids, and the connection's end.
    pub(super) fn exchange(&self, slot: &Slot) {
        let mut connection = slot.connection.borrow_mut();
        while let Some(event) = connection.poll_endpoint_events() {
            let is_drained = event.is_drained();
            let answer = self.endpoint.borrow_mut().handle_event(slot.handle, event);
            if let Some(answer) = answer {
                connection.handle_event(answer);
            }
            if is_drained {
                self.slots.borrow_mut().remove(&slot.handle);
            }
        }
    }

    /// Looks after connections that nobody drives, until the last of their packets has left and been repeated.
    fn tend(self: &Rc<Self>, cx: &mut Context<'_>, timer: &mut Pin<Box<Sleep>>) {
        let abandoned = self.abandoned.take();
        if abandoned.is_empty() {
            return;
        }
        let now = Instant::now();
        for slot in abandoned {
            slot.connection.borrow_mut().handle_timeout(now);
            while slot.connection.borrow_mut().poll().is_some() {}
            self.exchange(&slot);
            self.transmit(&slot, cx.waker(), now, MAX_SEGMENTS);
            self.exchange(&slot);
            let slots = self.slots.borrow();
            let is_there = slots
                .get(&slot.handle)
                .is_some_and(|there| Rc::ptr_eq(there, &slot));
            if is_there {
                self.abandoned.borrow_mut().push(slot);
            }
        }
        timer.as_mut().reset((now + CLOSING_RECHECK).into());
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Ends a connection that its driver has let go of; the endpoint does what is left to do.
    pub(super) fn abandon(&self, slot: &Rc<Slot>, code: u32, reason: &'static [u8]) {
        let mut connection = slot.connection.borrow_mut();
        if !connection.is_closed() {
            connection.close(Instant::now(), VarInt::from_u32(code), reason.into());
        }
        drop(connection);
        slot.driver.set(None);
        // At once: the worker may be about to end.
        self.transmit(slot, Waker::noop(), Instant::now(), 1);
        self.abandoned.borrow_mut().push(slot.clone());
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

crate::opaque::opaque_debug!(Slot);

impl Slot {
    /// Something has happened to the connection: whoever drives it gets a turn.
    fn wake(&self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }
}
