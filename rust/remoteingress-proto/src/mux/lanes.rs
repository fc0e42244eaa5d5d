//! What the session needs where each stream has a lane of its own: one QUIC stream per stream, and one for
//! the session itself (D8).
//!
//! Lanes are ordered, but not among each other: an OPEN may come after a later one, or after a CANCEL of its
//! stream. Nothing is ever lost while the connection lives, so that ACKs still tell how much is on its way.

use crate::mux::scheduler::Choice;
use crate::wire::frame::{FrameDecoder, StreamId};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};

/// OPENs that came behind missing ones, and CANCELs that came before their OPEN; a peer that leaves more out is
/// closed. Each costs some 8 bytes, and all the streams that a peer gives up while an OPEN is late must fit.
pub(super) const MAX_GAPS: usize = 1 << 17;
/// Lanes without a live stream on which a frame is unfinished: an OPEN, or payload that nobody wants and that isn't
/// kept. Each costs at most 400 bytes; as many as streams of an edge may be given up at once.
pub(super) const MAX_UNFINISHED: usize = 1 << 14;

/// How soon a lane's bytes shall leave, compared with those of other lanes that wait too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// `sustained` beyond its guarantee: when nothing else waits.
    Leftover,
    /// A turn among streams that always have something to send.
    Turn,
    /// A stream that was silent until now.
    Newcomer,
    /// The session itself.
    Control,
}

impl From<Choice> for Urgency {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Newcomer => Self::Newcomer,
            Choice::Turn => Self::Turn,
            Choice::Leftover => Self::Leftover,
        }
    }
}

/// What is to be done next on the lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaneOutput {
    /// Send a frame on the lane of this stream; an edge's OPEN opens it.
    Frame {
        /// [`StreamId::SESSION`] is the session's own lane.
        lane: StreamId,
        /// All of it, in order with the lane's other frames.
        frame: Bytes,
        /// Compared with other lanes.
        urgency: Urgency,
    },
    /// Nothing more will be sent on the lane: end it.
    Finish(StreamId),
    /// Send a datagram.
    Datagram(Bytes),
}

/// Lanes on which frames may come, and those that the peer has opened so far.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By stream; the session's own is [`StreamId::SESSION`].
    pub(super) decoders: HashMap<StreamId, FrameDecoder>,
    /// The peer has opened all of its ids up to this.
    contiguous: u32,
    /// And these beyond.
    beyond: BTreeSet<u32>,
    /// Streams whose CANCEL came before their OPEN.
    pub(super) early_cancels: BTreeSet<u32>,
}

impl Lanes {
    /// Records that the peer has opened `id`; false if it had before, or leaves too many out. `parity` is 1 for an
    /// edge's ids and 2 for a hub's.
    pub(super) fn open(&mut self, id: StreamId, parity: u32) -> bool {
        if self.has_opened(id) || self.beyond.len() >= MAX_GAPS {
            return false;
        }
        self.beyond.insert(id.0);
        loop {
            let next = match self.contiguous {
                0 => parity,
                last => last.saturating_add(2),
            };
            if !self.beyond.remove(&next) {
                return true;
            }
            self.contiguous = next;
        }
    }

    pub(super) fn has_opened(&self, id: StreamId) -> bool {
        id.0 <= self.contiguous || self.beyond.contains(&id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_may_come_in_any_order_but_once() {
        let mut lanes = Lanes::default();
        for id in [5, 1, 7, 3, 11] {
            assert!(lanes.open(StreamId(id), 1), "{id}");
        }
        assert_eq!((lanes.contiguous, lanes.beyond.len()), (7, 1));
        for id in [1, 5, 7, 11] {
            assert!(!lanes.open(StreamId(id), 1), "{id} again");
        }
        assert!(!lanes.has_opened(StreamId(9)));
        let mut hub = Lanes::default();
        assert!(hub.open(StreamId(2), 2) && hub.open(StreamId(4), 2));
        assert_eq!(hub.contiguous, 4);
    }
}
