//! The next thing to be done on the lanes, and how soon.

use crate::mux::scheduler::Choice;
use crate::wire::frame::StreamId;
use bytes::Bytes;

/// Urgency of a lane's bytes, compared with those of other lanes that wait too.
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

impl Urgency {
    /// As QUIC wants it: streams of a higher number go first, and 0 is what one begins with.
    pub fn priority(self) -> i32 {
        match self {
            Self::Leftover => -1,
            Self::Turn => 0,
            Self::Newcomer => 1,
            Self::Control => 2,
        }
    }
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

/// The next thing to be done on the lanes.
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
