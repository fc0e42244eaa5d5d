//! The target's UDP half: sends every datagram back to where it came from.

use std::net::UdpSocket;

/// Runs until the process ends, on a thread of its own: the echo is to show the tunnel, not a runtime.
pub(crate) fn echo(socket: &UdpSocket) {
    let mut buffer = vec![0; LARGEST];
    loop {
        // The client sees and counts answers that come too late or never.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Bytes of the largest datagram that IPv4 carries.
const LARGEST: usize = 65_507;
