//! The lanes that the peer has opened: they are ordered, but not among each other.

use crate::wire::frame::StreamId;
use std::collections::BTreeSet;

/// OPENs that came while earlier ones are missing, and CANCELs that came before their OPEN; a peer that leaves more
/// out is closed. Each costs some 8 bytes, and all the streams that a peer gives up while an OPEN is late must fit.
pub(crate) const MAX_GAPS: usize = 1 << 17;

/// The lanes that the peer has opened so far. An OPEN may come after a later one, or after a CANCEL of its stream.
#[derive(Debug, Default)]
pub(crate) struct OpenedLanes {
    /// The peer has opened all of its ids up to this.
    contiguous: u32,
    /// And these beyond.
    beyond: BTreeSet<u32>,
}

impl OpenedLanes {
    /// Records that the peer has opened `id`; false if it had before, or leaves too many out. `parity` is 1 for an
    /// edge's ids and 2 for a hub's.
    pub(crate) fn open(&mut self, id: StreamId, parity: u32) -> bool {
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

    pub(crate) fn has_opened(&self, id: StreamId) -> bool {
        id.0 <= self.contiguous || self.beyond.contains(&id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_may_come_in_any_order_but_once() {
        let mut lanes = OpenedLanes::default();
        for id in [5, 1, 7, 3, 11] {
            assert!(lanes.open(StreamId(id), 1), "{id}");
        }
        assert_eq!((lanes.contiguous, lanes.beyond.len()), (7, 1));
        for id in [1, 5, 7, 11] {
            assert!(!lanes.open(StreamId(id), 1), "{id} again");
        }
        assert!(!lanes.has_opened(StreamId(9)));
        let mut hub = OpenedLanes::default();
        assert!(hub.open(StreamId(2), 2) && hub.open(StreamId(4), 2));
        assert_eq!(hub.contiguous, 4);
    }
}
