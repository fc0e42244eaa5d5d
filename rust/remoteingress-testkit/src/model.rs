//! The reference: all that the owners of a stream's two ends did, saw, and may expect to see.

use remoteingress_proto::mux::StreamKey;
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};

/// One end of a stream, as its owner sees it.
#[derive(Debug, Default)]
pub struct End {
    /// The session's name for the stream at this end, as soon as the end exists.
    pub key: Option<StreamKey>,
    /// Payload its owner still wants to send.
    pub to_write: usize,
    /// Payload that the session took.
    pub written: u64,
    /// `room` gave 0, and no SendReady came since.
    pub waits_for_room: bool,
    /// The owner writes nothing more; FIN follows what is still to be written.
    pub finish_wanted: bool,
    /// The session was told to finish.
    pub finished: bool,
    /// The code of the first abort by this owner; releasing an unfinished end counts as a reset.
    pub aborted: Option<AbortCode>,
    /// The owner reads nothing more.
    pub cancelled: bool,
    /// The owner has let go of the stream.
    pub released: bool,
    /// Something is there to take.
    pub readable: bool,
    /// Payload that was consumed, all of it checked.
    pub read: u64,
    /// The end of the peer's payload, once the owner has taken it.
    pub end: Option<StreamEnd>,
    /// The session said that the peer wants no more payload.
    pub stopped: bool,
}

impl End {
    /// It exists and its owner may use it.
    pub fn live(&self) -> Option<StreamKey> {
        self.key.filter(|_| !self.released)
    }

    /// The owner may write, or finish.
    pub fn may_write(&self) -> bool {
        self.live().is_some() && !self.finished && self.aborted.is_none() && !self.stopped
    }

    /// This end doesn't want the peer's payload any more.
    pub fn unwanted(&self) -> bool {
        self.cancelled || self.released || self.aborted.is_some()
    }
}

/// A stream: its ends at the edge and at the hub.
#[derive(Debug, Default)]
pub struct Stream {
    /// The side that opened it.
    pub opener: usize,
    /// The stream as the owners at the edge and at the hub see it.
    pub ends: [End; 2],
}

impl Stream {
    /// End `side` has taken an end: it must be one that the other owner caused, and P7 holds.
    pub fn saw_end(&mut self, side: usize, end: StreamEnd) {
        let (this, other) = (&self.ends[side], &self.ends[1 - side]);
        match (this.end, end) {
            (Some(StreamEnd::Aborted(_)), _) => {
                assert_eq!(this.end, Some(end), "P8: an ABORT is the last word")
            }
            (Some(StreamEnd::Finished), _) | (None, _) => {}
        }
        let complete = this.unwanted() || this.read == other.written;
        match end {
            StreamEnd::Finished => {
                assert!(other.finished, "P7: FIN only if finished");
                assert!(complete, "P7: {} of {} at FIN", this.read, other.written);
            }
            StreamEnd::Aborted(AbortCode::Overloaded | AbortCode::Refused)
                if other.key.is_none() =>
            {
                assert_eq!(self.opener, side, "P15: only the opener is refused");
            }
            StreamEnd::Aborted(code) => {
                assert_eq!(other.aborted, Some(code), "P8: ABORT only if aborted");
                assert!(complete, "P7: {} of {} at ABORT", this.read, other.written);
            }
        }
        self.ends[side].end = Some(end);
    }

    /// The opener was told that nothing of the stream was looked at (P15).
    pub fn is_refused(&self) -> bool {
        matches!(
            self.ends[self.opener].end,
            Some(StreamEnd::Aborted(
                AbortCode::Overloaded | AbortCode::Refused
            ))
        )
    }

    /// Payload from end `side` must arrive in full: nobody gave up.
    pub fn must_arrive_from(&self, side: usize) -> bool {
        let (from, to) = (&self.ends[side], &self.ends[1 - side]);
        from.live().is_some()
            && to.live().is_some()
            && from.aborted.is_none()
            && to.aborted.is_none()
            && !to.cancelled
    }
}

/// The byte at `offset` of what end `side` of stream `serial` sends.
pub fn byte(serial: usize, side: usize, offset: u64) -> u8 {
    let x = (serial as u64 * 2 + side as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ offset;
    (x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 32) as u8
}
