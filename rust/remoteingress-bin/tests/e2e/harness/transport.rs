//! The carriers of a tunnel, and how one test becomes a test of each transport.

/// The carrier of the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    TcpTls,
    Quic,
    QuicWithFallback,
}

impl Transport {
    /// The word in the configuration and in status.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::TcpTls => "tcpTls",
            Self::Quic => "quic",
            Self::QuicWithFallback => "quicWithFallback",
        }
    }
}

/// Makes of `fn name(transport: Transport)` the tests `tcp_tls::name` and `quic::name`. A function that isn't listed is
/// dead code, which the lints find.
macro_rules! on_both_transports {
    ($($name:ident),+ $(,)?) => {
        $crate::harness::transport::on_tcp_tls!($($name),+);
        $crate::harness::transport::on_quic!($($name),+);
    };
}

/// The same for the TCP transport alone, next to [`on_both_transports`] and [`on_quic`] for what differs.
macro_rules! on_tcp_tls {
    ($($name:ident),+ $(,)?) => {
        mod tcp_tls {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::harness::transport::Transport::TcpTls);
                }
            )+
        }
    };
}

/// The same for QUIC alone.
macro_rules! on_quic {
    ($($name:ident),+ $(,)?) => {
        mod quic {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::harness::transport::Transport::Quic);
                }
            )+
        }
    };
}

/// The same for `quicWithFallback` alone.
macro_rules! on_quic_with_fallback {
    ($($name:ident),+ $(,)?) => {
        mod quic_with_fallback {
            $(
                #[test]
                fn $name() {
                    super::$name($crate::harness::transport::Transport::QuicWithFallback);
                }
            )+
        }
    };
}

pub(crate) use {on_both_transports, on_quic, on_quic_with_fallback, on_tcp_tls};
