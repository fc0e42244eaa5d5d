//! A connection of a tunnel: its keys, TLS over TCP or QUIC, and the loop that drives a session over it.

pub mod connection;
pub mod error;
pub mod identity;
pub mod quic;
pub mod tcp_tls;
pub mod tls;
