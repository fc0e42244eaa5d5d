//! The handshake: both ends prove that they know the edge's secret, before any frame is exchanged.
//!
//! It runs on the finished TLS (or QUIC) connection, whose exporter value `ekm` it binds:
//!
//! ```text
//! edge                                                hub
//!   Hello   · HMAC(k_edge, T)                 ───►      verify, always two HMACs
//!                                             ◄───      Welcome · HMAC(k_hub, T · Welcome)
//!                                                       or Refused, without a proof
//! T = SHA-256 over the length-prefixed fields: protocol version, transport, ekm, Hello
//! ```
//!
//! The secret never crosses the wire. A proof is worth nothing on another connection (`ekm`), on
//! another transport, behind another Hello, or in the other direction (one key per role).
//!
//! Nothing here does I/O: [`EdgeHandshake`] and [`HubHandshake`] are given the bytes received so far
//! and say what they mean; at most [`MAX_MESSAGE`] bytes ever need to be kept for them.

use thiserror::Error;

use crate::token::edge_id::EdgeId;
use crate::wire::features::UnsupportedFeature;
use crate::wire::header::AddressError;
use crate::wire::tlv::{Cursor, UnexpectedEnd, ValueTooLong};

mod edge;
mod hello;
mod hub;
mod ids;
mod message;
mod proof;
mod refused;
mod welcome;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub use edge::{EdgeHandshake, EdgeProgress};
pub use hello::{Hello, Resume};
pub use hub::{AuthenticatedEdge, HubHandshake, HubProgress};
pub use ids::{HubEpoch, InstanceId, SessionId};
pub use message::{MAX_MESSAGE, Message, MessageKind, Proven, decode_message};
pub use proof::{
    Candidate, Candidates, PROOF_LENGTH, Proof, ProofKeys, Transcript, edge_proof, hub_proof,
    verify_edge_proof, verify_hub_proof,
};
pub use refused::{MAX_RETRY_AFTER, RefuseCode, Refused};
pub use welcome::{SessionOutcome, Welcome};

/// The version of the protocol spoken here; both ends must speak the same one.
pub const PROTOCOL_VERSION: u16 = 1;

/// The longest software version that an end tells the other, in bytes of printable ASCII.
pub const MAX_SOFTWARE_VERSION: usize = 64;

/// What carries the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    TcpTls,
    Quic,
}

impl Transport {
    /// The name used in status and events, and in the transcript.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcpTls => "tcpTls",
            Self::Quic => "quic",
        }
    }
}

/// Why a handshake failed. The hub asks [`HandshakeError::refusal`] what to answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The peer (or, while encoding, the caller) goes beyond the limit of a message.
    #[error("handshake message of {0} bytes is longer than 1024")]
    TooLong(usize),
    #[error("handshake message has an unknown kind {0}")]
    UnknownKind(u8),
    #[error("handshake message {0:?} was not expected from this end")]
    UnexpectedKind(MessageKind),
    #[error("handshake message is malformed: {0}")]
    Malformed(&'static str),
    /// The secret is wrong or the edge is unknown; the claimed id, where there was one, isn't proven.
    #[error("proof of the secret failed")]
    AuthFailed { claimed: Option<EdgeId> },
    /// The edge knows its secret and speaks another version.
    #[error("edge speaks protocol version {theirs}, this hub {PROTOCOL_VERSION}")]
    UnsupportedVersion { edge_id: EdgeId, theirs: u16 },
    #[error("hub failed to prove that it knows the secret")]
    HubProofFailed,
    #[error(transparent)]
    UnsupportedFeature(#[from] UnsupportedFeature),
    /// The hub's answer. Without a proof: who sits on the path can forge it, but then also cut the connection.
    #[error("hub refused the connection: {}", .0.code.as_str())]
    Refused(Refused),
    #[error("hub refused the connection with an unknown code {0}")]
    UnknownRefusal(u8),
}

impl HandshakeError {
    /// What the hub answers before it closes; `None`: it closes without a word.
    pub fn refusal(&self) -> Option<Refused> {
        let code = match self {
            Self::AuthFailed { .. } => RefuseCode::AuthFailed,
            Self::UnsupportedVersion { .. } => RefuseCode::UnsupportedVersion,
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

/// Types of the TLVs behind the fixed part of Hello and Welcome: one number space.
mod extension {
    pub(super) const RESUME: u16 = 1;
    pub(super) const SOFTWARE_VERSION: u16 = 2;
    pub(super) const OBSERVED_ADDRESS: u16 = 3;
    pub(super) const RESUME_TIMEOUT: u16 = 4;
}

/// Checks a software version: it ends up in logs and status, so nothing but printable ASCII.
fn check_software_version(version: &[u8]) -> Result<&str, HandshakeError> {
    if version.len() > MAX_SOFTWARE_VERSION
        || !version.iter().all(|byte| matches!(byte, 0x20..=0x7e))
    {
        return Err(HandshakeError::Malformed(
            "software version is no short ASCII text",
        ));
    }
    std::str::from_utf8(version)
        .map_err(|_| HandshakeError::Malformed("software version is no text"))
}

/// Stores the value of an extension that may come once.
/// Reads a value that is one whole number, in seconds.
fn seconds(value: &[u8]) -> Result<u32, HandshakeError> {
    let mut cursor = Cursor::new(value);
    let seconds = cursor.u32()?;
    if cursor.is_empty() {
        Ok(seconds)
    } else {
        Err(HandshakeError::Malformed("resume timeout is too long"))
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), HandshakeError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(HandshakeError::Malformed("an extension comes twice")),
    }
}
