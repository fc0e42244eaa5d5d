//! Ids of streams that this end closed and whose close the peer hasn't acknowledged: their frames are free (D8).

use crate::frame::StreamId;
use std::collections::{HashSet, VecDeque};

/// In the order of the terminal frames' numbers.
#[derive(Debug, Default)]
pub(super) struct ClosedStreams {
    order: VecDeque<(u64, StreamId)>,
    ids: HashSet<StreamId>,
}

impl ClosedStreams {
    /// The stream's terminal frame has the number `terminal`.
    pub(super) fn insert(&mut self, terminal: u64, id: StreamId) {
        // A stream may be let go of after younger ones: an entry out of order waits a little longer.
        let at_least = self.order.back().map_or(0, |(last, _)| *last);
        self.order.push_back((terminal.max(at_least), id));
        self.ids.insert(id);
    }

    /// The stream was refused; its terminal frame has no number yet.
    pub(super) fn expect(&mut self, id: StreamId) {
        self.ids.insert(id);
    }

    pub(super) fn contains(&self, id: StreamId) -> bool {
        self.ids.contains(&id)
    }

    /// The peer has received all frames numbered below `received`.
    pub(super) fn acknowledge(&mut self, received: u64) {
        while let Some((terminal, id)) = self.order.front().copied() {
            if terminal >= received {
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
