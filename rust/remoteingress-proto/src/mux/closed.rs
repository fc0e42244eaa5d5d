//! Streams that this end closed and whose close the peer hasn't heard of: their frames are free (D8).

use super::carrier::Carrier;
use crate::wire::frame::StreamId;
use std::collections::{HashSet, VecDeque};

/// The sign by which the peer learns that a stream is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// It has received all frames numbered below this.
    Numbered(u64),
    /// Its lane ends.
    LaneEnd,
}

impl Parting {
    /// The sign once all frames numbered below `next` are sent.
    pub(super) fn new(carrier: Carrier, next: u64) -> Self {
        match carrier {
            Carrier::Ordered => Self::Numbered(next),
            Carrier::Lanes => Self::LaneEnd,
        }
    }

    /// The sign once one more frame is sent.
    pub(super) fn after_one_more(self) -> Self {
        match self {
            Self::Numbered(next) => Self::Numbered(next + 1),
            Self::LaneEnd => Self::LaneEnd,
        }
    }
}

/// In the order in which the peer will hear of them.
#[derive(Debug, Default)]
pub(super) struct ClosedStreams {
    order: VecDeque<(u64, StreamId)>,
    ids: HashSet<StreamId>,
    acknowledged: u64,
    /// Lanes on which nothing more will be sent, to be ended.
    lanes: VecDeque<StreamId>,
}

impl ClosedStreams {
    /// The stream is over when the peer knows it by `parting`: it sends nothing more for the stream from
    /// then on. The number never falls from call to call.
    pub(super) fn insert(&mut self, parting: Parting, id: StreamId) {
        match parting {
            Parting::Numbered(sent) => {
                if sent > self.acknowledged {
                    self.order.push_back((sent, id));
                    self.ids.insert(id);
                }
            }
            Parting::LaneEnd => self.lanes.push_back(id),
        }
    }

    /// The stream was refused; its terminal frame has no number yet.
    pub(super) fn expect(&mut self, id: StreamId) {
        self.ids.insert(id);
    }

    pub(super) fn contains(&self, id: StreamId) -> bool {
        self.ids.contains(&id)
    }

    /// An ACK: the peer has received all frames numbered below `received`, and what it had sent
    /// until then has come. A resume offset doesn't say the latter: replay is still to come.
    pub(super) fn acknowledge(&mut self, received: u64) {
        self.acknowledged = received;
        while let Some((sent, id)) = self.order.front().copied() {
            if sent > received {
                return;
            }
            self.order.pop_front();
            self.ids.remove(&id);
        }
    }

    /// The next lane to end.
    #[inline]
    pub(super) fn next_lane(&mut self) -> Option<StreamId> {
        self.lanes.pop_front()
    }

    /// The connection has no lanes that could end.
    pub(super) fn forget_lanes(&mut self) {
        self.lanes.clear();
    }

    /// No frame that was sent is known to the peer any more, nor any that it was to acknowledge.
    pub(super) fn begin_again(&mut self) {
        self.order.clear();
        self.ids.clear();
        self.acknowledged = 0;
    }

    /// Streams of whose close the peer hasn't heard on an ordered connection.
    pub(super) fn unheard(&self) -> usize {
        self.ids.len()
    }

    /// Lanes to be ended.
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }
}
