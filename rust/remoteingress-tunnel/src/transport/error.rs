//! Reasons why a connection ends.

use super::tls::TlsError;
use quinn_proto::VarInt;
use remoteingress_proto::control::ControlError;
use remoteingress_proto::mux::SessionError;
use std::io;
use thiserror::Error;

/// Reason why a connection can't go on.
#[derive(Debug, Error)]
pub enum ConnectionError {
    /// The peer closed it in order.
    #[error("the peer closed the connection")]
    Closed,
    /// The network ended it.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// The bytes that came are not TLS as agreed.
    #[error("TLS failed: {0}")]
    Tls(#[from] TlsError),
    /// QUIC ended it.
    #[error("{}", of_quic(.0))]
    Quic(#[from] quinn_proto::ConnectionError),
    /// The peer cut a QUIC stream off, which no peer of ours does.
    #[error("protocol violation: a QUIC stream was reset")]
    LaneReset,
    /// The hub doesn't let this edge in; the owner knows why.
    #[error("the hub refused the session")]
    Refused,
    /// The peer has lost it, since it has called again.
    #[error("the hub has lost the connection and called again")]
    CalledAgain,
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A control message that makes no sense.
    #[error("protocol violation: {0}")]
    Control(#[from] ControlError),
}

fn of_quic(error: &quinn_proto::ConnectionError) -> String {
    let done = VarInt::from_u32(0);
    if matches!(error, quinn_proto::ConnectionError::ApplicationClosed(close) if close.error_code == done)
    {
        // In order, as over TLS.
        return ConnectionError::Closed.to_string();
    }
    format!("the connection was lost: {error}")
}

impl ConnectionError {
    /// The peer doesn't know the connection: it was restarted.
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::Quic(quinn_proto::ConnectionError::Reset))
    }

    /// The peer broke the protocol: the session can't go on either.
    pub fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Control(_) | Self::LaneReset | Self::Session(SessionError::Violation(_))
        )
    }
}
