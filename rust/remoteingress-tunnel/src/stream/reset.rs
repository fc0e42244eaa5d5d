//! The error by which a program is told that its stream has failed.

use remoteingress_core::stream::Outcome;
use remoteingress_proto::mux::stream::AbortCode;
use std::io::{self, ErrorKind};
use thiserror::Error;

/// A stream was aborted. It is the source of an [`io::Error`] of the kind [`ErrorKind::ConnectionReset`]; get it by
/// `error.get_ref()` and `downcast_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the stream was aborted: {}", .0.as_str())]
pub struct StreamReset(pub AbortCode);

/// The error of a stream that ended so; none if that was in order.
pub(crate) fn ended(outcome: Outcome) -> io::Result<()> {
    let code = match outcome {
        Outcome::Finished => return Ok(()),
        Outcome::SocketReset => AbortCode::Reset,
        Outcome::Aborted(code) => code,
    };
    Err(io::Error::new(
        ErrorKind::ConnectionReset,
        StreamReset(code),
    ))
}

/// The error of writing where nobody reads: after this end's shutdown, or when the peer wants no more.
pub(crate) fn closed() -> io::Error {
    io::Error::new(
        ErrorKind::BrokenPipe,
        "nothing more can be written to the stream",
    )
}
