//! One stream: its two halves, what each has queued, and how each ends.
//!
//! ```text
//!  sending half                                  receiving half
//!
//!  Open --finish--> Ending(Fin) --emitted-+      Open --FIN-----> Ended(Finished) --taken--> done
//!   | \--abort----> Ending(Abort) -emitted-+-->    | --ABORT---> Ended(Aborted)  --taken--> done
//!   |                                      Done    |
//!   +-- CANCEL or ABORT received ---------->       +-- cancelled, aborted or closed here --> Discarding
//! ```
//! The halves are independent; an ABORT, in either direction, ends both. Anything queued
//! has credit already, so that FIN and ABORT, which follow it in order, never wait for a window.
//!
//! Once each direction was ended by one side (FIN, ABORT) or the other (CANCEL, ABORT), neither
//! sends anything more: an end that has heard and said enough may forget the stream at once.

use crate::mux::budget::{Budget, Purpose};
use crate::mux::scheduler::Slot;
use crate::mux::tier::{RateMeter, Tier};
use crate::mux::window::ReceiveWindow;
use crate::wire::frame::{DataBuffer, StreamId};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// A stream of one session, as its owner knows it. A key that outlived its stream is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey {
    pub(super) index: usize,
    pub(super) generation: u32,
}

/// Reason why a stream was aborted; travels in ABORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AbortCode {
    /// The socket at the sender's side was reset.
    Reset = 0,
    /// The target refused the connection.
    TargetRefused = 1,
    /// The target did not answer in time or can't be reached.
    TargetUnreachable = 2,
    /// A limit or the memory budget is reached.
    Overloaded = 3,
    /// The session accepts no new streams; nothing of the stream was looked at.
    Refused = 4,
    /// The hub has no target for this listener.
    UnknownListener = 5,
    /// The stream was ended by the operator: drained for too long, or its port or edge removed.
    Ended = 6,
    /// Nothing moved for the configured time.
    IdleTimeout = 7,
    /// The edge's policy for client addresses forbids the client.
    ClientRefused = 8,
    /// Never on the wire: the session was lost.
    TunnelLost = 255,
}

impl AbortCode {
    /// Unknown codes of later versions read as `Reset`.
    pub fn from_wire(code: u8) -> Self {
        [
            Self::TargetRefused,
            Self::TargetUnreachable,
            Self::Overloaded,
            Self::Refused,
            Self::UnknownListener,
            Self::Ended,
            Self::IdleTimeout,
            Self::ClientRefused,
        ]
        .into_iter()
        .find(|known| *known as u8 == code)
        .unwrap_or(Self::Reset)
    }

    /// The reason in events, logs and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::TargetRefused => "targetRefused",
            Self::TargetUnreachable => "targetUnreachable",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::UnknownListener => "unknownListener",
            Self::Ended => "ended",
            Self::IdleTimeout => "idleTimeout",
            Self::ClientRefused => "clientRefused",
            Self::TunnelLost => "tunnelLost",
        }
    }
}

/// The end of the peer's direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// All payload has come.
    Finished,
    /// The stream failed after the payload that has come.
    Aborted(AbortCode),
}

/// The end that opened a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opener {
    /// This end.
    Local,
    /// The other end.
    Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendState {
    Open,
    Ending(StreamEnd),
    /// Nothing more will be sent.
    Done,
}

#[derive(Debug)]
pub(crate) struct SendHalf {
    pub(crate) state: SendState,
    /// OPEN's payload while it hasn't been emitted.
    pub(crate) open: Option<Bytes>,
    pub(crate) queue: VecDeque<DataBuffer>,
    /// Payload bytes in `queue`.
    pub(crate) queued: usize,
    /// Credit left beyond what is queued.
    pub(crate) credit: u64,
    /// The owner was told that there is no room and wants to know when there is.
    pub(crate) wants_room: bool,
    /// An ABORT was sent or is to be sent: there is never a second.
    pub(crate) aborted: bool,
    /// The peer knows that no payload comes, or will: FIN or ABORT was sent, or CANCEL received.
    pub(crate) over: bool,
    /// The owner waits for memory.
    pub(crate) starved: bool,
    pub(crate) rate: RateMeter,
    budget: Budget,
}

impl SendHalf {
    pub(crate) fn new(budget: &Budget, credit: u32, open: Option<Bytes>, now: Instant) -> Self {
        Self {
            state: SendState::Open,
            open,
            queue: VecDeque::new(),
            queued: 0,
            credit: credit.into(),
            wants_room: false,
            aborted: false,
            over: false,
            starved: false,
            rate: RateMeter::new(now),
            budget: budget.clone(),
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, buffer: DataBuffer) -> Result<(), DataBuffer> {
        let len = buffer.len();
        if self.credit < len as u64 || !self.budget.reserve(buffer.cost(), Purpose::Send) {
            return Err(buffer);
        }
        self.credit -= len as u64;
        self.queued += len;
        if self.queue.capacity() == 0 {
            // Most streams never queue a second one, and idle ones keep this: by itself it would be room for four.
            self.queue.reserve_exact(1);
        }
        self.queue.push_back(buffer);
        Ok(())
    }

    /// The next buffer to emit. Its memory stays committed until the frame is acknowledged.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<DataBuffer> {
        let buffer = self.queue.pop_front()?;
        self.queued -= buffer.len();
        Some(buffer)
    }

    pub(crate) fn discard(&mut self) {
        for buffer in self.queue.drain(..) {
            self.budget.release(buffer.cost());
        }
        self.queued = 0;
        self.open = None;
    }

    #[inline]
    pub(crate) fn has_frame(&self) -> bool {
        self.open.is_some() || !self.queue.is_empty() || matches!(self.state, SendState::Ending(_))
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.state == SendState::Done
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        self.discard();
    }
}

#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    pub(crate) queue: VecDeque<Bytes>,
    pub(crate) window: ReceiveWindow,
    pub(crate) end: Option<StreamEnd>,
    /// Payload is dropped: nobody here wants it any more.
    pub(crate) discarding: bool,
    /// An event says that there is something to take.
    pub(crate) announced: bool,
    pub(crate) rate: RateMeter,
}

impl ReceiveHalf {
    pub(crate) fn new(window: ReceiveWindow, now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            window,
            end: None,
            discarding: false,
            announced: false,
            rate: RateMeter::new(now),
        }
    }

    pub(crate) fn discard(&mut self) {
        let unread = self.queue.drain(..).map(|chunk| chunk.len()).sum();
        self.window.consume(unread);
        self.discarding = true;
        self.window.close();
    }

    /// All payload that has come, and the end if that has.
    pub(crate) fn take(&mut self) -> (VecDeque<Bytes>, Option<StreamEnd>) {
        self.announced = false;
        (std::mem::take(&mut self.queue), self.end)
    }

    /// Payload that was taken goes to the front again.
    pub(crate) fn put_back(&mut self, mut rest: VecDeque<Bytes>) {
        if self.discarding {
            self.window.consume(rest.iter().map(Bytes::len).sum());
        } else {
            rest.append(&mut self.queue);
            self.queue = rest;
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.end.is_some() || self.discarding
    }
}

/// What a session knows of a stream, for somebody who only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// Its id on the wire, once its OPEN has left.
    pub id: Option<StreamId>,
    /// The turn that its frames have.
    pub tier: Tier,
    /// The peer takes more of its payload.
    pub has_credit: bool,
}

#[derive(Debug)]
pub(crate) struct Stream {
    /// Known once the OPEN was emitted or received.
    pub(crate) id: Option<StreamId>,
    pub(crate) opener: Opener,
    /// Tells this use of the slot from earlier ones; the table gives it.
    pub(crate) generation: u32,
    pub(crate) send: SendHalf,
    pub(crate) receive: ReceiveHalf,
    pub(crate) slot: Slot,
    /// The peer's credit that its OPEN assumed; 0 if the peer opened it.
    pub(crate) assumed: u32,
    /// A CANCEL is to be sent.
    pub(crate) cancel_due: bool,
    /// A CANCEL was sent.
    pub(crate) cancelled: bool,
    /// Bytes of credit for the next WINDOW; 0: none is to be sent.
    pub(crate) window_due: u32,
    /// The owner has let go of the stream.
    pub(crate) released: bool,
}

impl Stream {
    /// A stream that nothing has happened to yet.
    pub(crate) fn new(
        id: Option<StreamId>,
        opener: Opener,
        assumed: u32,
        send: SendHalf,
        receive: ReceiveHalf,
    ) -> Self {
        Self {
            id,
            opener,
            generation: 0,
            send,
            receive,
            slot: Slot::default(),
            assumed,
            cancel_due: false,
            cancelled: false,
            window_due: 0,
            released: false,
        }
    }

    /// Its key, at this index of its table.
    pub(crate) fn key(&self, index: usize) -> StreamKey {
        StreamKey {
            index,
            generation: self.generation,
        }
    }

    /// Drops an ABORT that would come after both directions have ended: the peer may have
    /// forgotten the stream.
    pub(crate) fn drop_late_abort(&mut self) {
        let peer_is_over = self.receive.end.is_some() || self.cancelled;
        if self.send.over && peer_is_over {
            self.send.discard();
            self.send.state = SendState::Done;
        }
    }

    /// True if its OPEN hasn't left, and assumes more than this many bytes of the peer's memory.
    pub(crate) fn is_unopened_beyond(&self, bytes: u32) -> bool {
        self.send.open.is_some() && self.assumed > bytes
    }

    pub(crate) fn view(&self) -> StreamView {
        StreamView {
            id: self.id,
            tier: self.tier(),
            has_credit: self.send.credit > 0,
        }
    }

    #[inline]
    pub(crate) fn tier(&self) -> Tier {
        if self.send.rate.is_sustained() {
            Tier::Sustained
        } else {
            Tier::Data
        }
    }
}
