//! A short read says that a socket is empty: no further system call is spent on hearing that again.
//!
//! After these calls tokio waits for the kernel's next sign, as it does after its own short reads. No sign is lost: epoll is
//! edge-triggered here, so whatever arrives later brings one, and a worker's runtime has one thread, so nothing else takes it
//! in between. An end of the stream that is there already stays visible.

use std::io;

use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};

/// Tells tokio that a read brought less than there was room for, so nothing is left. (A read also ends at TCP's urgent mark,
/// after which more may lie.)
pub fn read_was_short(socket: &TcpStream) {
    // The result is the `WouldBlock` that `drained` gives.
    let _ = socket.try_io(Interest::READABLE, drained);
}

/// Tells tokio that a batch has fewer datagrams than there was room for: there are no more, or an error came next, which brings
/// a sign of its own.
pub(super) fn batch_was_short(socket: &UdpSocket) {
    // As above.
    let _ = socket.try_io(Interest::READABLE, drained);
}

fn drained() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}
