//! Both roles against stock rustls peers and peers made by hand: the handshake over loopback, records in memory.

mod handshake;
mod peer;
mod protection;
mod records;
mod traffic;
