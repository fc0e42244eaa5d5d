//! Client sockets, reading without a copy, buffers of datagrams, and the limit of descriptors.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// On loopback connects from 127.0.0.1 to 127.0.0.16 in turn, so that local ports don't run out.
pub(crate) async fn connect(address: SocketAddr, turn: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if address.ip().is_loopback() {
        bind_port_late(&socket)?;
        let last = 1 + (turn % SOURCES) as u8;
        socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    }
    let stream = timeout(CONNECT_LIMIT, socket.connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Throws away what has come, without a copy to user space. 0 is the end of the stream.
pub(crate) async fn discard(stream: &TcpStream, at_most: usize) -> io::Result<usize> {
    let descriptor = stream.as_raw_fd();
    let receive = || {
        // SAFETY: with MSG_TRUNC the kernel writes nothing to a TCP socket's buffer, which may then be null.
        let received =
            unsafe { libc::recv(descriptor, std::ptr::null_mut(), at_most, libc::MSG_TRUNC) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    };
    stream.async_io(Interest::READABLE, receive).await
}

/// As many descriptors as this process may have.
pub(crate) fn raise_descriptor_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid rlimit. Where they fail, the limit stays and opening connections will say so.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

/// Room for a burst of datagrams, so that a loss is the tunnel's. Beyond the system's limit only root may go; without,
/// the kernel gives what it does.
pub(crate) fn enlarge_buffers(socket: &impl AsRawFd) {
    for option in [
        libc::SO_RCVBUF,
        libc::SO_SNDBUF,
        libc::SO_RCVBUFFORCE,
        libc::SO_SNDBUFFORCE,
    ] {
        // SAFETY: the option's value is an int that outlives the call.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const DATAGRAM_BUFFER).cast(),
                size_of_val(&DATAGRAM_BUFFER) as libc::socklen_t,
            );
        }
    }
}

/// The port is chosen at connect, where the four-tuple has to be unique and not the port alone.
fn bind_port_late(socket: &TcpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that outlives the call.
    let failed = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Addresses that clients on loopback come from.
pub(crate) const SOURCES: usize = 16;
/// Bytes.
static DATAGRAM_BUFFER: libc::c_int = 8 << 20;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
