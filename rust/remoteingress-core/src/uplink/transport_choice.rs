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

    /// QUIC doesn't get through: with `quicWithFallback` new streams use TLS. False if that changes nothing.
    pub fn fall_back(&mut self, mode: TransportMode, reason: &str) -> bool {
        let changes = mode == TransportMode::QuicWithFallback && self.transport == Transport::Quic;
        if changes {
            *self = Self {
                transport: Transport::TcpTls,
                reason: Some(reason.to_owned()),
            };
        }
        changes
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
        assert_eq!(Choice::through_proxy().transport, Transport::TcpTls);
        assert_eq!(Choice::recovered().transport, Transport::Quic);
    }

    #[test]
    fn quic_is_left_once_and_only_where_tls_may_take_its_place() {
        for (mode, transport) in [
            (TransportMode::TcpTls, Transport::TcpTls),
            (TransportMode::Quic, Transport::Quic),
        ] {
            let mut choice = Choice::first(mode);
            assert!(!choice.fall_back(mode, "silence"));
            assert_eq!((choice.transport, choice.reason), (transport, None));
        }
        let mode = TransportMode::QuicWithFallback;
        let mut choice = Choice::first(mode);
        assert!(choice.fall_back(mode, "silence"));
        assert!(!choice.fall_back(mode, "another reason"));
        assert_eq!(choice.transport, Transport::TcpTls);
        assert_eq!(choice.reason.as_deref(), Some("silence"));
    }
}
