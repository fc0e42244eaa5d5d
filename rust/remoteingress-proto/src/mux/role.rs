//! The two ends of a session, and whose stream ids are whose.

use crate::wire::frame::StreamId;

/// This end's role. It decides the parity of stream ids and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens odd ids.
    Edge,
    /// Opens even ids.
    Hub,
}

impl Role {
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
