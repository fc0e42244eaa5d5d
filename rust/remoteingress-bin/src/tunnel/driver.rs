//! What drives a session over either transport: why a connection ends, who decides, and who is told what happened.

use super::local_session::LocalSession;
use remoteingress_proto::control::ControlError;
use remoteingress_proto::mux::{Event, SessionError};
use std::io;
use std::time::Instant;
use thiserror::Error;

/// Why a connection can't go on.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// The peer closed it in order.
    #[error("the peer closed the connection")]
    Closed,
    /// The network ended it.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// What came is not TLS as agreed.
    #[error("TLS failed: {0}")]
    Tls(#[from] super::tls::TlsError),
    /// QUIC ended it.
    #[error("the connection was lost: {0}")]
    Quic(#[from] quinn_proto::ConnectionError),
    /// The peer cut a QUIC stream off, which no peer of ours does.
    #[error("protocol violation: a QUIC stream was reset")]
    LaneReset,
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A control message that makes no sense.
    #[error("protocol violation: {0}")]
    Control(#[from] ControlError),
}

impl ConnectionError {
    /// The peer broke the protocol: the session can't go on either.
    pub(crate) fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Control(_) | Self::LaneReset | Self::Session(SessionError::Violation(_))
        )
    }
}

/// What the owner of a session decides.
pub(crate) trait Owner {
    /// Something that concerns more than one stream's payload. An error ends the session.
    fn handle(&self, event: Event) -> Result<(), ControlError>;
}

/// Tells pipes and owner what happened.
pub(super) fn deliver(
    local: &LocalSession,
    owner: &impl Owner,
    now: Instant,
) -> Result<(), ConnectionError> {
    loop {
        let Some(event) = local.session().poll_event() else {
            return Ok(());
        };
        match event {
            Event::Readable(key) => {
                if let Some(pipe) = local.pipe(key) {
                    pipe.readable(&mut local.session(), now);
                }
            }
            Event::SendReady(key) => {
                if let Some(pipe) = local.pipe(key) {
                    pipe.wake();
                }
            }
            Event::SendStopped(key) => {
                if let Some(pipe) = local.pipe(key) {
                    pipe.stop_reading();
                }
            }
            Event::Opened { .. }
            | Event::Refused
            | Event::Control(_)
            | Event::GoAway { .. }
            | Event::Datagram(_)
            | Event::Silent
            | Event::Heard => owner.handle(event)?,
        }
    }
}
