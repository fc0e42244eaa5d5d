//! The protocol's version and what carries the session: both are bound into the transcript of the proofs.

/// The version of the protocol spoken here; both ends must speak the same one.
pub const PROTOCOL_VERSION: u16 = 1;

/// The connection that carries the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Frames of all streams on one TLS connection over TCP.
    TcpTls,
    /// A QUIC stream for each stream.
    Quic,
}

impl Transport {
    /// The name used in status and events, and in the transcript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcpTls => "tcpTls",
            Self::Quic => "quic",
        }
    }
}
