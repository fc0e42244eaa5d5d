//! Options of sockets and of the process that need the C library: the only place with unsafe code.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Silence after which a peer is probed. Finds dead clients and targets without ending idle streams.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Pause between probes; with the count below a dead peer is found within two minutes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer after which the peer is dead.
const KEEPALIVE_PROBES: u32 = 4;
/// Bytes that the kernel may keep unsent on the tunnel's socket: what it has can't be reordered any more.
pub const TUNNEL_UNSENT: u32 = 128 * 1024;
/// The same on sockets of clients and targets: by default 4 MiB of a stalled reader would lie in the kernel.
const STREAM_UNSENT: u32 = 256 * 1024;
/// What the kernel sends when the parent has died. It may come more than once, so it isn't SIGTERM, whose second
/// one cuts.
pub const PARENT_DIED: libc::c_int = libc::SIGUSR2;
/// `ioctl` request for the unsent bytes of a TCP socket (`linux/sockios.h`); the C library's crate lacks it.
const SIOCOUTQNSD: libc::c_ulong = 0x894b;

/// For the sockets of clients (by way of their listener) and targets: whatever ends this process or drops
/// the socket resets it, so that a part of a transfer never looks like all of it; [`close_with_fin`] takes that back.
/// What the peer doesn't take yet stays with us, inside the memory budget, and not in the kernel.
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
            .with_retries(KEEPALIVE_PROBES),
    )
}

/// For the tunnel's socket: its unsent queue stays short.
pub fn tune_tunnel(socket: &impl AsFd) -> io::Result<()> {
    tune(socket)?;
    SockRef::from(socket).set_tcp_notsent_lowat(TUNNEL_UNSENT)
}

/// Makes the socket's close a reset: unsent bytes are dropped and the peer sees an error instead of an end.
pub fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Both directions have ended: the socket's close is one, too.
pub fn close_with_fin(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(None)
}

/// Lets the kernel fragment what is larger than the path takes, on a UDP socket of either family.
pub fn allow_fragments(socket: &std::net::UdpSocket) -> io::Result<()> {
    let is_v6 = socket.local_addr()?.is_ipv6();
    let dont = libc::IP_PMTUDISC_DONT;
    set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, dont)?;
    if is_v6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, dont)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)?;
    }
    Ok(())
}

/// Sets the receive buffer whatever `net.core.rmem_max` says, which takes CAP_NET_ADMIN.
pub fn force_receive_buffer(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)
}

/// A classic BPF program that chooses among the sockets of a group: (code, jump if true, jump if false, operand).
pub type ReuseportProgram = [(u16, u8, u8, u32); 7];

/// Lets `program` choose which socket of the `SO_REUSEPORT` group a packet goes to, by the order in which they were bound.
pub fn steer(socket: &std::net::UdpSocket, program: &ReuseportProgram) -> io::Result<()> {
    let mut filter = program.map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    let program = libc::sock_fprog {
        len: filter.len() as libc::c_ushort,
        filter: filter.as_mut_ptr(),
    };
    set_option(
        socket,
        libc::SOL_SOCKET,
        libc::SO_ATTACH_REUSEPORT_CBPF,
        program,
    )
}

/// `T` must be what the kernel expects of this option; a pointer in it must outlive the call.
#[expect(unsafe_code, reason = "socket2 lacks these options")]
fn set_option<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: T,
) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed and open, and the pointer is valid for one value of this length.
    check(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) })
}

/// Bytes that a TCP socket holds and hasn't sent yet.
#[expect(unsafe_code, reason = "ioctl has no safe wrapper")]
pub fn unsent_bytes(socket: &impl AsFd) -> io::Result<usize> {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed and open, and this request writes one int.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            SIOCOUTQNSD as _,
            &raw mut unsent,
        )
    };
    check(result)?;
    Ok(usize::try_from(unsent).unwrap_or(0))
}

/// The smoothed round trip of a TCP socket's segments, as the kernel measures it: what the peer's process takes to read
/// them isn't in it.
#[expect(unsafe_code, reason = "socket2 lacks TCP_INFO")]
pub fn path_rtt(socket: &impl AsFd) -> io::Result<Duration> {
    // SAFETY: all fields are integers, for which zeroes are a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and open, and the pointers are valid for `length` bytes and for a length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    check(result)?;
    Ok(Duration::from_micros(info.tcpi_rtt.into()))
}

/// Raises this process's soft limit of open descriptors to the hard one and returns it.
#[expect(unsafe_code, reason = "getrlimit and setrlimit have no safe wrapper")]
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    Ok(limit.rlim_cur)
}

/// Keeps secrets out of core dumps and other processes of the same user from reading our memory.
#[expect(unsafe_code, reason = "prctl and setrlimit have no safe wrapper")]
pub fn protect_memory() -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: this option takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, none, none, none, none) })?;
    let limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for one rlimit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const limit) })
}

/// Gives free pages of the heap back to the system: glibc by itself gives back only what lies at its end. With this it
/// returns more than jemalloc and mimalloc do, at the same speed, so neither is worth its build (D9 has the figures).
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "malloc_trim has no safe wrapper")]
pub fn return_memory() {
    // SAFETY: this takes an integer. What it returns says only whether there was something to give back.
    let _ = unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such call.
#[cfg(not(target_env = "gnu"))]
pub fn return_memory() {}

/// Asks the kernel for [`PARENT_DIED`] when the thread that started this process ends.
#[expect(unsafe_code, reason = "prctl has no safe wrapper")]
pub fn end_with_parent() -> io::Result<()> {
    let none: libc::c_ulong = 0;
    let signal = PARENT_DIED as libc::c_ulong;
    // SAFETY: this option takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, none, none, none) })
}

/// The user whose rights this process has.
#[expect(unsafe_code, reason = "geteuid has no safe wrapper")]
pub fn effective_user_id() -> u32 {
    // SAFETY: it takes nothing and can't fail.
    unsafe { libc::geteuid() }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
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

        drop(sender);
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), sent);
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
    fn options_are_set() {
        let (socket, _peer) = pair();
        tune_tunnel(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), TUNNEL_UNSENT);
    }

    #[test]
    fn descriptor_limit_is_the_hard_one() {
        let raised = raise_descriptor_limit().unwrap();
        assert!(raised > 0);
        assert_eq!(raised, raise_descriptor_limit().unwrap());
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }
}
