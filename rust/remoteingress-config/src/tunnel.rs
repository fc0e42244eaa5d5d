//! Settings of the tunnel that are the same whichever end dials.

use std::{num::NonZeroU16, time::Duration};

use serde::{Deserialize, Serialize};

/// The port of the end that is dialled where none is given.
pub(super) const TUNNEL_PORT: u16 = 8443;

/// How the end that dials chooses the transport of the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// When QUIC is tried and trusted again after a fallback to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuicTimes {
    /// QUIC is tried after this, then less and less often.
    pub probe_interval: Duration,
    /// For so long it must hold before new streams use it again.
    pub stable: Duration,
}

impl QuicTimes {
    /// From what was written.
    pub(super) fn of(probe_interval: Option<NonZeroU16>, stable: Option<NonZeroU16>) -> Self {
        let or = |secs: Option<NonZeroU16>, default| {
            secs.map_or(default, |secs| Duration::from_secs(secs.get().into()))
        };
        Self {
            probe_interval: or(probe_interval, QUIC_PROBE_INTERVAL),
            stable: or(stable, QUIC_STABLE),
        }
    }
}

/// A path that has failed is tried with a real handshake this much later for the first time (D13).
const QUIC_PROBE_INTERVAL: Duration = Duration::from_secs(60);
/// Longer than QUIC's idle timeout of 30 s would let a path flap (D13).
const QUIC_STABLE: Duration = Duration::from_secs(30);
