//! What a read's length says of a socket's readiness, so that no system call is spent on hearing it again.
//!
//! tokio waits for the kernel's next sign then, as its own `AsyncRead` does. That sign comes for whatever arrives from then
//! on, since epoll is edge-triggered here, and can't be taken in between, since a worker's runtime has one thread. An end that
//! is there already stays in sight.

use std::io;

use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};

/// A read brought less than there was room for, so nothing is left, unless behind TCP's urgent mark, where a read ends too.
pub fn read_was_short(socket: &TcpStream) {
    // It says nothing but what it was told.
    let _ = socket.try_io(Interest::READABLE, drained);
}

/// A batch has fewer datagrams than there was room for: there are no more, or an error came next, which has a sign of its own.
pub fn batch_was_short(socket: &UdpSocket) {
    // As above.
    let _ = socket.try_io(Interest::READABLE, drained);
}

fn drained() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}
