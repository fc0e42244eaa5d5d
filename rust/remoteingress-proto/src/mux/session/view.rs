//! One stream as somebody sees it who only looks.

use super::Session;
use crate::mux::stream::StreamKey;
use crate::mux::tier::Tier;
use crate::wire::frame::StreamId;

/// What a session knows of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Its id on the wire, once its OPEN has left.
    pub id: Option<StreamId>,
    /// The turn that its frames have.
    pub tier: Tier,
    /// The peer takes more of its payload.
    pub has_credit: bool,
}

impl Session {
    /// The stream's id on the wire, once its OPEN has left.
    pub fn stream_id(&self, key: StreamKey) -> Option<StreamId> {
        self.streams.table.of_key(key)?.id
    }

    /// The stream as it is now, while it is known.
    pub fn view(&self, key: StreamKey) -> Option<StreamView> {
        let stream = self.streams.table.of_key(key)?;
        Some(StreamView {
            id: stream.id,
            tier: stream.tier(),
            has_credit: stream.send.credit > 0,
        })
    }
}
