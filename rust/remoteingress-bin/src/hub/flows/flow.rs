//! One UDP client's association with its target, and the socket to that.

use crate::hub::context::SessionContext;
use bytes::Bytes;
use remoteingress_config::UdpProxyProtocol;
use remoteingress_core::hub::flow_admission::{Acknowledgements, Backlog};
use remoteingress_core::hub::upstream::Target;
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::udp::{Fragments, UdpSocket, any_socket};
use remoteingress_os::udp_runs::{Destination, Runs, transmit};
use remoteingress_proto::flow::FlowId;
use remoteingress_proto::wire::header::StreamHeader;
use std::cell::{Cell, OnceCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use tokio::task::AbortHandle;

/// A flow counts as a socket of the hub while it lives. Dropping it ends its task.
pub(super) struct Flow {
    pub(super) id: FlowId,
    pub(super) header: StreamHeader,
    pub(super) target: Target<UdpProxyProtocol>,
    /// It tells the target who the client is; empty with `none`.
    proxy_header: Bytes,
    /// Absent while the target's name is resolved.
    socket: OnceCell<Connected>,
    is_greeted: Cell<bool>,
    pub(super) backlog: Backlog,
    pub(super) acknowledgements: Acknowledgements,
    pub(super) task: OnceCell<AbortHandle>,
    session: Rc<SessionContext>,
}

pub(super) struct Connected {
    pub(super) io: UdpSocket,
    target: SocketAddr,
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        let waited = self.backlog.take().len() as u64;
        let session = &self.session;
        session.counters.udp.drop_many(UdpDrop::Resolving, waited);
        let sockets = &session.worker.state.flow_sockets;
        sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Flow {
    /// A flow without its socket; it counts from here on.
    pub(super) fn new(
        session: Rc<SessionContext>,
        id: FlowId,
        header: StreamHeader,
        target: Target<UdpProxyProtocol>,
        proxy_header: Bytes,
        backlog: Backlog,
    ) -> Rc<Self> {
        let sockets = &session.worker.state.flow_sockets;
        sockets.fetch_add(1, Ordering::Relaxed);
        Rc::new(Self {
            id,
            header,
            target,
            proxy_header,
            socket: OnceCell::new(),
            is_greeted: Cell::new(false),
            backlog,
            acknowledgements: Acknowledgements::default(),
            task: OnceCell::new(),
            session,
        })
    }

    pub(super) fn socket(&self) -> Option<&Connected> {
        self.socket.get()
    }

    pub(super) fn connect(&self, target: SocketAddr) -> Result<(), UdpDrop> {
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

    /// Adds a datagram to what leaves in this turn, or keeps it until the target's name is resolved.
    pub(super) fn carry(
        self: &Rc<Self>,
        runs: &mut Runs<ToTarget>,
        payload: &[u8],
    ) -> Result<(), UdpDrop> {
        match self.socket.get() {
            Some(socket) => self.deliver(socket, runs, payload),
            None => self.backlog.push(payload),
        }
    }

    /// With `firstDatagram` the header goes ahead alone.
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
                self.session.counters.udp.drop(UdpDrop::TargetRefused);
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
        let counters = &self.0.session.counters.udp;
        match sent {
            Ok(()) => counters.count_in(datagrams),
            Err(error) => counters.drop_many(self.0.reason(&error), datagrams),
        }
    }
}
