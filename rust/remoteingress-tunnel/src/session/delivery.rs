//! The owner of a session, and the delivery of what happens on it, the same over either transport.

use super::local_session::LocalSession;
use crate::transport::error::ConnectionError;
use bytes::{Bytes, BytesMut};
use remoteingress_proto::control::ControlError;
use remoteingress_proto::mux::Event;
use std::time::Instant;

/// The edge's or the hub's part of a session: it decides, and it is told of all but payload.
pub trait Owner {
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
pub(crate) struct Prelude {
    received: BytesMut,
    is_over: bool,
}

impl Prelude {
    /// Takes what has come; gives what of it belongs to the session, once that has begun.
    pub(crate) fn pass(
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

    /// True once the session has begun, so that all bytes belong to it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Tells pipes and owner what happened.
pub(crate) fn deliver(
    local: &LocalSession,
    owner: &impl Owner,
    now: Instant,
) -> Result<(), ConnectionError> {
    let delivered = deliver_events(local, owner, now);
    owner.settle();
    local.look_for_names();
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
            Event::Readable(key) => local.readable(key, now),
            Event::SendReady(key) => local.send_ready(key),
            Event::SendStopped(key) => local.send_stopped(key),
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
