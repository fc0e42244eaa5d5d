//! The reasons for which an entrance keeps somebody out, whichever end was dialled.

use super::guard;
use remoteingress_config::reasons::TunnelRefusalReason;
use remoteingress_proto::handshake::RefuseCode;

/// Why a connection or its peer isn't let in, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The guard refused the connection before a byte of it was read.
    Guard(guard::Refusal),
    /// The process has no descriptor for another connection.
    Descriptors,
    /// No secret was proved in time.
    HandshakeTimeout,
    /// The connection was closed or lost, or its TLS or QUIC failed.
    HandshakeFailed,
    /// The acceptor doesn't know yet who may come.
    NotReady,
    /// The acceptor has no memory for the peer.
    Overloaded,
    /// The peer requires [`Features::NEVER`] and has proved its secret: a doctor, which wanted to know just that.
    ///
    /// [`Features::NEVER`]: remoteingress_proto::wire::features::Features::NEVER
    Doctor,
    /// The peer itself is refused.
    Peer(TunnelRefusalReason),
}

impl From<guard::Refusal> for Reason {
    fn from(refusal: guard::Refusal) -> Self {
        Self::Guard(refusal)
    }
}

impl From<TunnelRefusalReason> for Reason {
    fn from(reason: TunnelRefusalReason) -> Self {
        Self::Peer(reason)
    }
}

impl From<RefuseCode> for Reason {
    fn from(code: RefuseCode) -> Self {
        TunnelRefusalReason::of(code).map_or(Self::Overloaded, Self::Peer)
    }
}
