//! How long an attempt may take, and how TLS is dialled beside QUIC with `quicWithFallback` (D13).

use super::action::Dial;
use super::failure::Failure;
use remoteingress_config::TransportMode;
use remoteingress_proto::handshake::Transport;
use std::time::Duration;

/// From the first packet to the Welcome: a dead peer is noticed as soon as on an established connection, after 8 s.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// From Hello to the Welcome of a session whose frames went ahead of it.
pub const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// QUIC must have let this end in by then, or TLS is used instead.
const QUIC_TIMEOUT: Duration = Duration::from_secs(5);
/// TLS is dialled this long after QUIC, so that it is ready when QUIC fails.
const TLS_DELAY: Duration = Duration::from_secs(1);

/// The course of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// One transport, from the first packet to the Welcome within this time.
    Single {
        /// The transport to dial.
        transport: Transport,
        /// The longest that it may take.
        limit: Duration,
    },
    /// QUIC, and TLS beside it, which says Hello only after [`falls_back`].
    Race {
        /// The longest that QUIC may take.
        quic_limit: Duration,
        /// When TLS is dialled, counted from QUIC's first packet.
        tls_delay: Duration,
        /// The longest that TLS may take: to be dialled, and then from Hello to the Welcome.
        tls_limit: Duration,
    },
}

impl Course {
    /// The course of an attempt when new sessions use `choice`.
    pub fn of(dial: Dial, mode: TransportMode, choice: Transport) -> Self {
        let transport = dial.transport(choice);
        let has_fallback = mode == TransportMode::QuicWithFallback && transport == Transport::Quic;
        if has_fallback && dial != Dial::Trial {
            Self::Race {
                quic_limit: QUIC_TIMEOUT,
                tls_delay: TLS_DELAY,
                tls_limit: CONNECT_TIMEOUT,
            }
        } else {
            Self::Single {
                transport,
                limit: CONNECT_TIMEOUT,
            }
        }
    }
}

/// TLS takes QUIC's place in a race only if the peer has said nothing over QUIC: a refusal is an answer.
pub fn falls_back(quic: &Failure) -> bool {
    quic.is_unreachable()
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::error::ErrorCode;
    use remoteingress_proto::handshake::SessionId;

    const RESUME: Dial = Dial::Resume {
        session: SessionId([7; 16]),
        attempt: 1,
    };

    #[test]
    fn only_a_new_session_over_quic_with_a_fallback_is_raced() {
        let mode = TransportMode::QuicWithFallback;
        let raced = Course::of(Dial::New, mode, Transport::Quic);
        let Course::Race {
            quic_limit,
            tls_delay,
            ..
        } = raced
        else {
            panic!("{raced:?}")
        };
        assert_eq!(
            (quic_limit.as_secs(), tls_delay.as_secs()),
            (5, 1),
            "TLS is ready long before QUIC's time is over"
        );
        for (dial, mode, choice, transport) in [
            (Dial::Trial, mode, Transport::TcpTls, Transport::Quic),
            (Dial::New, mode, Transport::TcpTls, Transport::TcpTls),
            (RESUME, mode, Transport::Quic, Transport::TcpTls),
            (
                Dial::New,
                TransportMode::Quic,
                Transport::Quic,
                Transport::Quic,
            ),
        ] {
            let limit = CONNECT_TIMEOUT;
            let single = Course::Single { transport, limit };
            assert_eq!(Course::of(dial, mode, choice), single, "{dial:?}");
        }
    }

    #[test]
    fn a_refusal_is_an_answer_after_which_nothing_falls_back() {
        let silence = Failure::new(ErrorCode::HubUnreachable, "no answer");
        assert!(falls_back(&silence));
        let asked = Failure {
            retry_after: Some(Duration::from_secs(1)),
            ..silence
        };
        assert!(!falls_back(&asked));
        assert!(!falls_back(&Failure::new(ErrorCode::AuthFailed, "no")));
    }
}
