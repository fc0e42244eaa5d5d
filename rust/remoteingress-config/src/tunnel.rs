//! What either end says of the tunnel, whichever dials.

use serde::Deserialize;

/// The port of the end that is dialled where none is given.
pub(super) const TUNNEL_PORT: u16 = 8443;

/// How the end that dials chooses the transport of the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum TransportMode {
    /// TLS over TCP.
    #[default]
    TcpTls,
    /// QUIC over UDP, and nothing else.
    Quic,
    /// QUIC where it gets through, else TLS over TCP; back to QUIC when that works again.
    QuicWithFallback,
}
