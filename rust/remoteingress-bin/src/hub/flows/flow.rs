//! One UDP client's association with its target, and the socket to that.

use super::choice::{Choice, Phase};
use super::connected::{Connected, Unopened, address_fault};
use super::place::{Place, Repeated};
use crate::access::EndedFlow;
use crate::hub::context::SessionContext;
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
    pub(super) place: Option<Box<Place>>,
    /// It tells the target who the client is; empty with `none`.
    proxy_header: Bytes,
    /// Absent while the target's name is resolved.
    socket: RefCell<Option<Rc<Connected>>>,
    /// Boxed: most targets have one address and no pool, and their flows none of this.
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

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        let waited = self.backlog.take().len() as u64;
        let session = &self.session;
        session.counters.udp.drop_many(UdpDrop::Resolving, waited);
        self.drop_refused();
        let unsent = self.take_brought().datagrams.len() as u64;
        let counters = &session.counters.udp;
        counters.drop_many(UdpDrop::TargetUnreachable, unsent);
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
        (target, place): (Target<UdpProxyProtocol>, Option<Box<Place>>),
        proxy_header: Bytes,
        backlog: Backlog,
        counted: FlowSocket,
    ) -> Rc<Self> {
        Rc::new(Self {
            id,
            header,
            target,
            place,
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
        let is_evidence = |place: &&Place| is_of_target && !place.held.is_over_tcp();
        if let Some(place) = self.place.as_deref().filter(is_evidence) {
            place.held.failed(&self.session.worker);
        }
    }

    /// Its target is dead or fails, and its pool lets such flows go over to another one.
    pub(super) fn is_unwell(&self) -> bool {
        let held = self.place.as_ref().map(|place| &place.held);
        held.is_some_and(|held| held.moves_flows() && !held.is_well(&self.session.worker))
    }

    /// After a failure: another target of its pool is to be tried.
    pub(super) fn is_to_move(&self) -> bool {
        let is_unanswered = self.moved.get().1 == 0;
        let place = self.place.as_ref();
        let moves = place.is_some_and(|place| place.held.moves_flows());
        self.is_unwell() || moves && is_unanswered
    }

    /// True if its target has refused datagrams which another one is to get.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self.phase(), Some(Phase::Refused(_)))
    }

    /// It goes over to another target. What this one has refused goes along, if the pool has a retry for that.
    pub(super) fn take_repeated(&self) -> Repeated {
        let mut choice = self.choice.borrow_mut();
        let (Some(place), Some(choice)) = (&self.place, choice.as_mut()) else {
            return Repeated::default();
        };
        let is_refused = matches!(choice.phase, Phase::Refused(_));
        let has_retry = choice.refused_by.len() < place.held.retries() as usize;
        if !is_refused || !has_retry || !place.held.may_retry(&self.session.worker) {
            return Repeated::default();
        }
        let mut refused_by = std::mem::take(&mut choice.refused_by);
        refused_by.extend(place.held.number());
        Repeated {
            datagrams: choice.kept.take(),
            refused_by,
        }
    }

    /// Numbers of the targets that have refused what it keeps, before its own.
    pub(super) fn refused_by(&self) -> Vec<u32> {
        let choice = self.choice.borrow();
        choice
            .as_ref()
            .map_or_else(Vec::new, |choice| choice.refused_by.clone())
    }

    /// No other target is to be had: what its own has refused is lost, and what comes now goes there.
    pub(super) fn stay(&self) {
        if !self.is_refused() {
            return;
        }
        self.drop_refused();
        // It has refused the header, too.
        if let Some(socket) = self.socket() {
            socket.is_greeted.set(false);
        }
        let address = {
            let mut choice = self.choice.borrow_mut();
            let Some(choice) = choice.as_mut() else {
                return;
            };
            choice.phase = Phase::Fresh;
            choice.refused_by.clear();
            let addresses = &choice.addresses;
            addresses.has_choice().then(|| addresses.current())
        };
        // Where that fails, so does the next datagram.
        if let Some(Ok(socket)) = address.map(Connected::open) {
            self.set_socket(socket);
        }
    }

    fn drop_refused(&self) {
        if let Some(choice) = self.choice.borrow().as_ref()
            && let Phase::Refused(reason) = choice.phase
        {
            let lost = choice.kept.take().len() as u64;
            self.session.counters.udp.drop_many(reason, lost);
        }
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
        let brought = self.take_brought();
        if addresses.has_choice() || self.repeats() {
            let choice = Choice::new(addresses, kept, brought.refused_by);
            *self.choice.borrow_mut() = Some(Box::new(choice));
        }
        if !brought.datagrams.is_empty() {
            self.send_brought(&brought.datagrams);
        }
        Ok(())
    }

    /// What it brings from targets that have refused it.
    fn take_brought(&self) -> Repeated {
        let place = self.place.as_ref();
        place.map_or_else(Repeated::default, |place| place.brought.take())
    }

    fn send_brought(&self, datagrams: &[Box<[u8]>]) {
        let bytes: usize = datagrams.iter().map(|payload| payload.len()).sum();
        let (to, from) = self.moved.get();
        self.moved.set((to + bytes as u64, from));
        if let Err(reason) = self.send_again(datagrams) {
            self.failed(reason);
            self.go_over(reason);
        }
    }

    /// Another target of its pool gets what its own refuses.
    fn repeats(&self) -> bool {
        let place = self.place.as_ref();
        place.is_some_and(|place| place.held.repeats())
    }

    /// The flow's task waits at its socket; true if it is to watch for errors, too.
    pub(super) fn wait(&self, waker: &Waker) -> bool {
        let mut choice = self.choice.borrow_mut();
        if let Some(choice) = choice.as_mut() {
            choice.waiter = Some(waker.clone());
        }
        choice.is_some() || self.place.is_some()
    }

    /// The target has sent something.
    pub(super) fn answered(&self, now: Instant) {
        if self.moved.get().1 == 0 {
            let after = now.saturating_duration_since(self.begun_at);
            self.answered_after.set(Some(after));
            if let Some(place) = &self.place {
                place.held.succeeded(&self.session.worker, after);
            }
        }
        let mut choice = self.choice.borrow_mut();
        if let Some(choice) = choice.as_mut()
            && choice.addresses.handle_answer()
            && let Some(socket) = self.socket()
        {
            choice.settle();
            if !choice.addresses.has_choice() {
                return;
            }
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
            Some(Phase::Trying(_) | Phase::Refused(_)) => self.go_over(reason),
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
                self.failed(reason);
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
            self.failed(reason);
            self.go_over(reason);
        }
        match (phase, self.socket()) {
            // It was kept, and has gone with the rest.
            (Some(Phase::Fresh | Phase::Trying(_) | Phase::Refused(_)), _) => Ok(()),
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
    /// a row that waits for another target, or is dropped.
    fn go_over(&self, reason: UdpDrop) {
        let mut is_over = false;
        let mut kept = Vec::new();
        for _ in 0..2 * MAX_ADDRESSES {
            let (next, is_only) = {
                let mut choice = self.choice.borrow_mut();
                let Some(choice) = choice.as_mut() else {
                    return;
                };
                choice.phase = Phase::Fresh;
                kept.extend(choice.kept.take());
                let next = choice.addresses.handle_failure();
                if next.is_again && !kept.is_empty() && self.repeats() {
                    return choice.wait_for_target(&kept, reason);
                }
                (next, !choice.addresses.has_choice())
            };
            is_over |= next.is_again;
            if is_over {
                self.drop_kept(&mut kept, reason);
            }
            if is_only {
                return;
            }
            self.forget_address();
            match Connected::open(next.address) {
                Ok(socket) => self.set_socket(socket),
                Err(Unopened::Unreachable) => continue,
                Err(shortage) => return self.drop_kept(&mut kept, shortage.into()),
            }
            if is_over || self.send_again(&std::mem::take(&mut kept)).is_ok() {
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

    /// Sends to the address or target that the flow has gone over to.
    ///
    /// # Errors
    /// That fails at once, too.
    fn send_again(&self, kept: &[Box<[u8]>]) -> Result<(), UdpDrop> {
        let Some(socket) = self.socket() else {
            return Ok(());
        };
        // First all are kept: the next one gets them in their order.
        for payload in kept {
            self.keep(payload);
        }
        let is_announced = self.target.proxy_protocol == UdpProxyProtocol::FirstDatagram;
        let send = |payload: &[u8]| {
            if is_announced && !socket.is_greeted.get() {
                self.send_header(&socket)?;
            }
            socket.send(&[self.header_of_each(), payload].concat(), None)
        };
        for payload in kept {
            let Err(error) = send(payload) else {
                continue;
            };
            if let Some(reason) = address_fault(&error) {
                return Err(reason);
            }
            self.session.counters.udp.drop(self.reason(&error));
        }
        Ok(())
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
