//! One UDP client's association with its target, and the socket to that.

use super::connected::{Connected, Unopened, address_fault};
use crate::access::EndedFlow;
use crate::hub::context::SessionContext;
use crate::hub::pools::way::Held;
use bytes::Bytes;
use remoteingress_config::UdpProxyProtocol;
use remoteingress_config::reasons::StreamCloseReason;
use remoteingress_core::hub::flow_admission::{Acknowledgements, Backlog};
use remoteingress_core::hub::flow_sockets::FlowSocket;
use remoteingress_core::hub::target_addresses::{MAX_ADDRESSES, TargetAddresses};
use remoteingress_core::hub::upstream::{Opening, Target};
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::udp_runs::{Destination, Runs};
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_tunnel::stream::facts::Facts;
use std::cell::{Cell, OnceCell, RefCell};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// An address that hasn't refused a datagram for this long is the flow's, even if it answers nothing.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// A flow counts as a socket of the hub while it lives. Dropping it ends its task.
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) header: StreamHeader,
    pub(super) target: Target<UdpProxyProtocol>,
    /// Its place there, if the target is one of a pool.
    pub(super) held: Option<Box<Held>>,
    /// It tells the target who the client is; empty with `none`.
    proxy_header: Bytes,
    /// Absent while the target's name is resolved.
    socket: RefCell<Option<Rc<Connected>>>,
    /// Boxed: most targets have one address, and their flows none of this.
    choice: RefCell<Option<Box<Choice>>>,
    pub(super) backlog: Backlog,
    pub(super) acknowledgements: Acknowledgements,
    pub(super) task: OnceCell<AbortHandle>,
    pub(super) begun_at: Instant,
    /// Bytes to the target and from it.
    pub(super) moved: Cell<(u64, u64)>,
    /// Time until the target's first answer.
    pub(super) answered_after: Cell<Option<Duration>>,
    /// Reason why it ends, for the access log.
    pub(super) end: Cell<Option<StreamCloseReason>>,
    session: Rc<SessionContext>,
    _counted: FlowSocket,
}

/// The target has several addresses, and the flow goes over to the next one when its own fails.
struct Choice {
    addresses: TargetAddresses,
    /// Datagrams for the next address, in case the current one refuses them. Nothing is kept once it hasn't.
    kept: Backlog,
    phase: Phase,
    /// The flow's task, which waits at the socket.
    waiter: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The address has got nothing yet.
    Fresh,
    /// It has got datagrams since then, all of which are kept.
    Trying(Instant),
    /// The same, but more of them than are kept.
    Overflowed(Instant),
    /// It has answered, or hasn't refused for a while.
    Settled,
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        let waited = self.backlog.take().len() as u64;
        let session = &self.session;
        session.counters.udp.drop_many(UdpDrop::Resolving, waited);
        if let Some(access) = &session.worker.state.access {
            let ended = EndedFlow {
                id: session.local.flow_name(self.id),
                facts: &Facts::new(&self.header, Some(self.target.name().into())),
                moved: self.moved.get(),
                reason: self.end.get().unwrap_or(StreamCloseReason::IdleTimeout),
                begun_at: self.begun_at,
                ended_at: Instant::now(),
                first_byte: self.answered_after.get(),
            };
            access.flow(&session.edge, session.transport, ended);
        }
    }
}

impl Flow {
    /// A flow without its socket.
    pub(super) fn new(
        session: Rc<SessionContext>,
        id: FlowId,
        header: StreamHeader,
        (target, held): (Target<UdpProxyProtocol>, Option<Box<Held>>),
        proxy_header: Bytes,
        backlog: Backlog,
        counted: FlowSocket,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            header,
            target,
            held,
            proxy_header,
            socket: RefCell::default(),
            choice: RefCell::default(),
            backlog,
            acknowledgements: Acknowledgements::default(),
            task: OnceCell::new(),
            begun_at: Instant::now(),
            moved: Cell::default(),
            answered_after: Cell::new(None),
            end: Cell::new(None),
            session,
            _counted: counted,
        })
    }

    /// Notes why it ends. The first reason counts.
    pub(super) fn ends(&self, reason: StreamCloseReason) {
        self.end.set(self.end.get().or(Some(reason)));
    }

    /// As it was opened.
    pub(super) fn opening(&self) -> Opening {
        Opening {
            header: self.header,
        }
    }

    /// The target refuses what the flow sends, or can't be reached. That this machine lacks something says nothing of it.
    pub(super) fn failed(&self, reason: UdpDrop) {
        let is_of_target = matches!(reason, UdpDrop::TargetRefused | UdpDrop::TargetUnreachable);
        // Anybody can make a target that doesn't speak UDP refuse datagrams: that mustn't keep it from clients over TCP.
        let is_evidence = |held: &&Box<Held>| is_of_target && !held.is_over_tcp();
        if let Some(held) = self.held.as_ref().filter(is_evidence) {
            held.failed(&self.session.worker);
        }
    }

    /// Its target is dead or fails, and its pool lets such flows go over to another one.
    pub(super) fn is_unwell(&self) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.moves_flows() && !held.is_well(&self.session.worker))
    }

    /// After a failure: another target of its pool is to be tried.
    pub(super) fn is_to_move(&self) -> bool {
        let is_unanswered = self.moved.get().1 == 0;
        let moves = self.held.as_ref().is_some_and(|held| held.moves_flows());
        self.is_unwell() || moves && is_unanswered
    }

    /// True once the flow has its socket.
    pub(super) fn is_connected(&self) -> bool {
        self.socket.borrow().is_some()
    }

    pub(super) fn socket(&self) -> Option<Rc<Connected>> {
        self.socket.borrow().clone()
    }

    /// Opens the flow's socket to the first of these addresses that can be reached. `kept` is where its datagrams wait for
    /// the next address.
    pub(super) fn connect(
        &self,
        mut addresses: TargetAddresses,
        kept: Backlog,
    ) -> Result<(), Unopened> {
        let mut address = addresses.current();
        let socket = loop {
            match Connected::open(address) {
                Err(Unopened::Unreachable) if addresses.has_choice() => {
                    let next = addresses.handle_failure();
                    if next.is_again {
                        return Err(Unopened::Unreachable);
                    }
                    address = next.address;
                }
                opened => break opened?,
            }
        };
        *self.socket.borrow_mut() = Some(socket);
        if addresses.has_choice() {
            *self.choice.borrow_mut() = Some(Box::new(Choice {
                addresses,
                kept,
                phase: Phase::Fresh,
                waiter: None,
            }));
        }
        Ok(())
    }

    /// The flow's task waits at its socket; true if it is to watch for errors, too.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        let mut choice = self.choice.borrow_mut();
        if let Some(choice) = choice.as_mut() {
            choice.waiter = Some(waker.clone());
        }
        choice.is_some() || self.held.is_some()
    }

    /// The target has sent something.
    pub(super) fn answered(&self, now: Instant) {
        if self.moved.get().1 == 0 {
            let after = now.saturating_duration_since(self.begun_at);
            self.answered_after.set(Some(after));
            if let Some(held) = &self.held {
                held.succeeded(&self.session.worker, after);
            }
        }
        let mut choice = self.choice.borrow_mut();
        if let Some(choice) = choice.as_mut()
            && choice.addresses.handle_answer()
            && let Some(socket) = self.socket()
        {
            choice.settle();
            let mut good = self.session.worker.good_addresses.borrow_mut();
            good.remember(now, &self.target.host, socket.target);
        }
    }

    /// Keeps nothing any more for the case that the address refuses it, which it would have done by now.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(choice) = self.choice.borrow_mut().as_mut()
            && let Phase::Trying(since) | Phase::Overflowed(since) = choice.phase
            && now >= since + SETTLED_AFTER
        {
            choice.settle();
        }
    }

    /// The kernel has told that the target refuses what came by `socket`, or that it can't be reached.
    pub(super) fn handle_failure(&self, socket: &Rc<Connected>, reason: UdpDrop) {
        self.failed(reason);
        match self.phase() {
            Some(_) if !self.is_current(socket) => {}
            Some(Phase::Trying(_)) => self.go_over(reason),
            Some(_) => {
                self.session.counters.udp.drop(reason);
                self.go_over(reason);
            }
            None => self.session.counters.udp.drop(reason),
        }
    }

    /// Adds a datagram to what leaves in this turn, or keeps it until the target's name is resolved.
    pub(super) fn carry(
        self: &Rc<Self>,
        runs: &mut Runs<ToTarget>,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        let (to, from) = self.moved.get();
        self.moved.set((to + payload.len() as u64, from));
        if !self.is_connected() {
            return self.backlog.push(payload);
        }
        self.greet().map_err(|error| self.reason(&error))?;
        self.keep(payload);
        // It has one, see above.
        let socket = self.socket().ok_or(UdpDrop::TargetUnreachable)?;
        let is_same = |to: &ToTarget| Rc::ptr_eq(&to.flow, self) && Rc::ptr_eq(&to.socket, &socket);
        runs.push(&[self.header_of_each(), payload], is_same, || ToTarget {
            flow: self.clone(),
            socket: socket.clone(),
        });
        Ok(())
    }

    /// With `firstDatagram` the header goes ahead alone.
    fn greet(&self) -> io::Result<()> {
        let Some(socket) = self.socket() else {
            return Ok(());
        };
        if self.target.proxy_protocol != UdpProxyProtocol::FirstDatagram || socket.is_greeted.get()
        {
            return Ok(());
        }
        match self.send_header(&socket) {
            Err(error) if self.phase().is_some() => {
                let reason = address_fault(&error).ok_or(error)?;
                self.go_over(reason);
                // The next address has got it before the datagrams that were kept, or gets it now.
                let next = self.socket().filter(|next| !next.is_greeted.get());
                next.map_or(Ok(()), |next| self.send_header(&next))
            }
            sent => sent,
        }
    }

    fn send_header(&self, socket: &Connected) -> io::Result<()> {
        self.send_here(socket, &self.proxy_header, None)?;
        socket.is_greeted.set(true);
        Ok(())
    }

    /// The header in front of each payload.
    fn header_of_each(&self) -> &[u8] {
        match self.target.proxy_protocol {
            UdpProxyProtocol::None | UdpProxyProtocol::FirstDatagram => &[],
            UdpProxyProtocol::EveryDatagram => &self.proxy_header,
        }
    }

    /// Sends by this socket, or by the next address's where this one's has failed.
    fn send(
        &self,
        socket: &Rc<Connected>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let error = match self.send_here(socket, contents, segment_size) {
            Err(error) if self.phase().is_some() => error,
            sent => return sent,
        };
        let Some(reason) = address_fault(&error) else {
            return Err(error);
        };
        let phase = self.phase();
        if self.is_current(socket) {
            self.go_over(reason);
        }
        match (phase, self.socket()) {
            // It was kept, and has gone with the rest.
            (Some(Phase::Fresh | Phase::Trying(_)), _) => Ok(()),
            // The error is about an earlier datagram.
            (Some(Phase::Settled), Some(next)) => {
                self.session.counters.udp.drop(reason);
                self.send_here(&next, contents, segment_size)
            }
            _ => Err(error),
        }
    }

    fn send_here(
        &self,
        socket: &Connected,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        match socket.send(contents, segment_size) {
            // That was the ICMP answer to an earlier datagram, and this one hasn't been sent.
            Err(error)
                if error.kind() == ErrorKind::ConnectionRefused && self.phase().is_none() =>
            {
                self.failed(UdpDrop::TargetRefused);
                self.session.counters.udp.drop(UdpDrop::TargetRefused);
                socket.send(contents, segment_size)
            }
            sent => sent,
        }
    }

    /// Keeps a datagram that leaves now, while the address may yet refuse it.
    fn keep(&self, payload: &[u8]) {
        if let Some(choice) = self.choice.borrow_mut().as_mut() {
            choice.keep(payload);
        }
    }

    /// Leaves the current address for the next one that can be reached, and sends there what was kept. Once all have failed in
    /// a row that is dropped.
    fn go_over(&self, reason: UdpDrop) {
        let mut is_over = false;
        let mut kept = Vec::new();
        for _ in 0..2 * MAX_ADDRESSES {
            let next = {
                let mut choice = self.choice.borrow_mut();
                let Some(choice) = choice.as_mut() else {
                    return;
                };
                choice.phase = Phase::Fresh;
                kept.extend(choice.kept.take());
                choice.addresses.handle_failure()
            };
            is_over |= next.is_again;
            if is_over {
                self.drop_kept(&mut kept, reason);
            }
            self.forget_address();
            match Connected::open(next.address) {
                Ok(socket) => self.set_socket(socket),
                Err(Unopened::Unreachable) => continue,
                Err(shortage) => return self.drop_kept(&mut kept, shortage.into()),
            }
            if is_over || self.send_again(std::mem::take(&mut kept)) {
                return;
            }
        }
    }

    fn drop_kept(&self, kept: &mut Vec<Box<[u8]>>, reason: UdpDrop) {
        let counters = &self.session.counters.udp;
        counters.drop_many(reason, std::mem::take(kept).len() as u64);
    }

    fn forget_address(&self) {
        if let Some(socket) = self.socket() {
            let mut good = self.session.worker.good_addresses.borrow_mut();
            good.forget(&self.target.host, socket.target);
        }
    }

    fn set_socket(&self, socket: Rc<Connected>) {
        *self.socket.borrow_mut() = Some(socket);
        let mut choice = self.choice.borrow_mut();
        if let Some(waiter) = choice.as_mut().and_then(|choice| choice.waiter.take()) {
            waiter.wake();
        }
    }

    /// Sends to the address that the flow has gone over to; false if that fails at once, too.
    fn send_again(&self, kept: Vec<Box<[u8]>>) -> bool {
        let Some(socket) = self.socket() else {
            return true;
        };
        // First all are kept: the next address gets them in their order.
        for payload in &kept {
            self.keep(payload);
        }
        let is_announced = self.target.proxy_protocol == UdpProxyProtocol::FirstDatagram;
        let send = |payload: &[u8]| {
            if is_announced && !socket.is_greeted.get() {
                self.send_header(&socket)?;
            }
            socket.send(&[self.header_of_each(), payload].concat(), None)
        };
        for payload in &kept {
            match send(payload) {
                Err(error) if address_fault(&error).is_some() => return false,
                Err(error) => self.session.counters.udp.drop(self.reason(&error)),
                Ok(()) => {}
            }
        }
        true
    }

    fn phase(&self) -> Option<Phase> {
        self.choice.borrow().as_ref().map(|choice| choice.phase)
    }

    fn is_current(&self, socket: &Rc<Connected>) -> bool {
        let current = self.socket.borrow();
        current
            .as_ref()
            .is_some_and(|current| Rc::ptr_eq(current, socket))
    }

    fn reason(&self, error: &io::Error) -> UdpDrop {
        if error.kind() == ErrorKind::WouldBlock {
            UdpDrop::SocketFull
        } else if error.kind() == ErrorKind::ConnectionRefused {
            UdpDrop::TargetRefused
        } else {
            tracing::debug!(target = %self.target.name(), %error, "failed to send to a target");
            UdpDrop::SendFailed
        }
    }
}

impl Choice {
    fn keep(&mut self, payload: &[u8]) {
        let since = match self.phase {
            Phase::Fresh => Instant::now(),
            Phase::Trying(since) => since,
            Phase::Overflowed(_) | Phase::Settled => return,
        };
        self.phase = match self.kept.push(payload) {
            Ok(()) => Phase::Trying(since),
            Err(_) => Phase::Overflowed(since),
        };
    }

    fn settle(&mut self) {
        self.phase = Phase::Settled;
        self.kept.take();
    }
}

/// A flow and the socket that its datagrams leave by.
pub(super) struct ToTarget {
    flow: Rc<Flow>,
    socket: Rc<Connected>,
}

impl Destination for ToTarget {
    fn max_segments(&self) -> usize {
        self.socket.io.max_segments()
    }

    fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        self.flow.send(&self.socket, contents, segment_size)
    }

    fn count(&self, datagrams: u64, sent: io::Result<()>) {
        let counters = &self.flow.session.counters.udp;
        match sent {
            Ok(()) => counters.count_in(datagrams),
            Err(error) => counters.drop_many(self.flow.reason(&error), datagrams),
        }
    }
}
