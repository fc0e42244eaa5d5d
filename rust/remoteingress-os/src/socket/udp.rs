//! A UDP socket on this thread's runtime that sends and receives in batches (GSO, GRO, recvmmsg).

use super::options::{allow_fragments, force_receive_buffer};
use super::readiness::batch_was_short;
use crate::random;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;

/// Bytes that the kernel is asked to keep for a socket of many peers, in each direction: 20 ms at 800 Mbit/s.
pub const SOCKET_BUFFER: usize = 2 * 1_024 * 1_024;
/// Tries at a port that nobody else here wants: first the kernel's choice, which may have few ports to choose from.
const OUTSIDE_TRIES: usize = 128;
const KERNEL_TRIES: usize = 16;
/// Bit that makes a port one that needs no privilege.
const UNPRIVILEGED: u16 = 1_024;

/// Permission for the kernel to cut a datagram that is larger than the path takes into fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// For sockets of clients and targets, whose datagrams must arrive whatever their size.
    Allowed,
    /// For QUIC, which finds out how much the path takes; fragments would hide that (RFC 9000 section 14).
    Forbidden,
}

/// A non-blocking UDP socket; dropping it closes it.
#[derive(Debug)]
pub struct UdpSocket {
    io: tokio::net::UdpSocket,
    /// Options of the socket; one that waits for its first datagram gets them with that.
    state: OnceLock<UdpSocketState>,
}

impl UdpSocket {
    /// Takes over a bound socket, which becomes non-blocking.
    ///
    /// # Errors
    /// The kernel lacks an option, or the process is out of descriptors for the runtime's own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(socket: std::net::UdpSocket, fragments: Fragments) -> io::Result<Self> {
        let state = set_options(&socket, fragments)?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self {
            io,
            state: state.into(),
        })
    }

    /// The same for a non-blocking socket of many peers that may never hear of any: its options, which take 20 system
    /// calls and two sockets for a moment, and its large buffers are left for the first datagram. Fragments are allowed.
    ///
    /// # Errors
    /// The process is out of descriptors for the runtime's own.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn waiting(socket: std::net::UdpSocket) -> io::Result<Self> {
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let state = OnceLock::new();
        Ok(Self { io, state })
    }

    /// Asks for buffers of 2 MiB, for sockets of many peers: a burst must not be lost while the worker is busy. The
    /// kernel gives at most `net.core.wmem_max` for sending and, without CAP_NET_ADMIN, `net.core.rmem_max` for receiving.
    pub fn with_large_buffers(self) -> Self {
        if let Some(state) = self.state.get() {
            enlarge_buffers(&self.io, state);
        }
        self
    }

    /// The bytes that the kernel keeps for the socket: received ones, and those to be sent.
    ///
    /// # Errors
    /// The kernel has no memory left for the answer.
    pub fn buffers(&self) -> io::Result<(usize, usize)> {
        let socket = socket2::SockRef::from(&self.io);
        // The kernel tells twice what it grants: the other half is for its own bookkeeping (socket(7)).
        Ok((
            socket.recv_buffer_size()? / 2,
            socket.send_buffer_size()? / 2,
        ))
    }

    fn state(&self) -> io::Result<&UdpSocketState> {
        if let Some(state) = self.state.get() {
            return Ok(state);
        }
        let state = set_options(&self.io, Fragments::Allowed)?;
        enlarge_buffers(&self.io, &state);
        Ok(self.state.get_or_init(|| state))
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// The kernel has no memory left for the answer.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// The most datagrams of one [`Transmit`]: 1 without GSO.
    pub fn max_segments(&self) -> usize {
        self.state.get().map_or(1, UdpSocketState::max_gso_segments)
    }

    /// Fills `batch` with the datagrams that have come; waits while there are none.
    ///
    /// # Errors
    /// An ICMP error about an earlier datagram (`ConnectionRefused` and the like) on a connected socket; the socket stays usable.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<()>> {
        batch.received = 0;
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let state = self.state()?;
            let received = self.io.try_io(Interest::READABLE, || {
                let stride = batch.stride;
                let mut chunks = batch.buffer.chunks_exact_mut(stride).map(IoSliceMut::new);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                    chunks.next().unwrap_or_else(|| IoSliceMut::new(&mut []))
                });
                state.recv(UdpSockRef::from(&self.io), &mut slices, &mut batch.meta)
            });
            match received {
                Ok(count) => {
                    batch.received = count;
                    if count < BATCH_SIZE {
                        batch_was_short(&self.io);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits for an error that the kernel has for this socket, such as the ICMP answer to an earlier datagram. It is no sign to
    /// [`poll_receive`](Self::poll_receive): without this, only the next datagram that is sent brings it to light.
    pub async fn failed(&self) -> io::Error {
        let take = || {
            let error = self.io.take_error()?;
            error.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        };
        loop {
            if let Err(error) = self.io.ready(Interest::ERROR).await {
                return error;
            }
            match self.io.try_io(Interest::ERROR, take) {
                Ok(error) => return error,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return error,
            }
        }
    }

    /// Sends now or not at all.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full; [`poll_send_ready`](Self::poll_send_ready) waits for room. Other errors are the
    /// kernel's, such as EMSGSIZE for a datagram that is too large and must not be fragmented.
    pub fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let state = self.state()?;
        self.io.try_io(Interest::WRITABLE, || {
            state.try_send(UdpSockRef::from(&self.io), transmit)
        })
    }

    /// The same for callers that never wait for room: it also tries a socket whose readiness isn't known yet, such as one just
    /// made.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn send_now(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let state = self.state()?;
        state.try_send(UdpSockRef::from(&self.io), transmit)
    }

    /// Waits until the socket has room again.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(cx)
    }
}

fn set_options(socket: &impl AsFd, fragments: Fragments) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    if fragments == Fragments::Allowed {
        // `UdpSocketState::new` has forbidden them.
        allow_fragments(socket)?;
    }
    Ok(state)
}

fn enlarge_buffers(io: &tokio::net::UdpSocket, state: &UdpSocketState) {
    if force_receive_buffer(io, SOCKET_BUFFER).is_err() {
        let _ = state.set_recv_buffer_size(UdpSockRef::from(io), SOCKET_BUFFER);
    }
    let _ = state.set_send_buffer_size(UdpSockRef::from(io), SOCKET_BUFFER);
}

/// Room for received datagrams: 2 MiB. One per worker is enough, since it is empty between two turns.
pub struct ReceiveBatch {
    buffer: Box<[u8]>,
    stride: usize,
    meta: [RecvMeta; BATCH_SIZE],
    received: usize,
}

impl Default for ReceiveBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBatch {
    /// Room for [`BATCH_SIZE`] reads of 64 KiB, the largest datagram or run of datagrams (RFC 768; GRO).
    pub fn new() -> Self {
        const STRIDE: usize = 64 * 1_024;
        Self {
            buffer: vec![0; STRIDE * BATCH_SIZE].into_boxed_slice(),
            stride: STRIDE,
            meta: [RecvMeta::default(); BATCH_SIZE],
            received: 0,
        }
    }

    /// The reads of the last receive, each one or more datagrams of `stride` bytes from one peer.
    pub fn reads(&self) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        let read = self.meta.iter().take(self.received);
        read.zip(self.buffer.chunks_exact(self.stride))
            .map(|(meta, buffer)| (meta, buffer.get(..meta.len).unwrap_or_default()))
    }

    /// Every datagram of the last receive, with its source and destination.
    pub fn datagrams(&self) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        self.reads().flat_map(|(meta, read)| {
            segments(meta.len, meta.stride)
                .map(move |range| (meta, read.get(range).unwrap_or_default()))
        })
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReceiveBatch")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// The datagrams of one read: `len` bytes in pieces of `stride`, of which the last may be shorter. A stride of 0 is one
/// empty datagram.
fn segments(len: usize, stride: usize) -> impl Iterator<Item = Range<usize>> {
    let count = if stride == 0 {
        1
    } else {
        len.div_ceil(stride).max(1)
    };
    (0..count).map(move |index| {
        let start = index * stride;
        start..(start + stride).min(len)
    })
}

/// A non-blocking socket on all addresses of its family, with a port that the kernel chooses.
///
/// # Errors
/// The machine lacks the address family, or the process is out of descriptors or ports.
pub fn any_socket(is_v6: bool) -> io::Result<std::net::UdpSocket> {
    socket_on(any_address(is_v6))
}

/// A non-blocking socket on a port of the kernel's choice, with this address of its own.
///
/// # Errors
/// As [`any_socket`], or the machine doesn't have the address.
pub fn socket_on(own: IpAddr) -> io::Result<std::net::UdpSocket> {
    bind(own, 0)
}

/// No address of the machine in particular.
pub fn any_address(is_v6: bool) -> IpAddr {
    if is_v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// As [`socket_on`], but with a port that isn't `wanted`: one of the kernel's choice if that has others, else any other.
///
/// # Errors
/// As [`socket_on`], or no other port was found.
pub fn socket_outside(
    own: IpAddr,
    wanted: impl Fn(u16) -> bool,
) -> io::Result<std::net::UdpSocket> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for attempt in 0..OUTSIDE_TRIES {
        let port = if attempt < KERNEL_TRIES {
            0
        } else {
            u16::from_be_bytes(random::bytes()) | UNPRIVILEGED
        };
        if port != 0 && wanted(port) {
            continue;
        }
        match bind(own, port) {
            Ok(socket) if !wanted(socket.local_addr()?.port()) => return Ok(socket),
            Ok(_) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(own: IpAddr, port: u16) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(SocketAddr::new(own, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn a_port_that_is_wanted_is_left_free() {
        let port = |socket: std::net::UdpSocket| socket.local_addr().unwrap().port();
        // All of the kernel's own choice, as a rule.
        let wanted = |port| (30_000..=65_000).contains(&port);
        let any = any_address(false);
        let outside = socket_outside(any, wanted).map(port).unwrap();
        assert!(!wanted(outside) && outside >= UNPRIVILEGED, "{outside}");
        socket_outside(any, |_| true).unwrap_err();
    }

    #[test]
    fn a_read_is_cut_into_its_datagrams() {
        let cut = |len, stride| segments(len, stride).collect::<Vec<_>>();
        assert_eq!(cut(0, 0), vec![0..0; 1]);
        assert_eq!(cut(5, 5), vec![0..5; 1]);
        assert_eq!(cut(12, 5), [0..5, 5..10, 10..12]);
    }

    #[tokio::test]
    async fn a_refusal_is_told_though_nothing_more_is_sent() {
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let destination = nobody.local_addr().unwrap();
        drop(nobody);
        let socket = any_socket(false).unwrap();
        socket.connect(destination).unwrap();
        let socket = UdpSocket::new(socket, Fragments::Allowed).unwrap();
        for _ in 0..2 {
            let transmit = crate::udp_runs::transmit(destination, b"lost", None, None);
            socket.send_now(&transmit).unwrap();
            assert_eq!(
                socket.failed().await.kind(),
                io::ErrorKind::ConnectionRefused
            );
        }
    }

    /// It is for both families, knows where the first datagram went, and answers from there.
    #[tokio::test]
    async fn a_socket_that_has_waited_is_as_any_other_from_the_first_datagram_on() {
        let socket: std::net::UdpSocket = crate::dual::bind_one(None, 0, true).unwrap();
        let socket = UdpSocket::waiting(socket).unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut batch = ReceiveBatch::new();
        for ip in ["127.0.0.2", "::1", "127.0.0.1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let client = std::net::UdpSocket::bind((ip, 0)).unwrap();
            client.connect((ip, port)).unwrap();
            client.send(b"ask").unwrap();
            poll_fn(|cx| socket.poll_receive(cx, &mut batch))
                .await
                .unwrap();
            let (meta, payload) = batch.datagrams().next().unwrap();
            assert_eq!(payload, b"ask");
            let local = meta.dst_ip.unwrap().to_canonical();
            let from = crate::dual::unmapped(meta.addr);
            assert_eq!((local, from), (ip, client.local_addr().unwrap()));
            let answer = crate::udp_runs::transmit(from, b"answer", None, Some(local));
            socket.send_now(&answer).unwrap();
            let mut received = [0; 16];
            assert_eq!(client.recv(&mut received).unwrap(), 6);
        }
    }

    #[tokio::test]
    async fn large_and_empty_datagrams_arrive_whole() {
        let bind = || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            UdpSocket::new(socket, Fragments::Allowed).unwrap()
        };
        let (sender, receiver) = (bind(), bind());
        let destination = receiver.local_addr().unwrap();
        let mut batch = ReceiveBatch::new();
        for size in [0, 1, 1_472, 1_473, 65_507] {
            let sent = vec![size as u8; size];
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: &sent,
                segment_size: None,
                src_ip: None,
            };
            poll_fn(|cx| sender.poll_send_ready(cx)).await.unwrap();
            sender.try_send(&transmit).unwrap();
            poll_fn(|cx| receiver.poll_receive(cx, &mut batch))
                .await
                .unwrap();
            let got: Vec<_> = batch.datagrams().collect();
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].1, sent);
            assert_eq!(got[0].0.addr, sender.local_addr().unwrap());
        }
    }
}
