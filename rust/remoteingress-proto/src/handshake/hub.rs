//! The hub's side of the handshake: authenticates a Hello, later answers it.
//!
//! The two steps are apart because the worker that owns the session to be resumed makes the Welcome:
//! [`AuthenticatedEdge`] moves there.

use zeroize::Zeroizing;

use super::error::HandshakeError;
use super::hello::{Hello, Prefix};
use super::kind::MessageKind;
use super::message::{Message, decode_only, encode_message};
use super::proof::{Candidate, Candidates, ProofKeys, Transcript, hub_proof, verify_edge_proof};
use super::transport::Transport;
use super::welcome::Welcome;
use crate::token::edge_id::EdgeId;

/// A handshake that waits for a Hello.
#[derive(Debug)]
pub struct HubHandshake {
    ekm: Zeroizing<[u8; 32]>,
    transport: Transport,
    /// The messages that may come: a refusal only from an edge that was called.
    expected: &'static [MessageKind],
}

/// The state of the handshake, by the bytes received so far.
#[derive(Debug)]
pub enum HubProgress {
    /// No whole Hello is there yet.
    NeedMore,
    /// The edge has proven itself. The bytes after the first `consumed` are frames.
    Authenticated {
        /// Its Hello, and the keys for the answer.
        edge: Box<AuthenticatedEdge>,
        /// Bytes of `received` that the Hello took.
        consumed: usize,
    },
}

/// An edge that has proven its secret and waits for a Welcome.
#[derive(Debug)]
pub struct AuthenticatedEdge {
    /// Its wishes; all of it is proven.
    pub hello: Hello,
    /// The one of the edge's secrets that it proved.
    pub candidate: Candidate,
    /// The keys of that secret.
    pub keys: ProofKeys,
    transcript: Transcript,
}

impl HubHandshake {
    /// Of a connection with this exporter value (`ekm`).
    pub fn new(ekm: &[u8; 32], transport: Transport) -> Self {
        Self {
            ekm: Zeroizing::new(*ekm),
            transport,
            expected: &[MessageKind::Hello],
        }
    }

    /// The same of a connection on which this hub has said [`Call`](super::Call): the edge may refuse it.
    pub fn called(ekm: &[u8; 32], transport: Transport) -> Self {
        Self {
            expected: &[MessageKind::Hello, MessageKind::Refused],
            ..Self::new(ekm, transport)
        }
    }

    /// Looks at all bytes received so far, from the first one on; `lookup` gives the secrets of an edge id.
    ///
    /// Only the start of a Hello is read before its proof holds. Any error ends the connection, after
    /// its [`HandshakeError::refusal`] was sent.
    pub fn handle(
        &self,
        received: &[u8],
        lookup: impl FnOnce(&EdgeId) -> Candidates,
    ) -> Result<HubProgress, HandshakeError> {
        let (proven, consumed) = match decode_only(self.expected, received)? {
            None => return Ok(HubProgress::NeedMore),
            Some((Message::Hello(proven), consumed)) => (proven, consumed),
            Some((Message::Refused(refused), _)) => return Err(HandshakeError::Refused(refused)),
            Some((other, _)) => return Err(HandshakeError::UnexpectedKind(other.kind())),
        };

        // A start that can't be read is an edge that isn't known: same work, same answer.
        let prefix = Prefix::decode(proven.bytes).ok();
        let candidates = prefix
            .as_ref()
            .map_or_else(Candidates::unknown, |prefix| lookup(&prefix.edge_id));
        let version = prefix.as_ref().map_or(0, |prefix| prefix.protocol_version);
        let transcript = Transcript::new(version, self.transport, &self.ekm, proven.bytes);
        let Some(candidate) = verify_edge_proof(&candidates, &transcript, &proven.proof) else {
            return Err(HandshakeError::AuthFailed {
                claimed: prefix.map(|prefix| prefix.edge_id),
            });
        };

        let hello = Hello::decode(proven.bytes)?;
        let keys = candidates.into_keys(candidate);
        let edge = Box::new(AuthenticatedEdge {
            hello,
            candidate,
            keys,
            transcript,
        });
        Ok(HubProgress::Authenticated { edge, consumed })
    }
}

impl AuthenticatedEdge {
    /// The Welcome with the hub's proof, as a whole message.
    pub fn welcome_message(&self, welcome: &Welcome) -> Result<Vec<u8>, HandshakeError> {
        let bytes = welcome.encode()?;
        let proof = hub_proof(&self.keys, &self.transcript, &bytes);
        encode_message(MessageKind::Welcome, &[&bytes, proof.as_bytes()])
    }
}
