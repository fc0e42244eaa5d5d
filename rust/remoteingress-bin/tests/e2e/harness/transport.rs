//! The carriers of a tunnel, and how one test becomes a test of each transport and of both directions.

use std::cell::Cell;

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

thread_local! {
    static HUB_DIALS: Cell<bool> = const { Cell::new(false) };
}

/// While this lives, the hub dials in each tunnel that this thread makes.
pub(crate) struct TurnedRound(());

impl TurnedRound {
    pub(crate) fn begin() -> Self {
        HUB_DIALS.set(true);
        Self(())
    }
}

impl Drop for TurnedRound {
    fn drop(&mut self) {
        HUB_DIALS.set(false);
    }
}

/// Whether the hub dials where a test doesn't say who does: in tests that are turned round, and in all of them where
/// `REMOTEINGRESS_TEST_HUB_DIALS` is set.
pub(crate) fn hub_dials() -> bool {
    HUB_DIALS.get() || std::env::var_os("REMOTEINGRESS_TEST_HUB_DIALS").is_some()
}

/// Makes of functions that stand in other lists of their file the same tests with a hub that dials.
macro_rules! where_the_hub_dials {
    ($($module:ident over $transport:ident { $($name:ident),+ $(,)? })+) => {
        mod where_the_hub_dials {
            $(
                mod $module {
                    use $crate::harness::transport::{Transport, TurnedRound};
                    $(
                        #[test]
                        fn $name() {
                            let _turned = TurnedRound::begin();
                            super::super::$name(Transport::$transport);
                        }
                    )+
                }
            )+
        }
    };
}

/// Makes of each `fn name(transport: Transport)` a test with an edge that dials and one with a hub that does.
macro_rules! whichever_end_dials {
    ($($module:ident over $transport:ident { $($name:ident),+ $(,)? })+) => {
        $(
            mod $module {
                $(
                    #[test]
                    fn $name() {
                        super::$name($crate::harness::transport::Transport::$transport);
                    }
                )+
            }
        )+
        $crate::harness::transport::where_the_hub_dials! {
            $($module over $transport { $($name),+ })+
        }
    };
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

pub(crate) use {
    on_both_transports, on_quic, on_quic_with_fallback, on_tcp_tls, where_the_hub_dials,
    whichever_end_dials,
};
