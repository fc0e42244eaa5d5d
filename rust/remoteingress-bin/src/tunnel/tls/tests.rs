//! Both roles against stock rustls peers: the handshake over loopback, the records in memory.

mod handshake;
mod peer;
mod traffic;
