//! Errors of the tunnel's TLS connection.

use std::io;

use remoteingress_config::error::ErrorCode;
use rustls::{AlertDescription, CertificateError};

/// Failure of a handshake or of an established TLS connection. None of them can be recovered from.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The socket failed.
    #[error("failed to use the connection: {0}")]
    Io(#[from] io::Error),
    /// The handshake had no end in time.
    #[error("the TLS handshake took too long")]
    TimedOut,
    /// The peer ended the connection before the handshake did.
    #[error("the peer closed the connection during the TLS handshake")]
    ClosedInHandshake,
    /// The peer isn't the one whose key is pinned.
    #[error(
        "its key matches none of the pins; pin the one that it logs or give the edge a new token if the key has changed on purpose, else somebody else answers there"
    )]
    PinMismatch,
    /// The peer is no remoteingress of this version.
    #[error("the peer doesn't speak remoteingress/1 (ALPN)")]
    WrongProtocol,
    /// The handshake would take more memory than a stranger gets.
    #[error("the peer sent more handshake bytes than allowed")]
    HandshakeTooLarge,
    /// The hub's name can't be verified in a certificate.
    #[error("{0:?} is no host name or address")]
    InvalidName(String),
    /// The system has no root certificates, by which a hub without a pin is verified.
    #[error("failed to find trusted root certificates: {0}")]
    NoRoots(String),
    /// It was used after its end.
    #[error("the connection is closed")]
    Closed,
    /// After the handshake came what no peer may send.
    #[error("the peer broke TLS: {0}")]
    Violation(#[from] Violation),
    /// The peer says why it ended the connection.
    #[error("the peer ended the connection with the TLS alert {0:?}")]
    AlertReceived(AlertDescription),
    /// No KeyUpdate was sent before the key's limit, which is a bug here.
    #[error("a traffic key has sealed as many records as it may")]
    KeyUsedUp,
    /// Certificate, key or settings don't make a configuration.
    #[error("failed to configure TLS: {0}")]
    Config(String),
    /// A bug in rustls or in how it is used here.
    #[error("the TLS library broke its contract: {0}")]
    Library(&'static str),
    /// Anything else that ends a handshake.
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

/// The error by which the verifier tells rustls that no pin matches.
pub(super) const PIN_MISMATCH: rustls::Error =
    rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

/// A breach of the rules that hold for records once the handshake is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It was damaged, forged or sealed with another key.
    #[error("a record isn't authentic")]
    BadRecordMac,
    /// RFC 8446 section 5.2 allows 16 KiB and 256 bytes.
    #[error("a record is longer than allowed")]
    RecordOverflow,
    /// A record of the handshake's outer kinds came where only sealed ones may.
    #[error("a record isn't protected")]
    UnprotectedRecord,
    /// Its header says another version than TLS 1.3 writes there.
    #[error("a record has another version")]
    WrongVersion,
    /// It has no content type.
    #[error("a record has nothing but padding")]
    OnlyPadding,
    /// Only records of payload may be empty.
    #[error("an alert or handshake record is empty")]
    EmptyRecord,
    /// Another message than tickets and KeyUpdate, or another kind of record.
    #[error("content that doesn't belong after the handshake")]
    UnexpectedContent,
    /// The parts of a message have to follow each other.
    #[error("another record in the midst of a handshake message")]
    InterruptedMessage,
    /// A change of keys has to end its record.
    #[error("something follows a KeyUpdate in its record")]
    UnalignedKeyUpdate,
    /// Such records cost work and bring nothing.
    #[error("too many records in a row have no payload")]
    TooManyIdleRecords,
    /// It can't be read.
    #[error("an alert or handshake message has the wrong length")]
    Undecodable,
    /// Its only byte is neither 0 nor 1.
    #[error("a KeyUpdate requests what doesn't exist")]
    IllegalParameter,
}

impl Violation {
    /// The alert that tells the peer (RFC 8446, section 6.2).
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
