//! The envelope of a handshake message: kind `u8`, body length `u16`, body.
//!
//! Hello and Welcome end in a proof of 32 bytes, Call in two. The kind and the length are judged as soon as they
//! are there, so that nobody can make this end wait for, or keep, more than one short message.

use super::error::HandshakeError;
use super::kind::MessageKind;
use super::proof::{PROOF_LENGTH, Proof};
use super::refused::Refused;
use crate::wire::tlv::Cursor;

/// The longest handshake message, in bytes, envelope and proof included.
pub const MAX_MESSAGE: usize = 1024;

const ENVELOPE: usize = 3;

/// A body as it was received, and the proof that follows it. Nothing in it is to be believed before the proof holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proven<'a> {
    /// The body without its proof.
    pub bytes: &'a [u8],
    /// Over the transcript, by the end that sent the body.
    pub proof: Proof,
}

/// The body of a Call as it was received, and the two proofs that follow it: one of them must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProvenTwice<'a> {
    /// The body without its proofs.
    pub bytes: &'a [u8],
    /// By the hub's secret, and by the one that is to replace it.
    pub proofs: [Proof; 2],
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Edge to hub.
    Hello(Proven<'a>),
    /// Hub to edge.
    Welcome(Proven<'a>),
    /// To the end that has asked, without a proof.
    Refused(Refused),
    /// Hub to edge, where the hub has dialled.
    Call(ProvenTwice<'a>),
}

impl Message<'_> {
    /// Kind of the message, one of four.
    pub const fn kind(&self) -> MessageKind {
        match self {
            Self::Hello(_) => MessageKind::Hello,
            Self::Welcome(_) => MessageKind::Welcome,
            Self::Refused(_) => MessageKind::Refused,
            Self::Call(_) => MessageKind::Call,
        }
    }
}

/// Reads the message that `received` begins with and says how many bytes it took; `None`: not all of it is there yet.
pub fn decode_message(received: &[u8]) -> Result<Option<(Message<'_>, usize)>, HandshakeError> {
    let Some(&kind) = received.first() else {
        return Ok(None);
    };
    let kind = MessageKind::from_wire(kind).ok_or(HandshakeError::UnknownKind(kind))?;
    let mut cursor = Cursor::new(&received[1..]);
    let Ok(length) = cursor.u16() else {
        return Ok(None);
    };
    let length = usize::from(length);
    if ENVELOPE + length > MAX_MESSAGE {
        return Err(HandshakeError::TooLong(ENVELOPE + length));
    }
    let Ok(body) = cursor.take(length) else {
        return Ok(None);
    };
    let message = match kind {
        MessageKind::Hello => Message::Hello(split_proof(body)?),
        MessageKind::Welcome => Message::Welcome(split_proof(body)?),
        MessageKind::Refused => Message::Refused(Refused::decode(body)?),
        MessageKind::Call => Message::Call(split_proofs(body)?),
    };
    Ok(Some((message, ENVELOPE + length)))
}

/// Reads a message of one kind; any other is an error as soon as its first byte is there.
pub(super) fn decode_only<'a>(
    expected: &[MessageKind],
    received: &'a [u8],
) -> Result<Option<(Message<'a>, usize)>, HandshakeError> {
    let Some(&kind) = received.first() else {
        return Ok(None);
    };
    let kind = MessageKind::from_wire(kind).ok_or(HandshakeError::UnknownKind(kind))?;
    if !expected.contains(&kind) {
        return Err(HandshakeError::UnexpectedKind(kind));
    }
    decode_message(received)
}

/// Puts a body, in parts, into its envelope.
pub(super) fn encode_message(
    kind: MessageKind,
    parts: &[&[u8]],
) -> Result<Vec<u8>, HandshakeError> {
    let body: usize = parts.iter().map(|part| part.len()).sum();
    let total = ENVELOPE + body;
    let length = match u16::try_from(body) {
        Ok(length) if total <= MAX_MESSAGE => length,
        _ => return Err(HandshakeError::TooLong(total)),
    };
    let mut message = Vec::with_capacity(total);
    message.push(kind.to_wire());
    message.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        message.extend_from_slice(part);
    }
    Ok(message)
}

fn split_proof(body: &[u8]) -> Result<Proven<'_>, HandshakeError> {
    let (bytes, proof) = body
        .split_last_chunk::<PROOF_LENGTH>()
        .ok_or(HandshakeError::Malformed("there is no room for a proof"))?;
    Ok(Proven {
        bytes,
        proof: Proof::from(*proof),
    })
}

fn split_proofs(body: &[u8]) -> Result<ProvenTwice<'_>, HandshakeError> {
    let last = split_proof(body)?;
    let first = split_proof(last.bytes)?;
    Ok(ProvenTwice {
        bytes: first.bytes,
        proofs: [first.proof, last.proof],
    })
}
