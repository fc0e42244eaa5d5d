//! The socket of one flow to one address of its target.

use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::udp::{Fragments, UdpSocket, any_socket};
use remoteingress_os::udp_runs::transmit;
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// From its making on the kernel drops what others send to it, and tells of ICMP errors.
pub(super) struct Connected {
    pub(super) io: UdpSocket,
    pub(super) target: SocketAddr,
    /// The target has got the PROXY header that goes ahead.
    pub(super) is_greeted: Cell<bool>,
}

/// Why there is no socket to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unopened {
    /// The process is out of descriptors, or the kernel out of memory.
    Descriptors,
    /// The machine is out of ephemeral ports.
    Ports,
    /// The address can't be reached from here.
    Unreachable,
}

impl Connected {
    pub(super) fn open(target: SocketAddr) -> Result<Rc<Self>, Unopened> {
        let open = || -> io::Result<Rc<Self>> {
            let socket = any_socket(target.is_ipv6())?;
            socket.connect(target)?;
            Ok(Rc::new(Self {
                io: UdpSocket::new(socket, Fragments::Allowed)?,
                target,
                is_greeted: Cell::new(false),
            }))
        };
        open().map_err(|error| {
            tracing::debug!(%target, %error, "failed to open a flow's socket");
            match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS) => Unopened::Descriptors,
                // So says a bind to any port (bind(2)).
                Some(libc::EADDRINUSE | libc::EAGAIN) => Unopened::Ports,
                _ => Unopened::Unreachable,
            }
        })
    }

    pub(super) fn send(&self, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = transmit(self.target, contents, segment_size, None);
        self.io.send_now(&transmit)
    }
}

/// Waits for errors of a flow's socket, whichever that is now.
#[derive(Default)]
pub(super) struct Watch(Option<(Rc<Connected>, Failed)>);

type Failed = Pin<Box<dyn Future<Output = io::Error>>>;

impl Watch {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &Rc<Connected>) -> Poll<io::Error> {
        let watched = self.0.take();
        let watched = watched.filter(|(watched, _)| Rc::ptr_eq(watched, socket));
        let (socket, mut failed) = watched.unwrap_or_else(|| {
            let of = socket.clone();
            let failed: Failed = Box::pin(async move { of.io.failed().await });
            (socket.clone(), failed)
        });
        let polled = failed.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some((socket, failed));
        }
        polled
    }
}

impl From<Unopened> for UdpDrop {
    fn from(why: Unopened) -> Self {
        match why {
            Unopened::Descriptors => Self::Descriptors,
            Unopened::Ports => Self::EphemeralPorts,
            Unopened::Unreachable => Self::TargetUnreachable,
        }
    }
}

/// The reason, where an error says that the address itself takes nothing, by an ICMP answer or by this machine's routes.
pub(super) fn address_fault(error: &io::Error) -> Option<UdpDrop> {
    let is_unreachable = matches!(
        error.kind(),
        ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::PermissionDenied
    );
    if error.kind() == ErrorKind::ConnectionRefused {
        Some(UdpDrop::TargetRefused)
    } else {
        is_unreachable.then_some(UdpDrop::TargetUnreachable)
    }
}
