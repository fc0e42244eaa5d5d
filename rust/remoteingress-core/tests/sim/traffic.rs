//! Clients at the edge and targets at the hub: all that they did and saw of each stream, held against each other.
//!
//! Each method acts for the owner of one end, or tells it what its session says.

use bytes::Bytes;
use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Event, Session, StreamKey};
use remoteingress_proto::wire::frame::{DataBuffer, MAX_PAYLOAD_LEN};
use remoteingress_testkit::model::{Stream, byte};
use remoteingress_testkit::{EDGE, HUB};
use std::collections::BTreeMap;
use std::time::Instant;

/// The streams of all sessions there ever were, by their serial, which is their header.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) flows: Vec<Flow>,
    /// Targets finish after their answer from now on.
    always_finishes: bool,
}

/// One stream, and what else is known of it.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) stream: Stream,
    /// Ends whose session is gone: nothing is promised any more.
    is_lost: [bool; 2],
    /// The target is to send this much, and then to finish or not.
    answer: (usize, bool),
}

/// The streams of one session at one end.
#[derive(Debug)]
pub(crate) struct Ends {
    side: usize,
    serials: BTreeMap<usize, StreamKey>,
}

impl Ends {
    pub(crate) fn new(side: usize) -> Self {
        Self {
            side,
            serials: BTreeMap::new(),
        }
    }

    /// Streams that their owners haven't let go.
    pub(crate) fn serials(&self) -> impl Iterator<Item = usize> {
        self.serials.keys().copied()
    }

    pub(crate) fn contains(&self, serial: usize) -> bool {
        self.serials.contains_key(&serial)
    }

    pub(crate) fn len(&self) -> usize {
        self.serials.len()
    }

    fn serial(&self, key: StreamKey) -> Option<usize> {
        let mut serials = self.serials.iter();
        serials.find_map(|(serial, other)| (*other == key).then_some(*serial))
    }
}

impl Traffic {
    /// A client comes, whose target will send `answer` bytes, and then finish or not.
    pub(crate) fn open(
        &mut self,
        session: &mut Session,
        ends: &mut Ends,
        now: Instant,
        answer: (usize, bool),
    ) -> Option<usize> {
        let serial = self.flows.len();
        let key = session.open(now, &(serial as u32).to_be_bytes()).ok()?;
        let mut flow = Flow {
            answer,
            ..Flow::default()
        };
        flow.stream.opener = EDGE;
        flow.stream.ends[EDGE].key = Some(key);
        self.flows.push(flow);
        ends.serials.insert(serial, key);
        Some(serial)
    }

    /// The owner wants to send `bytes` more, and then to finish or not.
    pub(crate) fn write(
        &mut self,
        session: &mut Session,
        ends: &mut Ends,
        now: Instant,
        serial: usize,
        (bytes, finishes): (usize, bool),
    ) {
        let end = &mut self.flows[serial].stream.ends[ends.side];
        if !end.finish_wanted && end.may_write() {
            end.to_write += bytes;
            end.finish_wanted = finishes;
            self.pump(session, ends, now, serial);
        }
    }

    /// The owner's socket fails.
    pub(crate) fn abort(&mut self, session: &mut Session, ends: &mut Ends, serial: usize) {
        let end = &mut self.flows[serial].stream.ends[ends.side];
        if let Some(key) = end.live() {
            end.aborted.get_or_insert(AbortCode::Reset);
            session.abort(key, AbortCode::Reset);
            self.release(session, ends, serial);
        }
    }

    /// The session is gone, or its streams are to end: each owner sees a reset.
    pub(crate) fn lose(&mut self, session: &mut Session, ends: &mut Ends, code: AbortCode) {
        while let Some((serial, key)) = ends.serials.pop_first() {
            let flow = &mut self.flows[serial];
            flow.is_lost[ends.side] = true;
            let end = &mut flow.stream.ends[ends.side];
            end.end.get_or_insert(StreamEnd::Aborted(code));
            end.aborted.get_or_insert(code);
            end.released = true;
            session.abort(key, code);
            session.release(key);
        }
    }

    /// Takes an event that concerns a stream, and gives back any other.
    pub(crate) fn handle(
        &mut self,
        session: &mut Session,
        ends: &mut Ends,
        now: Instant,
        event: Event,
    ) -> Option<Event> {
        match event {
            Event::Opened { key, header } => self.opened(session, ends, now, key, &header),
            Event::Readable(key) => {
                if let Some(serial) = ends.serial(key) {
                    self.read(session, ends, now, serial);
                }
            }
            Event::SendReady(key) => {
                if let Some(serial) = ends.serial(key) {
                    self.flows[serial].stream.ends[ends.side].waits_for_room = false;
                    self.pump(session, ends, now, serial);
                }
            }
            Event::SendStopped(key) => {
                if let Some(serial) = ends.serial(key) {
                    self.flows[serial].stream.ends[ends.side].stopped = true;
                    self.settle(session, ends, serial);
                }
            }
            Event::Refused
            | Event::Control(_)
            | Event::GoAway { .. }
            | Event::Datagram(_)
            | Event::Silent
            | Event::Heard => return Some(event),
        }
        None
    }

    /// Targets that are yet to be opened finish after their answer.
    pub(crate) fn always_finish(&mut self) {
        self.always_finishes = true;
    }

    /// The number of streams that neither end has let go and no session has lost.
    pub(crate) fn unsettled(&self) -> usize {
        let is_open = |flow: &&Flow| {
            let [edge, hub] = &flow.stream.ends;
            edge.live().is_some() || hub.live().is_some()
        };
        self.flows.iter().filter(is_open).count()
    }

    /// Both ends of the stream have seen all of the other's bytes and its end.
    pub(crate) fn is_complete(&self, serial: usize) -> bool {
        let [edge, hub] = &self.flows[serial].stream.ends;
        let whole = |to: &remoteingress_testkit::model::End, from: u64| {
            to.end == Some(StreamEnd::Finished) && to.read == from
        };
        whole(edge, hub.written) && whole(hub, edge.written)
    }

    /// The edge has seen the end of its stream in this way.
    pub(crate) fn end_at_edge(&self, serial: usize) -> Option<StreamEnd> {
        self.flows[serial].stream.ends[EDGE].end
    }

    fn opened(
        &mut self,
        session: &mut Session,
        ends: &mut Ends,
        now: Instant,
        key: StreamKey,
        header: &Bytes,
    ) {
        assert_eq!(ends.side, HUB, "the hub opens no streams");
        let serial = u32::from_be_bytes(header[..].try_into().expect("4 bytes")) as usize;
        let flow = &mut self.flows[serial];
        let before = flow.stream.ends[HUB].key.replace(key);
        assert_eq!(before, None, "stream {serial} is carried out twice");
        assert!(
            !flow.stream.is_refused(),
            "stream {serial} was refused, and yet is carried out"
        );
        ends.serials.insert(serial, key);
        let (bytes, finishes) = flow.answer;
        let answer = (bytes, finishes || self.always_finishes);
        self.write(session, ends, now, serial, answer);
    }

    /// Sends what the owner wants to send.
    fn pump(&mut self, session: &mut Session, ends: &mut Ends, now: Instant, serial: usize) {
        let side = ends.side;
        let end = &mut self.flows[serial].stream.ends[side];
        let Some(key) = end.live().filter(|_| end.may_write()) else {
            return;
        };
        while end.to_write > 0 && !end.waits_for_room {
            let room = session.room(now, key);
            if room == 0 {
                end.waits_for_room = true;
                break;
            }
            let length = room.min(end.to_write).min(MAX_PAYLOAD_LEN);
            let bytes = (end.written..).take(length);
            let payload: Vec<u8> = bytes.map(|at| byte(serial, side, at)).collect();
            let sent = session.send(key, DataBuffer::copy_from(&payload));
            assert!(sent.is_ok(), "there was room");
            end.written += length as u64;
            end.to_write -= length;
        }
        if end.finish_wanted && end.to_write == 0 && !end.finished {
            end.finished = true;
            session.finish(key);
            self.settle(session, ends, serial);
        }
    }

    /// Reads all that is there, and compares it with what the other end has sent.
    fn read(&mut self, session: &mut Session, ends: &mut Ends, now: Instant, serial: usize) {
        let side = ends.side;
        let key = ends.serials[&serial];
        let (chunks, stream_end) = session.take(key);
        let flow = &mut self.flows[serial];
        let other_written = flow.stream.ends[1 - side].written;
        let end = &mut flow.stream.ends[side];
        let mut got = 0;
        for (at, seen) in (end.read..).zip(chunks.iter().flatten()) {
            assert_eq!(
                *seen,
                byte(serial, 1 - side, at),
                "stream {serial}: byte {at} at end {side} isn't the one that was sent"
            );
            got += 1;
        }
        end.read += got as u64;
        assert!(
            end.read <= other_written,
            "stream {serial}: end {side} has read more than was sent"
        );
        session.consumed(now, key, got);
        if let Some(seen) = stream_end {
            self.saw_end(side, serial, seen);
        }
        self.settle(session, ends, serial);
    }

    /// An end that is clean must be the end that the other owner made, after all of its bytes.
    fn saw_end(&mut self, side: usize, serial: usize, seen: StreamEnd) {
        let stream = &mut self.flows[serial].stream;
        let other = &stream.ends[1 - side];
        let (written, has_finished) = (other.written, other.finished);
        let end = &mut stream.ends[side];
        if seen == StreamEnd::Finished {
            assert!(has_finished, "stream {serial}: nobody has sent this FIN");
            assert_eq!(
                end.read, written,
                "stream {serial}: a clean end at {side} before all bytes"
            );
        }
        end.end = Some(seen);
    }

    /// Lets go of an end at which nothing is left to do.
    fn settle(&mut self, session: &mut Session, ends: &mut Ends, serial: usize) {
        let end = &mut self.flows[serial].stream.ends[ends.side];
        let is_over = match end.end {
            Some(StreamEnd::Aborted(code)) => {
                end.aborted.get_or_insert(code);
                true
            }
            Some(StreamEnd::Finished) => end.finished || end.stopped || end.aborted.is_some(),
            None => false,
        };
        if is_over {
            self.release(session, ends, serial);
        }
    }

    fn release(&mut self, session: &mut Session, ends: &mut Ends, serial: usize) {
        let end = &mut self.flows[serial].stream.ends[ends.side];
        end.released = true;
        if let Some(key) = ends.serials.remove(&serial) {
            session.release(key);
        }
    }
}
