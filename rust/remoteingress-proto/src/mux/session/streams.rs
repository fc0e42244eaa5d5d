//! What a stream's owner may do with it.

use super::{Carrier, Event, LAST_STREAM_ID, MEMORY_RETRY, OpenError, Session, StreamKey};
use crate::mux::budget::Purpose;
use crate::mux::scheduler::Slot;
use crate::mux::stream::{AbortCode, Opener, ReceiveHalf, SendHalf, SendState, Stream, StreamEnd};
use crate::mux::window::ReceiveWindow;
use crate::wire::frame::{DataBuffer, MAX_FRAME_LEN, MAX_PAYLOAD_LEN, StreamId};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::Instant;

/// What a stream may have queued: enough that a turn of the connection (128 KiB of room in its
/// socket) finds work, little enough that 10,000 stalled ones stay within the budget.
const MAX_QUEUED: usize = 8 * MAX_PAYLOAD_LEN;
/// A stream whose queue was full is asked for more when it has fallen to this: its next read brings several frames.
const LOW_QUEUED: usize = MAX_QUEUED / 2;

impl Session {
    /// Opens a stream. Its OPEN leaves when the scheduler says so; payload may follow at once.
    pub fn open(&mut self, now: Instant, header: &[u8]) -> Result<StreamKey, OpenError> {
        if self.is_exhausted() {
            return Err(OpenError::Exhausted);
        }
        if self.is_closing() {
            return Err(OpenError::GoingAway);
        }
        let credit = self.budget.initial_credit();
        let window = ReceiveWindow::new(&self.budget, credit, now).ok_or(OpenError::Overloaded)?;
        let assumed = self.unconfirmed.assume(self.peer_credit);
        let mut open = BytesMut::with_capacity(8 + header.len());
        open.put_u32(credit);
        open.put_u32(assumed);
        open.put_slice(header);
        let send = SendHalf::new(&self.budget, assumed, Some(open.freeze()), now);
        self.unopened += 1;
        let key = self.insert(None, Opener::Local, send, ReceiveHalf::new(window, now));
        if let Some(stream) = self.streams.0.get_mut(key.index) {
            stream.assumed = assumed;
        }
        self.activate(key.index);
        Ok(key)
    }

    pub(super) fn insert(
        &mut self,
        id: Option<StreamId>,
        opener: Opener,
        send: SendHalf,
        receive: ReceiveHalf,
    ) -> StreamKey {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let slot = Slot::default();
        let index = self.streams.0.insert(Stream {
            id,
            opener,
            generation,
            send,
            receive,
            slot,
            assumed: 0,
            cancel_due: false,
            cancelled: false,
            window_due: 0,
            released: false,
        });
        self.active_streams += 1;
        self.totals.streams += 1;
        StreamKey { index, generation }
    }

    pub(super) fn get(&mut self, key: StreamKey) -> Option<&mut Stream> {
        let stream = self.streams.0.get_mut(key.index)?;
        (stream.generation == key.generation && !stream.released).then_some(stream)
    }

    /// The stream's id on the wire, once its OPEN has left.
    pub fn stream_id(&self, key: StreamKey) -> Option<StreamId> {
        let stream = self.streams.0.get(key.index)?;
        if stream.generation == key.generation {
            stream.id
        } else {
            None
        }
    }

    /// A buffer to read into before `send`, with [`MAX_PAYLOAD_LEN`] bytes of payload.
    pub fn take_buffer(&self) -> DataBuffer {
        self.budget.take_buffer()
    }

    /// Takes back a buffer that `send` didn't get, with as much payload as it had.
    pub fn give_back(&self, buffer: DataBuffer) {
        self.budget.give_back(buffer);
    }

    /// How many bytes `send` takes now in one frame; 0 is followed by [`Event::SendReady`] when that changes.
    pub fn room(&mut self, now: Instant, key: StreamKey) -> usize {
        self.room_for(now, key, 1)
    }

    /// As [`Self::room`], for so many frames.
    pub fn room_for(&mut self, now: Instant, key: StreamKey, frames: usize) -> usize {
        let most = if self.budget.is_tight() {
            MAX_PAYLOAD_LEN
        } else {
            MAX_QUEUED
        };
        let Some(stream) = self.get(key) else {
            return 0;
        };
        if stream.send.state != SendState::Open {
            return 0;
        }
        let room = usize::try_from(stream.send.credit).unwrap_or(usize::MAX);
        let room = room.min(most.saturating_sub(stream.send.queued));
        if room == 0 {
            stream.send.wants_room = true;
            return 0;
        }
        // Leasing here what `send` is about to commit: it doesn't fail for want of memory then.
        let frames = frames.min(room.div_ceil(MAX_PAYLOAD_LEN));
        let leased = [frames, 1]
            .into_iter()
            .find(|frames| self.budget.reserve(frames * MAX_FRAME_LEN, Purpose::Send));
        let Some(frames) = leased else {
            let Some(stream) = self.get(key) else {
                return 0;
            };
            stream.send.wants_room = true;
            if !std::mem::replace(&mut stream.send.starved, true) {
                self.starved.push(key);
            }
            self.starved_until.get_or_insert(now + MEMORY_RETRY);
            return 0;
        };
        self.budget.release(frames * MAX_FRAME_LEN);
        room.min(frames * MAX_PAYLOAD_LEN)
    }

    /// Queues payload, at most as much as `room` said. The buffer comes back if that is exceeded
    /// or the stream takes no more.
    pub fn send(&mut self, key: StreamKey, buffer: DataBuffer) -> Result<(), DataBuffer> {
        let Some(stream) = self.get(key) else {
            return Err(buffer);
        };
        if stream.send.state != SendState::Open || buffer.len() > MAX_PAYLOAD_LEN {
            return Err(buffer);
        }
        if buffer.is_empty() {
            return Ok(());
        }
        stream.send.push(buffer)?;
        self.activate(key.index);
        Ok(())
    }

    /// Whether payload is still taken, if there is room.
    pub fn is_sending(&mut self, key: StreamKey) -> bool {
        self.get(key)
            .is_some_and(|stream| stream.send.state == SendState::Open)
    }

    /// No more payload: FIN follows what is queued.
    pub fn finish(&mut self, key: StreamKey) {
        let Some(stream) = self.get(key) else { return };
        if stream.send.state == SendState::Open {
            stream.send.state = SendState::Ending(StreamEnd::Finished);
            self.activate(key.index);
        }
    }

    /// The owner's socket failed: ABORT follows what is queued, and nothing more is wanted. If
    /// not even the OPEN has left, both vanish.
    pub fn abort(&mut self, key: StreamKey, code: AbortCode) {
        let Some(stream) = self.get(key) else { return };
        let both_ended = stream.send.is_done() && stream.receive.is_done();
        self.discard_received(key);
        let Some(stream) = self.get(key) else { return };
        if stream.send.open.is_some() {
            let assumed = stream.assumed;
            stream.send.discard();
            stream.send.state = SendState::Done;
            self.unopened -= 1;
            self.unconfirmed.vanished(assumed);
            return;
        }
        let peer_aborted = matches!(stream.receive.end, Some(StreamEnd::Aborted(_)));
        if both_ended || peer_aborted || std::mem::replace(&mut stream.send.aborted, true) {
            return;
        }
        // A FIN that has left doesn't tell that the other direction died too: ABORT goes behind it.
        // After a CANCEL it tells the peer that nothing more will come from here.
        stream.send.state = SendState::Ending(StreamEnd::Aborted(code));
        self.activate(key.index);
    }

    /// The owner wants no more payload: CANCEL goes ahead of everything. Sending goes on.
    pub fn cancel(&mut self, key: StreamKey) {
        let Some(stream) = self.get(key) else { return };
        let was_done = stream.receive.is_done();
        self.discard_received(key);
        let Some(stream) = self.get(key).filter(|_| !was_done) else {
            return;
        };
        stream.cancel_due = true;
        if stream.id.is_some() {
            self.cancels.push_back(key.index);
        }
    }

    /// Drops payload that has come and will come: nobody here wants it.
    fn discard_received(&mut self, key: StreamKey) {
        let Some(stream) = self.get(key) else { return };
        stream.receive.discard();
        let decoder = stream.id.and_then(|id| self.decoders.get_mut(&id));
        if let Some(decoder) = decoder {
            decoder.forget_payload();
        }
    }

    /// Takes all payload that has come, and how the peer's direction ended behind it. What isn't
    /// consumed goes back with `put_back`.
    pub fn take(&mut self, key: StreamKey) -> (VecDeque<Bytes>, Option<StreamEnd>) {
        let Some(stream) = self.get(key) else {
            return (VecDeque::new(), None);
        };
        stream.receive.announced = false;
        (
            std::mem::take(&mut stream.receive.queue),
            stream.receive.end,
        )
    }

    /// Gives back what `take` gave and the owner couldn't use yet. No event follows for it.
    pub fn put_back(&mut self, key: StreamKey, mut rest: VecDeque<Bytes>) {
        let Some(stream) = self.get(key) else { return };
        if stream.receive.discarding {
            stream
                .receive
                .window
                .consume(rest.iter().map(Bytes::len).sum());
        } else {
            rest.append(&mut stream.receive.queue);
            stream.receive.queue = rest;
        }
    }

    /// The owner's socket took so many bytes: the peer gets credit for more.
    pub fn consumed(&mut self, now: Instant, key: StreamKey, bytes: usize) {
        let (rtt, active) = (self.rtt, self.active_streams);
        let Some(stream) = self.get(key) else { return };
        stream.receive.window.consume(bytes);
        let sustained = stream.receive.rate.is_sustained();
        if let Some(more) = stream
            .receive
            .window
            .next_update(now, rtt, active, sustained)
        {
            if stream.window_due == 0 {
                self.windows.push_back(key.index);
            }
            if let Some(stream) = self.get(key) {
                stream.window_due += more;
            }
        }
    }

    /// The owner lets go: its socket is closed and its work is done. What is queued still goes
    /// out; what isn't ended is cancelled and aborted.
    pub fn release(&mut self, key: StreamKey) {
        let Some(stream) = self.get(key) else { return };
        if stream.send.state == SendState::Open {
            self.abort(key, AbortCode::Reset);
        } else if !stream.receive.is_done() {
            self.cancel(key);
        }
        self.discard_received(key);
        let Some(stream) = self.get(key) else { return };
        stream.released = true;
        let peers = usize::from(stream.opener == Opener::Peer);
        self.peer_streams -= peers;
        self.active_streams -= 1;
        self.free_if_done(key.index);
    }

    /// Forgets a stream of which nothing is left to do here.
    pub(super) fn free_if_done(&mut self, index: usize) {
        let Some(stream) = self.streams.0.get(index) else {
            return;
        };
        // A CANCEL that waits for an OPEN which never leaves vanishes with it.
        let cancel_due = stream.cancel_due && stream.id.is_some();
        let done = stream.send.is_done() && stream.receive.is_done();
        if !(stream.released && done) || cancel_due {
            return;
        }
        let stream = self.streams.0.remove(index);
        let Some(id) = stream.id else { return };
        self.ids.remove(&id);
        match self.carrier {
            Carrier::Ordered => self.closed.insert(self.log.next(), id),
            Carrier::Lanes => self.finished_lanes.push_back(id),
        }
    }

    pub(super) fn activate(&mut self, index: usize) {
        let Some(stream) = self.streams.0.get(index) else {
            return;
        };
        let tier = stream.tier();
        self.scheduler.activate(index, tier, &mut self.streams);
    }

    /// Tells the owner, once, that a stream has room again.
    pub(super) fn notify_room(&mut self, index: usize) {
        let Some(stream) = self.streams.0.get_mut(index) else {
            return;
        };
        if stream.send.wants_room
            && !stream.released
            && stream.send.credit > 0
            && stream.send.queued <= LOW_QUEUED
        {
            stream.send.wants_room = false;
            let key = StreamKey {
                index,
                generation: stream.generation,
            };
            self.events.push_back(Event::SendReady(key));
        }
    }

    /// For tests of the switch to another session: as if so many streams had been opened.
    #[doc(hidden)]
    pub fn skip_stream_ids(&mut self, left: u32) {
        self.next_id = (LAST_STREAM_ID - 2 * left) | (self.next_id & 1);
    }
}
