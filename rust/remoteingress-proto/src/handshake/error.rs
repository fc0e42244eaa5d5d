//! Everything that can go wrong in a handshake, and what the hub answers to it.

use super::kind::MessageKind;
use super::refused::{RefuseCode, Refused, Unreadable};
use super::transport::PROTOCOL_VERSION;
use crate::token::edge_id::EdgeId;
use crate::wire::features::UnsupportedFeature;
use crate::wire::header::AddressError;
use crate::wire::tlv::{UnexpectedEnd, ValueTooLong};
use thiserror::Error;

/// Reason why a handshake failed. The end that was asked takes [`HandshakeError::refusal`] as its answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The peer (or, while encoding, the caller) goes beyond the limit of a message.
    #[error("handshake message of {0} bytes is longer than 1024")]
    TooLong(usize),
    /// The first byte names no message of this version.
    #[error("handshake message has an unknown kind {0}")]
    UnknownKind(u8),
    /// A message that only the other end may send.
    #[error("handshake message {0:?} was not expected from this end")]
    UnexpectedKind(MessageKind),
    /// A field that breaks the format; the text says which.
    #[error("handshake message is malformed: {0}")]
    Malformed(&'static str),
    /// The secret is wrong or the edge is unknown; the claimed id, where there was one, isn't proven.
    #[error("proof of the secret failed")]
    AuthFailed {
        /// The id in the Hello, if it could be read: a claim only.
        claimed: Option<EdgeId>,
    },
    /// The edge knows its secret and speaks another version.
    #[error("edge speaks protocol version {theirs}, this hub {PROTOCOL_VERSION}")]
    UnsupportedVersion {
        /// The edge, whose proof held.
        edge_id: EdgeId,
        /// The version that it speaks.
        theirs: u16,
    },
    /// The hub that calls knows the secret and speaks another version.
    #[error("hub speaks protocol version {0}, this edge {PROTOCOL_VERSION}")]
    UnsupportedCall(u16),
    /// A Welcome whose proof doesn't hold: not the hub that knows the secret.
    #[error("hub failed to prove that it knows the secret")]
    HubProofFailed,
    /// The edge requires a feature that this hub hasn't.
    #[error(transparent)]
    UnsupportedFeature(#[from] UnsupportedFeature),
    /// The peer's answer. Without a proof: who sits on the path can forge it, but then also cut the connection.
    #[error("peer refused the connection: {}", .0.code.as_str())]
    Refused(Refused),
    /// The peer's answer is a refusal of a later version.
    #[error("peer refused the connection with an unknown code {0}")]
    UnknownRefusal(u8),
}

impl HandshakeError {
    /// The answer before the connection is closed; `None`: it is closed without a word.
    pub fn refusal(&self) -> Option<Refused> {
        let code = match self {
            Self::AuthFailed { .. } => RefuseCode::AuthFailed,
            Self::UnsupportedVersion { .. } | Self::UnsupportedCall(_) => {
                RefuseCode::UnsupportedVersion
            }
            Self::UnsupportedFeature(_) => RefuseCode::UnsupportedFeature,
            Self::TooLong(_)
            | Self::UnknownKind(_)
            | Self::UnexpectedKind(_)
            | Self::Malformed(_)
            | Self::HubProofFailed
            | Self::Refused(_)
            | Self::UnknownRefusal(_) => return None,
        };
        Some(Refused::new(code))
    }
}

impl From<UnexpectedEnd> for HandshakeError {
    fn from(_: UnexpectedEnd) -> Self {
        Self::Malformed("a field goes beyond its end")
    }
}

impl From<AddressError> for HandshakeError {
    fn from(_: AddressError) -> Self {
        Self::Malformed("an address is not understood")
    }
}

impl From<ValueTooLong> for HandshakeError {
    fn from(_: ValueTooLong) -> Self {
        Self::Malformed("a value is too long")
    }
}

impl From<Unreadable> for HandshakeError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::UnknownCode(code) => Self::UnknownRefusal(code),
            Unreadable::End(end) => end.into(),
        }
    }
}
