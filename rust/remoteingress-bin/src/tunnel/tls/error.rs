//! What can go wrong with the tunnel's TLS connection.

use std::io;

use crate::error::ErrorCode;
use rustls::CertificateError;

/// Failure of a handshake or of an established TLS connection. None of them can be recovered from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("failed to use the connection: {0}")]
    Io(#[from] io::Error),
    #[error("the TLS handshake took too long")]
    TimedOut,
    #[error("the peer closed the connection during the TLS handshake")]
    ClosedInHandshake,
    #[error("the hub's key matches none of the pins")]
    PinMismatch,
    #[error("the peer doesn't speak remoteingress/1 (ALPN)")]
    WrongProtocol,
    #[error("the peer sent more handshake bytes than allowed")]
    HandshakeTooLarge,
    #[error("{0:?} is no host name or address")]
    InvalidName(String),
    #[error("failed to find trusted root certificates: {0}")]
    NoRoots(String),
    #[error("the connection is closed")]
    Closed,
    #[error("failed to configure TLS: {0}")]
    Config(String),
    #[error("the TLS library broke its contract: {0}")]
    Library(&'static str),
    #[error(transparent)]
    Tls(rustls::Error),
}

impl TlsError {
    /// The stable code of the error in the interface.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::PinMismatch => ErrorCode::HubPinMismatch,
            Self::Io(_) | Self::TimedOut => ErrorCode::HubUnreachable,
            Self::InvalidName(_) => ErrorCode::InvalidConfig,
            Self::Library(_) => ErrorCode::Internal,
            Self::ClosedInHandshake
            | Self::WrongProtocol
            | Self::HandshakeTooLarge
            | Self::NoRoots(_)
            | Self::Closed
            | Self::Config(_)
            | Self::Tls(_) => ErrorCode::Tls,
        }
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        // Only our own verifier answers with an application failure, and only for a pin.
        if error == PIN_MISMATCH {
            Self::PinMismatch
        } else if error == rustls::Error::NoApplicationProtocol {
            Self::WrongProtocol
        } else {
            Self::Tls(error)
        }
    }
}

/// How the verifier tells rustls that no pin matches.
pub(super) const PIN_MISMATCH: rustls::Error =
    rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
