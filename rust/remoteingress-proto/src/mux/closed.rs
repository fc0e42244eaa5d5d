//! Ids of streams that this end closed and whose close the peer hasn't acknowledged: their frames are free (D8).

use crate::wire::frame::StreamId;
use std::collections::{HashSet, VecDeque};

/// In the order of the numbers that are to be acknowledged.
#[derive(Debug, Default)]
pub(super) struct ClosedStreams {
    order: VecDeque<(u64, StreamId)>,
    ids: HashSet<StreamId>,
    acknowledged: u64,
}

impl ClosedStreams {
    /// The stream is over when the peer has received all frames numbered below `sent`: it sends
    /// nothing more for the stream from then on. `sent` never falls from call to call.
    pub(super) fn insert(&mut self, sent: u64, id: StreamId) {
        if sent > self.acknowledged {
            self.order.push_back((sent, id));
            self.ids.insert(id);
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

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}
