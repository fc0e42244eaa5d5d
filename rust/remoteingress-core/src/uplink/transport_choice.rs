//! Transport of new sessions with `quicWithFallback` (D13, threats A4.3).

use remoteingress_config::TransportMode;
use remoteingress_proto::handshake::Transport;

/// The transport of new sessions, and the reason of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The transport that new sessions use.
    pub transport: Transport,
    /// Reason for its last change; none before that.
    pub reason: Option<String>,
}

impl Choice {
    /// The choice that a configuration begins with.
    pub fn first(mode: TransportMode) -> Self {
        let transport = match mode {
            TransportMode::TcpTls => Transport::TcpTls,
            TransportMode::Quic | TransportMode::QuicWithFallback => Transport::Quic,
        };
        Self {
            transport,
            reason: None,
        }
    }

    /// TLS for good, because there is a proxy on the way.
    pub fn through_proxy() -> Self {
        Self {
            transport: Transport::TcpTls,
            reason: Some("QUIC doesn't go through a proxy".to_owned()),
        }
    }

    /// TLS, because QUIC doesn't get through.
    pub fn fallback(reason: String) -> Self {
        Self {
            transport: Transport::TcpTls,
            reason: Some(reason),
        }
    }

    /// The transport over which the peer has called.
    pub fn of_caller(transport: Transport) -> Self {
        Self {
            transport,
            reason: Some(format!("the hub has called over {}", transport.as_str())),
        }
    }

    /// QUIC again.
    pub fn recovered() -> Self {
        Self {
            transport: Transport::Quic,
            reason: Some("QUIC works again".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_first_choice() {
        for (mode, transport) in [
            (TransportMode::TcpTls, Transport::TcpTls),
            (TransportMode::Quic, Transport::Quic),
            (TransportMode::QuicWithFallback, Transport::Quic),
        ] {
            assert_eq!(Choice::first(mode).transport, transport);
        }
        assert_eq!(Choice::fallback(String::new()).transport, Transport::TcpTls);
        assert_eq!(Choice::through_proxy().transport, Transport::TcpTls);
        assert_eq!(Choice::recovered().transport, Transport::Quic);
    }
}
