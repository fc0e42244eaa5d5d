//! The path between edge and hub where a test disturbs it: a relay for TCP and one for UDP on the same port number.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::relay::{Cut, Relay};
use super::transport::Transport;
use super::udp_relay::UdpRelay;

/// Both relays; what has the same name here means the same on each transport.
pub(crate) struct Path {
    pub(crate) tcp: Relay,
    pub(crate) udp: UdpRelay,
    transport: Transport,
}

impl Path {
    pub(crate) async fn start(transport: Transport, hub: SocketAddr) -> Self {
        for _ in 0..ATTEMPTS {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The same number may be taken for UDP.
            if let Ok(udp) = UdpRelay::start_at(listener.local_addr().unwrap(), hub) {
                return Self {
                    tcp: Relay::start_on(listener, hub),
                    udp,
                    transport,
                };
            }
        }
        panic!("no port number is free for TCP and UDP");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.udp.address()
    }

    /// Ends the connections that exist now. On QUIC nobody can: they fall silent, until [`Self::refuse`] is off.
    pub(crate) fn cut(&self, how: Cut) {
        if self.transport == Transport::TcpTls {
            self.tcp.cut(how);
        } else {
            self.udp.block(true);
        }
    }

    /// No connection comes about while this is on.
    pub(crate) fn refuse(&self, on: bool) {
        self.tcp.refuse(on);
        self.udp.block(on);
    }

    /// Flips one bit of what the edge sends, `bytes` from now.
    pub(crate) fn flip_bit_after(&self, bytes: u32) {
        match self.transport {
            Transport::TcpTls => self.tcp.flip_bit_after(bytes),
            Transport::Quic | Transport::QuicWithFallback => {
                self.udp.flip_bit_after(usize::try_from(bytes).unwrap());
            }
        }
    }

    /// One-way delay in each direction, for connections made from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.tcp.delay(delay);
        self.udp.set(|faults| faults.delay = delay);
    }
}

/// Port numbers tried.
const ATTEMPTS: u32 = 100;
