//! The facts that a session tells its owner.

use super::stream::StreamKey;
use bytes::Bytes;
use std::time::Duration;

/// A fact that the owner of a session has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream. The owner must `release` it some day.
    Opened {
        /// The new stream.
        key: StreamKey,
        /// The opener's word on it (see [`crate::wire::header`]).
        header: Bytes,
    },
    /// A stream that the peer opened was refused at once: there are too many, no memory, or nothing new is served.
    Refused,
    /// There is payload or an end to `take`.
    Readable(StreamKey),
    /// There is room again after `room` gave 0.
    SendReady(StreamKey),
    /// The peer wants no more payload of this stream.
    SendStopped(StreamKey),
    /// A control message's payload.
    Control(Bytes),
    /// The peer accepts no new streams.
    GoAway {
        /// The peer's reason.
        code: GoAwayCode,
        /// Time after which to try again elsewhere or here, if the peer said so.
        retry_after: Duration,
    },
    /// A datagram (see `flow`).
    Datagram(Bytes),
    /// On lanes nothing was heard for 8 s; new streams are better opened elsewhere (D13).
    Silent,
    /// The peer was heard again after [`Event::Silent`].
    Heard,
}

/// Reason why a peer goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GoAwayCode {
    /// It drains: it restarts or stops.
    Draining = 0,
    /// Stream ids run out: open another session.
    Exhausted = 1,
    /// This end misbehaved.
    EnhanceYourCalm = 2,
    /// Another instance has taken over; nothing more is served here.
    Replaced = 3,
}

impl GoAwayCode {
    /// The name used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Exhausted => "exhausted",
            Self::EnhanceYourCalm => "enhanceYourCalm",
            Self::Replaced => "replaced",
        }
    }

    pub(super) fn from_wire(code: u8) -> Self {
        match code {
            1 => Self::Exhausted,
            2 => Self::EnhanceYourCalm,
            3 => Self::Replaced,
            _ => Self::Draining,
        }
    }
}

/// Bytes that wait to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// Control messages, which go ahead of streams.
    pub control: usize,
    /// Datagrams, each with 64 bytes beside its own.
    pub datagrams: usize,
    /// Payload of streams of the `data` tier.
    pub data: usize,
    /// Payload of streams of the `sustained` tier.
    pub sustained: usize,
}

impl Queued {
    /// Adds what waits elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.control += other.control;
        self.datagrams += other.datagrams;
        self.data += other.data;
        self.sustained += other.sustained;
    }
}

/// Sums over the session's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Payload bytes received.
    pub received: u64,
    /// Payload bytes sent.
    pub sent: u64,
    /// Streams opened by either end.
    pub streams: u64,
}
