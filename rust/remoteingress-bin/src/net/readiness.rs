//! What a read's length says of a TCP socket's readiness, so that no system call is spent on hearing it again.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// A read brought less than there was room for, so nothing is left and the next one would only say so: tokio waits for the
/// kernel's next sign instead, as its own `AsyncRead` does. That sign comes for whatever arrives from then on, since epoll
/// is edge-triggered here; an end that is there already stays in sight.
pub(crate) fn read_was_short(socket: &TcpStream) {
    let drained = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    // It says nothing but what it was told.
    let _ = socket.try_io(Interest::READABLE, drained);
}
