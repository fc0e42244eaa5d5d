//! Reasons why a stream isn't opened, and why a session or its connection ends.

use crate::wire::frame::{FrameError, FrameKind, StreamId};
use thiserror::Error;

/// Reason why a stream can't be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// The peer has sent GOAWAY, or this end has.
    #[error("the session accepts no new streams")]
    GoingAway,
    /// Its stream ids are used up.
    #[error("the session's stream ids are used up")]
    Exhausted,
    /// The memory budget is used up.
    #[error("the memory budget is used up")]
    Overloaded,
}

/// A fault that only a peer makes which breaks the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(FrameError),
    /// A stream id of the wrong parity, or not above the last one.
    #[error("stream id {} can't be opened", .0.0)]
    BadStreamId(StreamId),
    /// A frame for a stream that was never opened.
    #[error("a {kind:?} frame for stream {} that was never opened", id.0)]
    NeverOpened {
        /// The stream.
        id: StreamId,
        /// The frame.
        kind: FrameKind,
    },
    /// More payload than credit, or more assumed credit than announced.
    #[error("stream {} exceeds its credit", .0.0)]
    CreditExceeded(StreamId),
    /// A credit of 0, or one that adds up to more than 2^31 - 1 (RFC 9113 section 6.9.1).
    #[error("stream {} is granted impossible credit", .0.0)]
    BadCredit(StreamId),
    /// Payload or FIN after FIN or ABORT.
    #[error("stream {} goes on after its end", .0.0)]
    AfterEnd(StreamId),
    /// An acknowledgement or resume offset that doesn't fit what was sent.
    #[error("offset {0} does not fit what was sent")]
    BadOffset(u64),
    /// A frame on another lane than its own, or a lane that ends without one.
    #[error("the lane of stream {} has what it can't have", .0.0)]
    BadLane(StreamId),
    /// Too many glitches, or too much that waits for this peer to read.
    #[error("the peer costs more than it may")]
    Excessive,
}

/// Reason why a session's connection, or the session itself, has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The peer broke the protocol: close the connection and the session.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
    /// Nothing was heard for 8 s: `detach`, and resume on a new connection.
    #[error("nothing was heard from the peer for 8 s")]
    PeerSilent,
    /// No connection came in time: the session is lost.
    #[error("the session was not resumed in time")]
    ResumeExpired,
}

impl From<FrameError> for SessionError {
    fn from(error: FrameError) -> Self {
        Self::Violation(Violation::Frame(error))
    }
}
