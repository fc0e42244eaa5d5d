//! Outcome of a stream.

use remoteingress_config::reasons::StreamCloseReason;
use remoteingress_proto::mux::stream::AbortCode;

/// Outcome of a stream at this end. It is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both directions ended with FIN.
    Finished,
    /// This end's socket failed.
    SocketReset,
    /// The other end, or the session, aborted it.
    Aborted(AbortCode),
}

impl From<Outcome> for StreamCloseReason {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Finished => Self::Finished,
            Outcome::SocketReset => Self::Reset,
            Outcome::Aborted(code) => code.into(),
        }
    }
}
