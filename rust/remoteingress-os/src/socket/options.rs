//! Options of sockets, by what they are for.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use socket2::{SockRef, TcpKeepalive};

use crate::c_library;

/// Silence after which the kernel asks for a sign of life. It finds dead clients and targets without ending idle streams.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Pause before the kernel asks again; with the count below a dead peer is found within two minutes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer after which the peer is dead.
const KEEPALIVE_RETRIES: u32 = 4;
/// Unsent bytes that the kernel may keep on the tunnel's socket. Those can't be reordered any more, so they are few.
pub const TUNNEL_UNSENT: u32 = 128 * 1024;
/// The same on sockets of clients and targets, where by default the kernel would hold 4 MiB for a reader that stalls.
const STREAM_UNSENT: u32 = 256 * 1024;

/// Sets the options of a client's or target's socket; a client's inherits them from its listener.
///
/// Whatever ends this process or drops the socket resets it, so that a part of a transfer never looks like all of it;
/// [`close_with_fin`] takes that back. Bytes that the peer doesn't take yet stay in this process, inside the memory budget,
/// and not in the kernel.
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn tune_stream(socket: &impl AsFd) -> io::Result<()> {
    tune(socket)?;
    reset_on_close(socket)?;
    SockRef::from(socket).set_tcp_notsent_lowat(STREAM_UNSENT)
}

/// Small writes leave at once, and a dead peer is found.
fn tune(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )
}

/// Sets the options of a tunnel's socket: small writes leave at once, a dead peer is found, the unsent queue stays short.
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn tune_tunnel(socket: &impl AsFd) -> io::Result<()> {
    tune(socket)?;
    SockRef::from(socket).set_tcp_notsent_lowat(TUNNEL_UNSENT)
}

/// Makes the socket's close a reset: unsent bytes are dropped and the peer sees an error instead of an end.
///
/// # Errors
/// The descriptor is no socket.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Takes [`reset_on_close`] back once both directions have ended: the peer sees an end.
///
/// # Errors
/// The descriptor is no socket.
pub fn close_with_fin(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(None)
}

/// Lets the kernel fragment datagrams that are larger than the path takes, on a UDP socket of either family.
pub(super) fn allow_fragments(socket: &impl AsFd) -> io::Result<()> {
    sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DONT)?;
    if SockRef::from(socket).local_addr()?.is_ipv6() {
        sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DONT)?;
        c_library::set_ipv6_dont_fragment(socket, false)?;
    }
    Ok(())
}

/// Sets the receive buffer in bytes whatever `net.core.rmem_max` says, which takes CAP_NET_ADMIN.
pub(super) fn force_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_recv_buffer_size_force(socket, bytes)?)
}

/// A classic BPF program that chooses among the sockets of a group: (code, jump if true, jump if false, operand).
pub type ReuseportProgram = [(u16, u8, u8, u32); 7];

/// Lets `program` choose the socket of the `SO_REUSEPORT` group that a packet goes to: its result is the socket's number in the
/// order in which they were bound.
///
/// # Errors
/// The kernel checks the program: one with an unknown code, a jump out of it or no return at its end is `InvalidInput`.
pub fn steer(socket: &UdpSocket, program: &ReuseportProgram) -> io::Result<()> {
    let instructions = program.map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    c_library::attach_reuseport_program(socket, &instructions)
}

/// Bytes that a TCP socket holds and hasn't sent yet.
///
/// # Errors
/// The descriptor is no TCP socket, or it listens.
pub fn unsent_bytes(socket: &impl AsFd) -> io::Result<usize> {
    let unsent = c_library::unsent_bytes(socket.as_fd())?;
    Ok(usize::try_from(unsent).unwrap_or(0))
}

/// The smoothed round trip of a TCP socket's segments, as the kernel measures it, to the microsecond. The time that the peer's
/// process takes to read them isn't in it.
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn path_rtt(socket: &impl AsFd) -> io::Result<Duration> {
    let info = c_library::tcp_info(socket.as_fd())?;
    Ok(Duration::from_micros(info.tcpi_rtt.into()))
}

/// Segments that a TCP socket has sent again so far.
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn repeated_segments(socket: &impl AsFd) -> io::Result<u32> {
    Ok(c_library::tcp_info(socket.as_fd())?.tcpi_total_retrans)
}

/// The sizes that a TCP socket sends in, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathSize {
    /// The largest packet, as far as the kernel knows of the way.
    pub packet: u32,
    /// The payload of a segment.
    pub segment: u32,
}

/// The sizes that the kernel has found for a TCP socket's way.
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn path_mss(socket: &impl AsFd) -> io::Result<PathSize> {
    let info = c_library::tcp_info(socket.as_fd())?;
    Ok(PathSize {
        packet: info.tcpi_pmtu,
        segment: info.tcpi_snd_mss,
    })
}

/// How a TCP socket fares with what it is to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Segments that the peer hasn't acknowledged.
    pub segments: u32,
    /// Bytes that haven't been sent yet.
    pub unsent: usize,
    /// Questions if the peer has room again, and no answer yet.
    pub probes: u8,
    /// Since the last acknowledgement of any kind.
    pub silence: Duration,
}

/// See [`Sending`].
///
/// # Errors
/// The descriptor is no TCP socket.
pub fn sending(socket: &impl AsFd) -> io::Result<Sending> {
    let info = c_library::tcp_info(socket.as_fd())?;
    Ok(Sending {
        segments: info.tcpi_unacked,
        unsent: unsent_bytes(socket)?,
        probes: info.tcpi_probes,
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn unsent_bytes_are_those_the_peer_has_no_room_for() {
        let (mut sender, mut reader) = pair();
        assert_eq!(unsent_bytes(&sender).unwrap(), 0);
        sender.set_nonblocking(true).unwrap();
        let block = vec![0; 1 << 20];
        let mut sent = 0;
        while let Ok(written) = sender.write(&block) {
            sent += written;
        }
        let unsent = unsent_bytes(&sender).unwrap();
        assert!(unsent > 0 && unsent <= sent, "{unsent} of {sent}");
        let figures = sending(&sender).unwrap();
        assert_eq!(figures.unsent, unsent);
        assert!(figures.silence < Duration::from_secs(5), "{figures:?}");

        drop(sender);
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
    }

    #[test]
    fn a_segment_fits_into_a_packet() {
        let (socket, _peer) = pair();
        let PathSize { packet, segment } = path_mss(&socket).unwrap();
        assert!(segment > 0 && segment < packet, "{segment} of {packet}");
        let no_tcp = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(path_mss(&no_tcp).is_err());
    }

    #[test]
    fn reset_on_close_is_an_error_at_the_peer() {
        let (closing, mut peer) = pair();
        reset_on_close(&closing).unwrap();
        drop(closing);
        let error = peer.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_tunnels_socket_has_its_options() {
        let (socket, _peer) = pair();
        tune_tunnel(&socket).unwrap();
        is_tuned(&socket);
        let socket = SockRef::from(&socket);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), TUNNEL_UNSENT);
        assert_eq!(socket.linger().unwrap(), None);
    }

    #[test]
    fn a_streams_socket_has_its_options_and_loses_its_reset() {
        let (socket, _peer) = pair();
        tune_stream(&socket).unwrap();
        is_tuned(&socket);
        let linger = || SockRef::from(&socket).linger().unwrap();
        assert_eq!(linger(), Some(Duration::ZERO));
        close_with_fin(&socket).unwrap();
        assert_eq!(linger(), None);
        let socket = SockRef::from(&socket);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), STREAM_UNSENT);
    }

    fn is_tuned(socket: &TcpStream) {
        let socket = SockRef::from(socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        let interval = socket.tcp_keepalive_interval().unwrap();
        assert_eq!(interval, KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
    }

    #[test]
    fn fragments_are_allowed_in_both_families() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let v4 = || sockopt::ip_mtu_discover(&socket).unwrap();
            let v6 = || sockopt::ipv6_mtu_discover(&socket).unwrap();
            // This forbids them, as it must for QUIC.
            quinn_udp::UdpSocketState::new(quinn_udp::UdpSockRef::from(&socket)).unwrap();
            assert_eq!(v4(), Ipv4PathMtuDiscovery::PROBE);
            allow_fragments(&socket).unwrap();
            assert_eq!(v4(), Ipv4PathMtuDiscovery::DONT);
            if address.starts_with('[') {
                assert_eq!(v6(), Ipv6PathMtuDiscovery::DONT);
                // With this option set, the kernel would refuse what is larger than loopback's 65,536 bytes less its headers.
                let large = vec![0; 65_527];
                let to = socket.local_addr().unwrap();
                assert_eq!(socket.send_to(&large, to).unwrap(), large.len());
            }
        }
    }

    #[test]
    fn a_receive_buffer_is_forced_or_refused() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = SockRef::from(&socket).recv_buffer_size().unwrap();
        let wanted = 32 << 20;
        match force_receive_buffer(&socket, wanted) {
            // The kernel doubles the number for its own overhead (socket(7)).
            Ok(()) => {
                let size = SockRef::from(&socket).recv_buffer_size().unwrap();
                assert_eq!(size, 2 * wanted);
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::PermissionDenied);
                let size = SockRef::from(&socket).recv_buffer_size().unwrap();
                assert_eq!(size, before);
            }
        }
        assert!(force_receive_buffer(&socket, usize::MAX).is_err());
    }

    #[test]
    fn a_program_chooses_the_socket() {
        let first = in_group("127.0.0.1:0".parse().unwrap());
        let address = first.local_addr().unwrap();
        let second = in_group(address);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (chosen, socket) in [(1, &second), (0, &first), (1, &second)] {
            steer(&first, &always(chosen)).unwrap();
            client.send_to(&[chosen as u8], address).unwrap();
            let mut received = [0xff; 8];
            let (length, from) = socket.recv_from(&mut received).unwrap();
            assert_eq!(received[..length], [chosen as u8]);
            assert_eq!(from, client.local_addr().unwrap());
        }
    }

    #[test]
    fn a_program_that_is_none_is_refused() {
        let socket = in_group("127.0.0.1:0".parse().unwrap());
        let refused = |program: &ReuseportProgram| {
            let error = steer(&socket, program).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        };
        const JUMP: u16 = 0x05;
        let mut jumps_outside = always(0);
        jumps_outside[5] = (JUMP, 0, 0, u32::MAX);
        refused(&jumps_outside);
        let mut without_return = always(0);
        without_return[6] = without_return[0];
        refused(&without_return);
        refused(&[(0xffff, 0xff, 0xff, u32::MAX); 7]);
    }

    #[test]
    fn figures_of_tcp_are_those_of_a_tcp_socket() {
        let (mut client, mut server) = pair();
        client.write_all(b"ping").unwrap();
        server.read_exact(&mut [0; 4]).unwrap();
        let rtt = path_rtt(&client).unwrap();
        assert!(
            rtt > Duration::ZERO && rtt < Duration::from_secs(5),
            "{rtt:?}"
        );
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(path_rtt(&datagrams).is_err() && path_rtt(&file).is_err());
        assert!(unsent_bytes(&datagrams).is_err() && unsent_bytes(&file).is_err());
    }

    /// Chooses socket number `index`, whatever the packet.
    fn always(index: u32) -> ReuseportProgram {
        const LOAD_NUMBER: u16 = 0x00;
        const RETURN_A: u16 = 0x16;
        let mut program = [(LOAD_NUMBER, 0, 0, index); 7];
        program[6] = (RETURN_A, 0, 0, 0);
        program
    }

    fn in_group(address: std::net::SocketAddr) -> UdpSocket {
        let socket = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::DGRAM,
            Some(socket2::Protocol::UDP),
        )
        .unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        // A datagram that went to the other socket fails the test instead of blocking it.
        let patience = Some(Duration::from_secs(5));
        socket.set_read_timeout(patience).unwrap();
        socket.into()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }
}
