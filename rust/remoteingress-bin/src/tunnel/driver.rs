//! What drives a session over either transport: why a connection ends, who decides, and who is told what happened.

use super::local_session::LocalSession;
use bytes::{Bytes, BytesMut};
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
    /// The hub doesn't let this edge in; the owner knows why.
    #[error("the hub refused the session")]
    Refused,
    /// The session ended it.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A control message that makes no sense.
    #[error("protocol violation: {0}")]
    Control(#[from] ControlError),
}

impl ConnectionError {
    /// The peer doesn't know the connection: it was restarted.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(self, Self::Quic(quinn_proto::ConnectionError::Reset))
    }

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
    /// Looks at all that has come on a new connection. Once the session may begin it says how many of these bytes came
    /// before; until then the session only sends.
    fn begin(&self, _received: &[u8]) -> Result<Option<usize>, ConnectionError> {
        Ok(Some(0))
    }

    /// Something that concerns more than one stream's payload. An error ends the session.
    fn handle(&self, event: Event) -> Result<(), ControlError>;

    /// That was all for now: what `handle` has gathered of datagrams leaves.
    fn settle(&self);
}

/// The bytes before a session.
#[derive(Debug, Default)]
pub(super) struct Prelude {
    received: BytesMut,
    is_over: bool,
}

impl Prelude {
    /// Takes what has come; gives what of it belongs to the session, once that has begun.
    pub(super) fn pass(
        &mut self,
        owner: &impl Owner,
        bytes: Bytes,
    ) -> Result<Option<Bytes>, ConnectionError> {
        if self.is_over {
            return Ok(Some(bytes));
        }
        self.received.extend_from_slice(&bytes);
        let Some(used) = owner.begin(&self.received)? else {
            return Ok(None);
        };
        self.is_over = true;
        let rest = self.received.split_off(used.min(self.received.len()));
        self.received = BytesMut::new();
        Ok(Some(rest.freeze()))
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Tells pipes and owner what happened.
pub(super) fn deliver(
    local: &LocalSession,
    owner: &impl Owner,
    now: Instant,
) -> Result<(), ConnectionError> {
    let delivered = deliver_events(local, owner, now);
    owner.settle();
    delivered
}

fn deliver_events(
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
