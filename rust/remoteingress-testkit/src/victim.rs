//! A session whose peer is the test itself, frame by frame. The session is the hub, with an owner
//! who does as told.

use crate::builder::{SessionBuilder, budget};
use crate::{any_instant, frames};
use bytes::{Buf, Bytes};
use remoteingress_proto::mux::budget::Budget;
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{
    Carrier, Event, LaneOutput, Role, Session, SessionError, StreamKey, Violation,
};
use remoteingress_proto::wire::frame::{DataBuffer, FrameKind, MAX_PAYLOAD_LEN, StreamId};
use std::collections::BTreeMap;
use std::time::Instant;

/// The peer's knowledge of a stream.
#[derive(Debug, Default)]
struct Known {
    /// Below 0 if the peer has used credit that was on its way to it.
    credit: i64,
    /// The peer has ended it, or was told to stop, or the owner let go of it.
    over: bool,
}

/// A hub's session, what its owner holds, and what its peer knows.
#[derive(Debug)]
pub struct Victim {
    carrier: Carrier,
    /// The session under attack.
    pub session: Session,
    /// The session's memory, at most [`Self::LIMIT`].
    pub budget: Budget,
    /// Virtual time: the test moves it.
    pub now: Instant,
    /// All that happened.
    pub events: Vec<Event>,
    /// Streams whose owner hasn't released them.
    keys: Vec<StreamKey>,
    streams: BTreeMap<u32, Known>,
    next_id: u32,
    /// Numbered frames that the session sent.
    numbered: u64,
    acknowledged: u64,
}

impl Victim {
    /// Memory that the session may commit, in bytes.
    pub const LIMIT: usize = 16 << 20;
    /// Streams that the peer may have open at once.
    pub const MAX_PEER_STREAMS: usize = 64;

    /// Bound on each kind of thing that is kept for a peer that never reads: refusals, ends of streams and lanes,
    /// CANCELs and OPENs that came before others.
    pub const MOST_KEPT: usize = (1 << 17) + 1_024;
    /// Credit that each stream begins with, in both directions.
    pub const CREDIT: u32 = 65_536;

    /// On an ordered connection.
    pub fn new() -> Self {
        Self::on(Carrier::Ordered)
    }

    /// On this carrier.
    pub fn on(carrier: Carrier) -> Self {
        let now = any_instant();
        let budget = budget(Self::LIMIT);
        let builder = SessionBuilder::new(Role::Hub)
            .carrier(carrier)
            .max_peer_streams(Self::MAX_PEER_STREAMS)
            .announced_credit(Self::CREDIT)
            .peer_credit(Self::CREDIT);
        Self {
            carrier,
            session: builder.build(&budget, now),
            budget,
            now,
            events: Vec::new(),
            keys: Vec::new(),
            streams: BTreeMap::new(),
            next_id: 1,
            numbered: 0,
            acknowledged: 0,
        }
    }

    /// One frame from the peer.
    pub fn feed(&mut self, kind: FrameKind, id: u32, payload: &[u8]) -> Result<(), SessionError> {
        use FrameKind::{Abort, Fin};
        let frame = frames::encoded(kind, id, payload);
        let result = if self.carrier == Carrier::Ordered {
            self.session.handle_input(self.now, frame)
        } else {
            let lane = frames::lane_of(kind, StreamId(id));
            self.session.handle_lane(self.now, lane, frame)
        };
        self.take_events();
        if result.is_ok() && matches!(kind, Fin | Abort) {
            self.streams.entry(id).or_default().over = true;
        }
        self.learn_go_away(kind, payload);
        result
    }

    /// Bytes on a lane, whatever they are.
    pub fn feed_lane(&mut self, lane: u32, bytes: &[u8]) -> Result<(), SessionError> {
        let input = Bytes::copy_from_slice(bytes);
        let result = self.session.handle_lane(self.now, StreamId(lane), input);
        self.take_events();
        result
    }

    /// Number of the peer's streams that the session has shown to its owner.
    pub fn opened(&self) -> usize {
        let opened = |event: &&Event| matches!(event, Event::Opened { .. });
        self.events.iter().filter(opened).count()
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if let Event::Opened { key, .. } = event {
                self.keys.push(key);
            }
            self.events.push(event);
        }
    }

    fn learn_go_away(&mut self, kind: FrameKind, payload: &[u8]) {
        if kind == FrameKind::GoAway {
            // Streams that the session opened beyond the last one are over.
            let last = payload
                .iter()
                .rev()
                .take(4)
                .rev()
                .fold(0, |n, b| n << 8 | u32::from(*b));
            let refused = self
                .streams
                .iter_mut()
                .filter(|(id, _)| **id % 2 == 0 && **id > last);
            refused.for_each(|(_, known)| known.over = true);
        }
    }

    /// Opens a stream that may send what was announced, and is given `credit`.
    pub fn open(&mut self, id: u32, assumed: u32) -> Result<(), SessionError> {
        self.feed(FrameKind::Open, id, &frames::open(Self::CREDIT, assumed))
    }

    /// Opens the next stream.
    pub fn open_with(&mut self, credit: u32, assumed: u32) -> Result<(), SessionError> {
        let id = self.next_id;
        self.next_id += 2;
        self.feed(FrameKind::Open, id, &frames::open(credit, assumed))?;
        self.streams.insert(
            id,
            Known {
                credit: assumed.into(),
                over: false,
            },
        );
        Ok(())
    }

    /// Sends payload on stream `id`, whether there is credit for it or not.
    pub fn data(&mut self, id: u32, bytes: usize) -> Result<(), SessionError> {
        if let Some(known) = self.streams.get_mut(&id) {
            known.credit -= bytes as i64;
        }
        self.feed(FrameKind::Data, id, &vec![1; bytes])
    }

    /// Payload up to the credit of stream `id`, and `more` bytes beyond.
    pub fn data_until(&mut self, id: u32, more: i64) -> Result<(), SessionError> {
        let credit = self.streams.get(&id).map_or(0, |known| known.credit);
        let mut left = (credit + more).max(0) as usize;
        while left > 0 {
            let n = left.min(MAX_PAYLOAD_LEN);
            self.data(id, n)?;
            left -= n;
        }
        Ok(())
    }

    /// Like [`Self::data_until`], on a picked stream.
    pub fn data_to_credit(&mut self, pick: usize, more: i64) -> Result<(), SessionError> {
        let id = self.pick_id(pick);
        self.data_until(id, more)
    }

    /// Opens the next stream and sends payload on it.
    pub fn data_on_new_stream(&mut self, bytes: usize) {
        let id = self.next_id;
        self.open_with(0, Self::CREDIT).expect("legal");
        self.data(id, bytes).expect("legal");
    }

    /// Mostly an id that was opened, sometimes one that wasn't.
    pub fn pick_id(&self, pick: usize) -> u32 {
        let known = self.streams.len();
        let at = (pick * 7 + known) % (known + 1);
        self.streams
            .keys()
            .nth(at)
            .copied()
            .unwrap_or_else(|| self.next_id.saturating_sub(2).max(1))
    }

    /// A stream on which the peer may still send, and which the owner hasn't let go of.
    pub fn live_id(&self, pick: usize) -> Option<u32> {
        let live: Vec<u32> = self
            .streams
            .iter()
            .filter(|(id, known)| !known.over && self.owns(**id))
            .map(|(id, _)| *id)
            .collect();
        live.get(pick % live.len().max(1)).copied()
    }

    fn owns(&self, id: u32) -> bool {
        self.keys.iter().any(|key| {
            self.session
                .view(*key)
                .and_then(|view| view.id)
                .is_some_and(|own| own.0 == id)
        })
    }

    /// Feeds a frame that names a picked stream.
    pub fn feed_picked(
        &mut self,
        kind: FrameKind,
        pick: usize,
        payload: &[u8],
    ) -> Result<(), SessionError> {
        let id = self.pick_id(pick);
        self.feed(kind, id, payload)
    }

    /// The peer reads all there is; gives what kinds of frames came.
    pub fn transmit(&mut self) -> Vec<FrameKind> {
        let mut kinds = Vec::new();
        while let Some(bytes) = self.next_frame() {
            let frame = frames::decoded(&bytes);
            kinds.push(frame.kind);
            self.numbered += u64::from(frame.kind.is_numbered());
            self.learn(frame.kind, frame.stream.0, frame.payload);
        }
        kinds
    }

    fn next_frame(&mut self) -> Option<Bytes> {
        if self.carrier == Carrier::Ordered {
            return self.session.poll_transmit(self.now);
        }
        loop {
            if let LaneOutput::Frame { frame, .. } = self.session.poll_lane(self.now, true)? {
                return Some(frame);
            }
        }
    }

    fn learn(&mut self, kind: FrameKind, id: u32, mut payload: Bytes) {
        let known = self.streams.entry(id);
        if kind == FrameKind::Open {
            known.or_default().credit = payload.get_u32().into();
        } else if kind == FrameKind::Window {
            known.or_default().credit += i64::from(payload.get_u32());
        } else if matches!(kind, FrameKind::Abort | FrameKind::Cancel) {
            known.or_default().over = true;
        }
    }

    /// The peer reads all there is; gives how many frames of this kind came.
    pub fn transmit_kinds(&mut self, kind: FrameKind) -> usize {
        self.transmit().into_iter().filter(|k| *k == kind).count()
    }

    /// Acknowledges everything that was read.
    pub fn acknowledge(&mut self) -> Result<(), SessionError> {
        self.acknowledge_behind(0)
    }

    /// Acknowledges as many frames as were read, plus `behind`, which is mostly negative.
    pub fn acknowledge_behind(&mut self, behind: i64) -> Result<(), SessionError> {
        let all = self.numbered.saturating_add_signed(behind);
        let received = if behind > 0 {
            all
        } else {
            all.max(self.acknowledged)
        };
        self.feed(FrameKind::Ack, 0, &received.to_be_bytes())?;
        self.acknowledged = received;
        Ok(())
    }

    /// The connection is replaced; the peer has received all that it read.
    pub fn reattach(&mut self) {
        if self.carrier == Carrier::Lanes {
            return;
        }
        self.session.detach(self.now);
        self.session
            .attach(self.now, self.numbered)
            .expect("all of it was sent");
        self.acknowledged = self.numbered;
    }

    /// The owner reads everything of everything.
    pub fn read_all(&mut self) {
        for at in 0..self.keys.len() {
            self.take(at);
        }
    }

    /// The owner takes and consumes; gives the bytes and the end.
    pub fn take(&mut self, at: usize) -> (usize, Option<StreamEnd>) {
        let key = self.keys[at];
        let (chunks, end) = self.session.take(key);
        let bytes = chunks.iter().map(Bytes::len).sum();
        self.session.consumed(self.now, key, bytes);
        (bytes, end)
    }

    /// The owner lets go of all streams.
    pub fn release_all(&mut self) {
        for key in self.keys.drain(..) {
            self.session.release(key);
        }
    }

    /// The owner opens a stream, if the session lets it.
    pub fn owner_opens(&mut self) {
        if let Ok(key) = self.session.open(self.now, b"h") {
            self.keys.push(key);
        }
    }

    /// The owner does something to one of the streams.
    pub fn owner(&mut self, pick: usize, what: u8) {
        let Some(at) = pick.checked_rem(self.keys.len()) else {
            return;
        };
        let key = self.keys[at];
        match what {
            0 | 1 => drop(self.take(at)),
            2 => {
                let room = self.session.room(self.now, key);
                let buffer = DataBuffer::copy_from(&vec![2; room.min(9_000)]);
                self.session.send(key, buffer).ok();
            }
            3 => self.session.finish(key),
            4 => self.session.abort(key, AbortCode::TargetRefused),
            5 => self.session.cancel(key),
            _ => {
                self.session.release(key);
                self.keys.swap_remove(at);
            }
        }
    }
}

impl Default for Victim {
    fn default() -> Self {
        Self::new()
    }
}

/// Repeats `act` until the victim calls it excessive; gives how often it did not.
///
/// # Panics
/// If another error comes first, or `most` times aren't enough.
pub fn until_excessive(
    most: usize,
    mut act: impl FnMut(usize) -> Result<(), SessionError>,
) -> usize {
    for i in 0..most {
        if let Err(error) = act(i) {
            assert_eq!(error, SessionError::Violation(Violation::Excessive));
            return i;
        }
    }
    panic!("not stopped after {most}");
}
