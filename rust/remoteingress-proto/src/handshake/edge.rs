//! The edge's side of the handshake: says Hello, then believes a Welcome only after the hub's proof.

use super::error::HandshakeError;
use super::hello::Hello;
use super::ids::SessionId;
use super::kind::MessageKind;
use super::message::{Message, decode_only, encode_message};
use super::proof::{ProofKeys, Transcript, edge_proof, verify_hub_proof};
use super::transport::Transport;
use super::welcome::{SessionOutcome, Welcome};
use crate::wire::features::FeatureOffer;

/// A handshake whose Hello is on its way.
#[derive(Debug)]
pub struct EdgeHandshake {
    keys: ProofKeys,
    transcript: Transcript,
    offer: FeatureOffer,
    resume: Option<SessionId>,
}

/// The state of the handshake, by the bytes received so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EdgeProgress {
    /// No whole message is there yet.
    NeedMore,
    /// The hub has proven itself. Frames begin after `consumed` bytes.
    Welcomed {
        /// The hub's terms, which answer what was asked.
        welcome: Welcome,
        /// Bytes of `received` that the message took.
        consumed: usize,
    },
}

impl EdgeHandshake {
    /// Starts; the bytes are to be sent.
    pub fn new(
        hello: &Hello,
        keys: ProofKeys,
        ekm: &[u8; 32],
        transport: Transport,
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let bytes = hello.encode()?;
        let transcript = Transcript::new(hello.protocol_version, transport, ekm, &bytes);
        let proof = edge_proof(&keys, &transcript);
        let message = encode_message(MessageKind::Hello, &[&bytes, proof.as_bytes()])?;
        let resume = hello.resume.map(|resume| resume.session);
        Ok((
            Self {
                keys,
                transcript,
                offer: hello.offer(),
                resume,
            },
            message,
        ))
    }

    /// Looks at all bytes received so far, from the first one on. Any error ends the connection.
    pub fn handle(&self, received: &[u8]) -> Result<EdgeProgress, HandshakeError> {
        let expected = [MessageKind::Welcome, MessageKind::Refused];
        let (proven, consumed) = match decode_only(&expected, received)? {
            None => return Ok(EdgeProgress::NeedMore),
            Some((Message::Welcome(proven), consumed)) => (proven, consumed),
            Some((Message::Refused(refused), _)) => return Err(HandshakeError::Refused(refused)),
            Some((other @ (Message::Hello(_) | Message::Call(_)), _)) => {
                return Err(HandshakeError::UnexpectedKind(other.kind()));
            }
        };
        if !verify_hub_proof(&self.keys, &self.transcript, proven.bytes, &proven.proof) {
            return Err(HandshakeError::HubProofFailed);
        }
        let welcome = Welcome::decode(proven.bytes)?;
        self.check(&welcome)?;
        Ok(EdgeProgress::Welcomed { welcome, consumed })
    }

    /// A hub with the secret can still be wrong; what it grants must answer what was asked.
    fn check(&self, welcome: &Welcome) -> Result<(), HandshakeError> {
        let answers_resume = match (welcome.outcome, self.resume) {
            (SessionOutcome::New, None) => true,
            (SessionOutcome::Resumed { .. }, Some(asked)) => welcome.session == asked,
            (SessionOutcome::SessionLost, Some(asked)) => welcome.session != asked,
            (SessionOutcome::New, Some(_))
            | (SessionOutcome::Resumed { .. } | SessionOutcome::SessionLost, None) => false,
        };
        if !answers_resume {
            return Err(HandshakeError::Malformed(
                "Welcome doesn't answer what was asked",
            ));
        }
        let agreed = welcome.features;
        if !agreed.contains(self.offer.required) || !self.offer.supported().contains(agreed) {
            return Err(HandshakeError::Malformed(
                "Welcome agrees to features that were not offered",
            ));
        }
        Ok(())
    }
}
