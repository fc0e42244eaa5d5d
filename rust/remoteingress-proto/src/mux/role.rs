//! The two ends of a session, and whose stream ids are whose.

use crate::wire::frame::StreamId;
use std::time::Duration;

/// This end's role. It decides the parity of stream ids, and which end asks first on an idle session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens odd ids.
    Edge,
    /// Opens even ids.
    Hub,
}

impl Role {
    /// Time after which this end asks an idle peer for a sign of life. The hub waits a fifteenth longer: the edge has
    /// asked by then, and one question serves both (D13).
    pub fn asks_after(self, interval: Duration) -> Duration {
        match self {
            Self::Edge => interval,
            Self::Hub => interval + interval / 15,
        }
    }

    /// The other end.
    pub(crate) fn peer(self) -> Self {
        match self {
            Self::Edge => Self::Hub,
            Self::Hub => Self::Edge,
        }
    }

    /// The first id that this end opens.
    pub(crate) fn first_id(self) -> u32 {
        match self {
            Self::Edge => 1,
            Self::Hub => 2,
        }
    }

    /// True if this end is the one that opens streams of this id.
    #[inline]
    pub(crate) fn opens(self, id: StreamId) -> bool {
        id.0 % 2 == u32::from(self == Self::Edge)
    }
}
