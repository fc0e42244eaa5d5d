//! Stream ids: which ones each end has opened or may open, and which live stream has which.

use crate::lanes::order::{MAX_GAPS, OpenedLanes};
use crate::mux::carrier::Carrier;
use crate::mux::error::{OpenError, Violation};
use crate::mux::role::Role;
use crate::wire::frame::StreamId;
use std::collections::{BTreeSet, HashMap};

/// No stream id is given out beyond this; the owner opens a new session and drains this one (threats A3.4).
const LAST_STREAM_ID: u32 = (1 << 31) - (1 << 16);

/// Ids of each end rise, and none is used twice. GOAWAY ends that for one end, or both.
#[derive(Debug)]
pub(super) struct StreamIds {
    role: Role,
    /// Indexes of streams that aren't forgotten.
    known: HashMap<StreamId, usize>,
    /// The id that the next stream opened here gets.
    next: u32,
    /// Streams opened here whose OPEN hasn't left.
    unopened: u32,
    /// The highest id that the peer has opened.
    highest_of_peer: u32,
    /// On lanes: all that the peer has opened.
    lanes: OpenedLanes,
    /// On lanes: streams of the peer whose CANCEL came before their OPEN.
    cancelled_early: BTreeSet<u32>,
    /// Streams of the peer beyond this are ignored: our GOAWAY says so.
    last_served: u32,
    going_away: bool,
    peer_going_away: bool,
}

impl StreamIds {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            known: HashMap::new(),
            next: role.first_id(),
            unopened: 0,
            highest_of_peer: 0,
            lanes: OpenedLanes::default(),
            cancelled_early: BTreeSet::new(),
            last_served: u32::MAX,
            going_away: false,
            peer_going_away: false,
        }
    }

    /// The index of the stream, while it is known.
    #[inline]
    pub(super) fn index(&self, id: StreamId) -> Option<usize> {
        self.known.get(&id).copied()
    }

    /// The stream is forgotten.
    #[inline]
    pub(super) fn remove(&mut self, id: StreamId) {
        self.known.remove(&id);
    }

    // === ids of this end ===

    /// Checks that this end may open another stream.
    #[inline]
    pub(super) fn may_open(&self) -> Result<(), OpenError> {
        if self.is_exhausted() {
            Err(OpenError::Exhausted)
        } else if self.going_away || self.peer_going_away {
            Err(OpenError::GoingAway)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn is_exhausted(&self) -> bool {
        self.next.saturating_add(self.unopened.saturating_mul(2)) >= LAST_STREAM_ID
    }

    /// A stream is opened here; it gets its id when its OPEN leaves.
    #[inline]
    pub(super) fn reserve(&mut self) {
        self.unopened += 1;
    }

    /// A reserved id isn't needed: that OPEN never leaves.
    #[inline]
    pub(super) fn cede(&mut self) {
        self.unopened -= 1;
    }

    /// The OPEN of a stream leaves: its id.
    #[inline]
    pub(super) fn assign(&mut self, index: usize) -> StreamId {
        let id = StreamId(self.next);
        self.next += 2;
        self.unopened -= 1;
        self.known.insert(id, index);
        id
    }

    /// The id that the next OPEN gets.
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// As if all ids but this number of them had been given out.
    #[cfg(feature = "testing")]
    pub(super) fn skip(&mut self, left: u32) {
        self.next = (LAST_STREAM_ID - 2 * left) | (self.next & 1);
    }

    // === ids of the peer ===

    /// Records an OPEN of the peer.
    #[inline]
    pub(super) fn opened(&mut self, id: StreamId, carrier: Carrier) -> Result<(), Violation> {
        let is_new = self.is_peers(id)
            && match carrier {
                Carrier::Ordered => id.0 > self.highest_of_peer,
                Carrier::Lanes => self.lanes.open(id, self.role.peer().first_id()),
            };
        if !is_new {
            return Err(Violation::BadStreamId(id));
        }
        self.highest_of_peer = self.highest_of_peer.max(id.0);
        Ok(())
    }

    /// That stream of the peer is served.
    #[inline]
    pub(super) fn insert(&mut self, id: StreamId, index: usize) {
        self.known.insert(id, index);
    }

    /// True if the peer is the one that opens this id.
    #[inline]
    fn is_peers(&self, id: StreamId) -> bool {
        self.role.peer().opens(id)
    }

    /// On lanes a CANCEL may be faster than its stream's OPEN: whether this one was, which is recorded.
    #[inline]
    pub(super) fn cancelled(&mut self, id: StreamId, carrier: Carrier) -> Result<bool, Violation> {
        let is_early = carrier == Carrier::Lanes && self.is_peers(id) && !self.lanes.has_opened(id);
        if is_early {
            self.cancelled_early.insert(id.0);
            if self.cancelled_early.len() > MAX_GAPS {
                return Err(Violation::Excessive);
            }
        }
        Ok(is_early)
    }

    /// True if the stream's CANCEL came before its OPEN, which has come now.
    #[inline]
    pub(super) fn take_early_cancel(&mut self, id: StreamId) -> bool {
        self.cancelled_early.remove(&id.0)
    }

    // === ids of both ===

    /// On lanes: whether either end has opened it before.
    #[inline]
    pub(super) fn was_opened(&self, id: StreamId) -> bool {
        if self.is_peers(id) {
            self.lanes.has_opened(id)
        } else {
            id.0 < self.next
        }
    }

    /// On an ordered connection: whether either end has opened it, or an id beyond.
    pub(super) fn is_in_use(&self, id: StreamId) -> bool {
        let highest = if self.is_peers(id) {
            self.highest_of_peer
        } else {
            self.next.saturating_sub(2)
        };
        id.0 <= highest
    }

    // === GOAWAY ===

    /// Neither end has said GOAWAY, and there are ids.
    pub(super) fn is_closing(&self) -> bool {
        self.may_open().is_err()
    }

    /// This end says GOAWAY, with the last id of the peer that it serves: if `at_once`, none that hasn't come yet. None
    /// if it was said before.
    pub(super) fn go_away(&mut self, at_once: bool) -> Option<u32> {
        if std::mem::replace(&mut self.going_away, true) {
            return None;
        }
        if at_once {
            self.last_served = self.highest_of_peer;
        }
        Some(self.last_served)
    }

    /// The peer says GOAWAY; false if it has before.
    pub(super) fn peer_goes_away(&mut self) -> bool {
        !std::mem::replace(&mut self.peer_going_away, true)
    }

    /// True if new streams of the peer are served.
    #[inline]
    pub(super) fn is_serving(&self) -> bool {
        self.last_served == u32::MAX
    }

    /// The peer opened it after the last one that a GOAWAY promised to serve.
    #[inline]
    pub(super) fn is_refused_by_go_away(&self, id: StreamId) -> bool {
        self.is_peers(id) && id.0 > self.last_served && id.0 <= self.highest_of_peer
    }
}
