//! The tunnel: identity, dialling, TLS, the handshake's I/O, and the driver of a session.

pub(crate) mod connection;
pub(crate) mod driver;
pub(crate) mod flow_channel;
pub(crate) mod identity;
pub(crate) mod local_session;
pub(crate) mod quic;
pub(crate) mod tcp_tls;
pub(crate) mod tls;

use remoteingress_proto::wire::features::Features;

/// What this version of either end can do; it needs none of it from the other.
pub(crate) const FEATURES: Features = Features::RESUME.union(Features::DATAGRAM);
