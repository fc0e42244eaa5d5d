//! The tunnel over QUIC: one connection per session, a QUIC stream for each stream, datagrams beside them (D4, D8).
//!
//! It stands on quinn-proto, quinn's protocol without I/O: like the rest of a worker it is driven by one task, so
//! that payload goes from a read buffer to its socket without a queue, a copy or a wake-up in between.
//!
//! - `endpoint`: a socket and the connections on it;
//! - [`connection`]: one of them: handshake, the messages before the session, its end;
//! - `driver`: runs a session over one;
//! - `probing`: lets a packet out where the path is gone;
//! - [`steering`]: which worker's socket a packet reaches;
//! - [`config`]: what both ends agree on and how QUIC is tuned.

pub mod config;
pub mod connection;
pub(super) mod driver;
pub(crate) mod endpoint;
mod probing;
pub mod steering;
