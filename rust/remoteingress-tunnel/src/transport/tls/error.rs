//! What can go wrong with the tunnel's TLS connection.

use std::io;

use remoteingress_config::error::ErrorCode;
use rustls::{AlertDescription, CertificateError};

/// Failure of a handshake or of an established TLS connection. None of them can be recovered from.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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
    #[error("the peer broke TLS: {0}")]
    Violation(#[from] Violation),
    #[error("the peer ended the connection with the TLS alert {0:?}")]
    AlertReceived(AlertDescription),
    #[error("a traffic key has sealed as many records as it may")]
    KeyUsedUp,
    #[error("failed to configure TLS: {0}")]
    Config(String),
    #[error("the TLS library broke its contract: {0}")]
    Library(&'static str),
    #[error(transparent)]
    Tls(rustls::Error),
}

impl TlsError {
    /// The stable code of the error in the interface.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::PinMismatch => ErrorCode::HubPinMismatch,
            Self::Io(_) | Self::TimedOut => ErrorCode::HubUnreachable,
            Self::InvalidName(_) => ErrorCode::InvalidConfig,
            Self::Library(_) | Self::KeyUsedUp => ErrorCode::Internal,
            Self::ClosedInHandshake
            | Self::WrongProtocol
            | Self::HandshakeTooLarge
            | Self::NoRoots(_)
            | Self::Closed
            | Self::Violation(_)
            | Self::AlertReceived(_)
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

/// What a peer does that no peer may do once the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("a record isn't authentic")]
    BadRecordMac,
    #[error("a record is longer than allowed")]
    RecordOverflow,
    #[error("a record isn't protected")]
    UnprotectedRecord,
    #[error("a record has another version")]
    WrongVersion,
    #[error("a record has nothing but padding")]
    OnlyPadding,
    #[error("an alert or handshake record is empty")]
    EmptyRecord,
    #[error("content that doesn't belong behind the handshake")]
    UnexpectedContent,
    #[error("another record in the midst of a handshake message")]
    InterruptedMessage,
    #[error("something is behind a KeyUpdate in its record")]
    UnalignedKeyUpdate,
    #[error("too many records in a row have no payload")]
    TooManyIdleRecords,
    #[error("an alert or handshake message has the wrong length")]
    Undecodable,
    #[error("a KeyUpdate requests what doesn't exist")]
    IllegalParameter,
}

impl Violation {
    /// How the peer is told (RFC 8446, section 6.2).
    pub(super) fn alert(self) -> AlertDescription {
        match self {
            Self::BadRecordMac => AlertDescription::BadRecordMac,
            Self::RecordOverflow => AlertDescription::RecordOverflow,
            Self::UnprotectedRecord
            | Self::OnlyPadding
            | Self::EmptyRecord
            | Self::UnexpectedContent
            | Self::InterruptedMessage
            | Self::UnalignedKeyUpdate
            | Self::TooManyIdleRecords => AlertDescription::UnexpectedMessage,
            Self::WrongVersion | Self::Undecodable => AlertDescription::DecodeError,
            Self::IllegalParameter => AlertDescription::IllegalParameter,
        }
    }
}
