//! Call: a hub that has dialled its edge proves the secret before anything else, and says which session it wants.
//!
//! ```text
//! protocol version u16 · hub epoch 16 · session ordinal u16 · flags u8 · TLVs, then two proofs
//! ```
//!
//! The edge has one secret, the hub may have two while one replaces the other: it gives a proof with each. Where it has
//! one only, random bytes take the second place, so that a Call doesn't tell whether a secret is being replaced. A Call
//! names neither the edge nor the hub's software.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::error::HandshakeError;
use super::ids::HubEpoch;
use super::kind::MessageKind;
use super::message::{Message, decode_only, encode_message};
use super::proof::{PROOF_LENGTH, Proof, ProofKeys, Transcript, call_proof};
use super::transport::{PROTOCOL_VERSION, Transport};
use crate::wire::tlv::{Cursor, Tlvs};

/// The hub's first message on a connection that it has dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The version that the hub speaks: [`PROTOCOL_VERSION`] from this one.
    pub protocol_version: u16,
    /// This run of the hub.
    pub hub_epoch: HubEpoch,
    /// Which of the tunnel's sessions this is for, counted from 0: the edge's worker.
    pub session_ordinal: u16,
    /// The session gets no streams: it finds out whether the transport works.
    pub is_trial: bool,
}

impl Call {
    /// The body without its proofs.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(&self.protocol_version.to_be_bytes());
        out.extend_from_slice(&self.hub_epoch.0);
        out.extend_from_slice(&self.session_ordinal.to_be_bytes());
        out.push(if self.is_trial { FLAG_TRIAL } else { 0 });
        out
    }

    /// Reads a Call of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, HandshakeError> {
        let mut cursor = Cursor::new(bytes);
        let protocol_version = cursor.u16()?;
        if protocol_version != PROTOCOL_VERSION {
            return Err(HandshakeError::UnsupportedCall(protocol_version));
        }
        let hub_epoch = HubEpoch(cursor.array()?);
        let session_ordinal = cursor.u16()?;
        let is_trial = match cursor.u8()? {
            0 => false,
            FLAG_TRIAL => true,
            _ => return Err(HandshakeError::Malformed("Call has an unknown flag")),
        };
        for tlv in Tlvs::new(cursor.rest()) {
            tlv?;
        }
        Ok(Self {
            protocol_version,
            hub_epoch,
            session_ordinal,
            is_trial,
        })
    }

    /// The whole message, with a proof by the secret and one by the secret that is to replace it. `filler` is random,
    /// and takes the place of a proof that there is no secret for.
    pub fn message(
        &self,
        keys: &ProofKeys,
        next: Option<&ProofKeys>,
        ekm: &[u8; 32],
        transport: Transport,
        filler: [u8; PROOF_LENGTH],
    ) -> Result<Vec<u8>, HandshakeError> {
        let bytes = self.encode();
        let transcript = Transcript::new(self.protocol_version, transport, ekm, &bytes);
        let current = call_proof(keys, &transcript);
        let next = next.map_or_else(|| Proof::from(filler), |keys| call_proof(keys, &transcript));
        let parts = [&bytes[..], current.as_bytes(), next.as_bytes()];
        encode_message(MessageKind::Call, &parts)
    }
}

/// The edge's side of a connection that a hub has dialled: waits for a Call.
#[derive(Debug)]
pub struct CallHandshake {
    ekm: Zeroizing<[u8; 32]>,
    transport: Transport,
}

/// The state of the handshake, by the bytes received so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallProgress {
    /// No whole Call is there yet.
    NeedMore,
    /// The hub has proven itself.
    Called {
        /// Its wishes; all of it is proven.
        call: Call,
        /// Bytes of `received` that the Call took.
        consumed: usize,
    },
}

impl CallHandshake {
    /// Of a connection with this exporter value (`ekm`).
    pub fn new(ekm: &[u8; 32], transport: Transport) -> Self {
        Self {
            ekm: Zeroizing::new(*ekm),
            transport,
        }
    }

    /// Looks at all bytes received so far, from the first one on, with the keys of the edge's secret.
    ///
    /// Only the version is read before a proof holds. Any error ends the connection, after its
    /// [`HandshakeError::refusal`] was sent.
    pub fn handle(
        &self,
        received: &[u8],
        keys: &ProofKeys,
    ) -> Result<CallProgress, HandshakeError> {
        let (proven, consumed) = match decode_only(&[MessageKind::Call], received)? {
            None => return Ok(CallProgress::NeedMore),
            Some((Message::Call(proven), consumed)) => (proven, consumed),
            Some((other, _)) => return Err(HandshakeError::UnexpectedKind(other.kind())),
        };
        let version = Cursor::new(proven.bytes).u16().unwrap_or(0);
        let transcript = Transcript::new(version, self.transport, &self.ekm, proven.bytes);
        let expected = call_proof(keys, &transcript);
        let [current, next] = proven
            .proofs
            .map(|proof| expected.as_bytes().ct_eq(proof.as_bytes()));
        if !bool::from(current | next) {
            return Err(HandshakeError::AuthFailed { claimed: None });
        }
        let call = Call::decode(proven.bytes)?;
        Ok(CallProgress::Called { call, consumed })
    }
}

const FLAG_TRIAL: u8 = 1;
