//! An authenticated association of edge and hub, whoever dialled it.
//!
//! - [`transport`]: a connection over TLS or QUIC, its keys, and the loop that drives a session over it.
//! - [`session`]: one session on its worker, with the streams and flows that it carries.
//! - [`stream`]: one stream joined to a socket.
//! - [`self_test`]: what a stream that tests the tunnel carries.
//! - [`uplink`]: the end that dials.
//! - [`entrance`]: the end that accepts: brings each connection to a worker or refuses it.
//! - [`calling`]: the acceptor that dials its edges.

#![forbid(unsafe_code)]

pub mod calling;
pub mod entrance;
mod opaque;
pub mod self_test;
pub mod session;
pub mod stream;
pub mod transport;
pub mod uplink;

use remoteingress_proto::wire::features::Features;

/// The features that this version of either end has; it needs none of them from the other.
pub const FEATURES: Features = Features::RESUME
    .union(Features::DATAGRAM)
    .union(Features::MANY_PORTS)
    .union(Features::PORT_ADDRESSES)
    .union(Features::SELF_TEST);
