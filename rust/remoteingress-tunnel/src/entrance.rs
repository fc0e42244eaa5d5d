//! The end that accepts: connections that peers have dialled, on their way to a worker (D1, D4).
//!
//! - [`acceptor`]: the end that was dialled, and the connections that it has admitted;
//! - [`tcp_tls`]: accepts TCP connections and has them handed to the worker that was chosen;
//! - [`quic`]: accepts QUIC connections on the worker whose socket they reach, where they stay;
//! - [`call`]: an edge that this end has dialled itself comes the same way in;
//! - [`mod@line`]: the fate of such a connection;
//! - `passage`: one connection from its first byte to the acceptor's decision, which
//!   [`remoteingress_core::entrance`] makes of what happens.

pub mod acceptor;
pub mod call;
pub mod line;
mod passage;
pub mod quic;
pub mod tcp_tls;
