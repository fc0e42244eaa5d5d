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
//! another transport, with another Hello, or in the other direction (one key per role).
//!
//! Where the hub dials, its [`Call`] comes first and proves the secret, before the edge says anything:
//!
//! ```text
//! edge                                                hub
//!   verify, one HMAC                          ◄───      Call · two HMACs (k_call, T of the Call)
//!   Hello, or Refused                         ───►      as above
//! ```
//!
//! Nothing here does I/O: [`EdgeHandshake`] and [`HubHandshake`] are given the bytes received so far
//! and say what they mean; at most [`MAX_MESSAGE`] bytes ever need to be kept for them.

mod call;
mod edge;
mod error;
mod extension;
mod hello;
mod hub;
mod ids;
mod kind;
mod message;
mod proof;
mod refused;
mod transport;
mod welcome;

#[cfg(test)]
mod tests;

pub use call::{Call, CallHandshake, CallProgress};
pub use edge::{EdgeHandshake, EdgeProgress};
pub use error::HandshakeError;
pub use extension::MAX_SOFTWARE_VERSION;
pub use hello::{Hello, Resume};
pub use hub::{AuthenticatedEdge, HubHandshake, HubProgress};
pub use ids::{HubEpoch, InstanceId, SessionId};
pub use kind::MessageKind;
pub use message::{MAX_MESSAGE, Message, Proven, ProvenTwice, decode_message};
pub use proof::{
    Candidate, Candidates, PROOF_LENGTH, Proof, ProofKeys, Transcript, edge_proof, hub_proof,
    verify_edge_proof, verify_hub_proof,
};
pub use refused::{MAX_RETRY_AFTER, RefuseCode, Refused};
pub use transport::{PROTOCOL_VERSION, Transport};
pub use welcome::{SessionOutcome, Welcome};
