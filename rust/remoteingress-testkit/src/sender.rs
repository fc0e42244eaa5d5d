//! A session with as much credit as it likes, whose output the test reads piece by piece.

use crate::builder::{DEFAULT_BUDGET, SessionBuilder, budget};
use crate::{any_instant, frames};
use bytes::{Buf, Bytes};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::{Carrier, LaneOutput, Role, Session, StreamKey, Urgency};
use remoteingress_proto::wire::frame::{DataBuffer, FrameKind, StreamId};
use std::time::Instant;

/// An edge's session and its reader.
#[derive(Debug)]
pub struct Sender {
    /// The session whose output is read.
    pub session: Session,
    /// The session's memory.
    pub budget: Budget,
    /// Virtual time: the test moves it.
    pub now: Instant,
    carrier: Carrier,
    numbered: u64,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// A frame's kind, the stream it names, its length with its header, and on lanes how urgent it is.
    Frame(FrameKind, StreamId, usize, Option<Urgency>),
    /// A lane ends.
    Finish(StreamId),
    /// A datagram's payload, on either carrier.
    Datagram(Bytes),
}

impl Sender {
    /// With more credit than a test can use up.
    pub fn new(carrier: Carrier) -> Self {
        Self::with_credit(carrier, 1 << 30)
    }

    /// With that much credit for each stream, in bytes.
    pub fn with_credit(carrier: Carrier, credit: u32) -> Self {
        let now = any_instant();
        let budget = budget(DEFAULT_BUDGET);
        let builder = SessionBuilder::new(Role::Edge)
            .carrier(carrier)
            .max_peer_streams(0)
            .announced_credit(65_536)
            .peer_credit(credit);
        Self {
            session: builder.build(&budget, now),
            budget,
            now,
            carrier,
            numbered: 0,
        }
    }

    /// Opens a stream.
    pub fn open(&mut self) -> StreamKey {
        self.session.open(self.now, b"h").expect("memory")
    }

    /// Queues frames of `size` bytes of payload until there is no room.
    pub fn fill(&mut self, key: StreamKey, size: usize) {
        while self.session.room(self.now, key) >= size {
            let buffer = DataBuffer::copy_from(&vec![0; size]);
            self.session.send(key, buffer).expect("room");
        }
    }

    /// Queues a datagram of `size` bytes that begins with the number `first`.
    pub fn datagram(&mut self, first: u32, size: usize) {
        let mut datagram = first.to_be_bytes().to_vec();
        datagram.resize(size, 0);
        self.session.send_datagram(self.now, datagram.into());
    }

    /// The next output of any kind; on lanes, datagrams only if the path takes some.
    pub fn poll(&mut self, with_datagrams: bool) -> Option<Out> {
        let (wire, urgency) = if self.carrier == Carrier::Ordered {
            (self.session.poll_transmit(self.now)?, None)
        } else {
            match self.session.poll_lane(self.now, with_datagrams)? {
                LaneOutput::Frame { frame, urgency, .. } => (frame, Some(urgency)),
                LaneOutput::Finish(lane) => return Some(Out::Finish(lane)),
                LaneOutput::Datagram(datagram) => return Some(Out::Datagram(datagram)),
            }
        };
        let frame = frames::decoded(&wire);
        self.numbered += u64::from(frame.kind.is_numbered());
        if frame.kind == FrameKind::Datagram {
            return Some(Out::Datagram(frame.payload));
        }
        Some(Out::Frame(frame.kind, frame.stream, wire.len(), urgency))
    }

    /// Reads all there is; gives the numbers of the datagrams.
    pub fn numbers(&mut self) -> Vec<u32> {
        let mut numbers = Vec::new();
        for out in self.by_ref() {
            if let Out::Datagram(mut datagram) = out {
                numbers.push(datagram.get_u32());
            }
        }
        numbers
    }

    /// The peer acknowledges everything (on lanes).
    pub fn acknowledge(&mut self) {
        let ack = frames::encoded(FrameKind::Ack, 0, &self.numbered.to_be_bytes());
        let result = self.session.handle_lane(self.now, StreamId::SESSION, ack);
        result.expect("legal");
    }
}

/// The output. After None there may be more, once the test has done something.
impl Iterator for Sender {
    type Item = Out;

    /// The next output except PINGs, which depend on time alone.
    fn next(&mut self) -> Option<Out> {
        loop {
            let out = self.poll(true)?;
            if !matches!(out, Out::Frame(FrameKind::Ping, ..)) {
                return Some(out);
            }
        }
    }
}
