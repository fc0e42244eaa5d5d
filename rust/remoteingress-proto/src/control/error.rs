//! Everything that can be wrong with a control message.

use super::chunks::{MAX_CONTROL_MESSAGE, MAX_CONTROL_PAYLOAD};
use crate::wire::header::AddressError;
use crate::wire::tlv::UnexpectedEnd;
use thiserror::Error;

/// Reason why control messages were not understood, which ends the session: the peer's fault.
/// While encoding, [`ControlError::TooLong`] and [`ControlError::TooManyPorts`] are the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ControlError {
    /// A body beyond [`MAX_CONTROL_MESSAGE`].
    #[error("control message is longer than {MAX_CONTROL_MESSAGE} bytes")]
    TooLong,
    /// A part beyond [`MAX_CONTROL_PAYLOAD`].
    #[error("control frame is longer than {MAX_CONTROL_PAYLOAD} bytes")]
    FrameTooLong,
    /// More ports than a configuration or report may have.
    #[error("control message has too many ports")]
    TooManyPorts,
    /// Parts of two messages are mixed.
    #[error("control message is interrupted by another one")]
    Interrupted,
    /// The peer sends more messages than this end can act on.
    #[error("control messages come faster than they can be handled")]
    Flood,
    /// A field that breaks the format; the text says which.
    #[error("control message is malformed: {0}")]
    Malformed(&'static str),
    /// A field goes beyond the end.
    #[error("control message is malformed: {0}")]
    End(#[from] UnexpectedEnd),
    /// An address of no known family.
    #[error("control message is malformed: {0}")]
    Address(#[from] AddressError),
}
