//! How a stream ended.

use remoteingress_proto::mux::stream::AbortCode;

/// How a stream ended at this end. It is said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both directions ended with FIN.
    Finished,
    /// This end's socket failed.
    SocketReset,
    /// The other end, or the session, aborted it.
    Aborted(AbortCode),
}

impl Outcome {
    /// The reason in events and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::SocketReset => "reset",
            Self::Aborted(code) => code.as_str(),
        }
    }
}
