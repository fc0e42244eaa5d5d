//! The streams of a session: what their owner does with them, and what they have to say.

use super::credit::Credit;
use super::starved::Starved;
use super::stream_ids::StreamIds;
use super::stream_table::StreamTable;
use crate::mux::budget::{Budget, Purpose};
use crate::mux::carrier::Carrier;
use crate::mux::closed::{ClosedStreams, Parting};
use crate::mux::config::SessionConfig;
use crate::mux::error::{OpenError, Violation};
use crate::mux::event::{Event, Totals};
use crate::mux::scheduler::{Choice, Scheduler};
use crate::mux::send_log::SendLog;
use crate::mux::stream::{
    AbortCode, Opener, ReceiveHalf, SendHalf, SendState, Stream, StreamEnd, StreamKey,
};
use crate::mux::window::ReceiveWindow;
use crate::wire::frame::{DataBuffer, FrameKind, MAX_FRAME_LEN, MAX_PAYLOAD_LEN, StreamId, encode};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bytes that a stream may have queued: enough that a turn of the connection (128 KiB of room in its
/// socket) finds work, little enough that 10,000 stalled ones stay within the budget.
const MAX_QUEUED: usize = 8 * MAX_PAYLOAD_LEN;
/// A stream whose queue was full is asked for more when it has fallen to this: its next read brings several frames.
const LOW_QUEUED: usize = MAX_QUEUED / 2;

/// The stream that a frame concerns.
pub(super) enum Found {
    Known(usize),
    /// Closed here, and the peer may not know yet.
    Closed,
    /// Closed long ago: the peer should know better.
    Forgotten,
}

/// Room for frames of streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendRoom {
    ForAll,
    /// For streams that were silent until now.
    ForNewcomers,
    None,
}

/// A frame that waits for no stream's turn.
pub(super) struct UrgentFrame {
    pub(super) lane: StreamId,
    pub(super) frame: Bytes,
    /// The stream that may be over with it.
    pub(super) stream: Option<usize>,
}

/// All streams that aren't forgotten, and the facts that their owner hasn't been told yet.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) table: StreamTable,
    pub(super) ids: StreamIds,
    pub(super) closed: ClosedStreams,
    pub(super) credit: Credit,
    pub(super) carrier: Carrier,
    pub(super) budget: Budget,
    scheduler: Scheduler,
    /// ABORTs of streams that were refused.
    refusals: VecDeque<(StreamId, AbortCode)>,
    /// Indexes of streams whose CANCEL may be due.
    cancels: VecDeque<usize>,
    /// Indexes of streams whose WINDOW may be due.
    windows: VecDeque<usize>,
    starved: Starved,
    received: u64,
    sent: u64,
    events: VecDeque<Event>,
}

impl Streams {
    pub(super) fn new(config: &SessionConfig, budget: &Budget, now: Instant) -> Self {
        Self {
            table: StreamTable::default(),
            ids: StreamIds::new(config.role),
            closed: ClosedStreams::default(),
            credit: Credit::new(config.announced_credit, config.peer_credit),
            carrier: config.carrier,
            budget: budget.clone(),
            scheduler: Scheduler::new(now),
            refusals: VecDeque::new(),
            cancels: VecDeque::new(),
            windows: VecDeque::new(),
            starved: Starved::default(),
            received: 0,
            sent: 0,
            events: VecDeque::new(),
        }
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            received: self.received,
            sent: self.sent,
            streams: self.table.total(),
        }
    }

    // === what the owner does ===

    /// Opens a stream; its OPEN waits for its turn.
    pub(super) fn open(&mut self, now: Instant, header: &[u8]) -> Result<StreamKey, OpenError> {
        self.ids.may_open()?;
        let credit = self.budget.initial_credit();
        let window = ReceiveWindow::new(&self.budget, credit, now).ok_or(OpenError::Overloaded)?;
        let assumed = self.credit.assume();
        let mut open = BytesMut::with_capacity(8 + header.len());
        open.put_u32(credit);
        open.put_u32(assumed);
        open.put_slice(header);
        let send = SendHalf::new(&self.budget, assumed, Some(open.freeze()), now);
        let receive = ReceiveHalf::new(window, now);
        self.ids.reserve();
        let stream = Stream::new(None, Opener::Local, assumed, send, receive);
        let key = self.table.insert(stream);
        self.activate(key.index);
        Ok(key)
    }

    /// Bytes that `send` takes now, in at most `frames` frames.
    pub(super) fn room(&mut self, now: Instant, key: StreamKey, frames: usize) -> usize {
        let most = if self.budget.is_tight() {
            MAX_PAYLOAD_LEN
        } else {
            MAX_QUEUED
        };
        let Some(stream) = self.table.live(key) else {
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
        // Leasing here what `send` is about to commit: it doesn't fail for lack of memory then.
        let frames = frames.min(room.div_ceil(MAX_PAYLOAD_LEN));
        let leased = [frames, 1]
            .into_iter()
            .find(|frames| self.budget.reserve(frames * MAX_FRAME_LEN, Purpose::Send));
        let Some(frames) = leased else {
            stream.send.wants_room = true;
            let is_new = !std::mem::replace(&mut stream.send.starved, true);
            self.starved.add(now, key, is_new);
            return 0;
        };
        self.budget.release(frames * MAX_FRAME_LEN);
        room.min(frames * MAX_PAYLOAD_LEN)
    }

    /// Queues payload, or gives it back.
    pub(super) fn send(&mut self, key: StreamKey, buffer: DataBuffer) -> Result<(), DataBuffer> {
        let Some(stream) = self.table.live(key) else {
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

    /// What is sent goes last from now on.
    pub(super) fn sustain(&mut self, key: StreamKey) {
        if let Some(stream) = self.table.live(key) {
            stream.send.rate.sustain();
        }
    }

    /// True if payload is still taken, if there is room.
    pub(super) fn is_sending(&mut self, key: StreamKey) -> bool {
        let stream = self.table.live(key);
        stream.is_some_and(|stream| stream.send.state == SendState::Open)
    }

    /// Takes all payload that has come, and the end that follows it.
    pub(super) fn take(&mut self, key: StreamKey) -> (VecDeque<Bytes>, Option<StreamEnd>) {
        let stream = self.table.live(key);
        stream.map_or_else(Default::default, |stream| stream.receive.take())
    }

    /// Gives back bytes that `take` gave.
    pub(super) fn put_back(&mut self, key: StreamKey, rest: VecDeque<Bytes>) {
        if let Some(stream) = self.table.live(key) {
            stream.receive.put_back(rest);
        }
    }

    /// FIN follows what is queued.
    pub(super) fn finish(&mut self, key: StreamKey) {
        let Some(stream) = self.table.live(key) else {
            return;
        };
        if stream.send.state == SendState::Open {
            stream.send.state = SendState::Ending(StreamEnd::Finished);
            self.activate(key.index);
        }
    }

    /// ABORT follows what is queued, and nothing more is wanted.
    pub(super) fn abort(&mut self, key: StreamKey, code: AbortCode) {
        let Some(stream) = self.table.live(key) else {
            return;
        };
        let both_ended = stream.send.is_done() && stream.receive.is_done();
        stream.receive.discard();
        if stream.send.open.is_some() {
            let assumed = stream.assumed;
            stream.send.discard();
            stream.send.state = SendState::Done;
            self.ids.cede();
            self.credit.vanished(assumed);
            return;
        }
        let peer_aborted = matches!(stream.receive.end, Some(StreamEnd::Aborted(_)));
        if both_ended || peer_aborted || std::mem::replace(&mut stream.send.aborted, true) {
            return;
        }
        // A FIN that has left doesn't tell that the other direction died too: ABORT follows it.
        // After a CANCEL it tells the peer that nothing more will come from here.
        stream.send.state = SendState::Ending(StreamEnd::Aborted(code));
        self.activate(key.index);
    }

    /// No more payload is wanted: CANCEL is due.
    pub(super) fn cancel(&mut self, key: StreamKey) {
        let Some(stream) = self.table.live(key) else {
            return;
        };
        let was_done = stream.receive.is_done();
        stream.receive.discard();
        if was_done {
            return;
        }
        stream.cancel_due = true;
        if stream.id.is_some() {
            self.cancels.push_back(key.index);
        }
    }

    /// The owner's socket took this many bytes: the peer may get credit for more.
    pub(super) fn consumed(
        &mut self,
        now: Instant,
        key: StreamKey,
        bytes: usize,
        rtt: Option<Duration>,
    ) {
        let active = self.table.active();
        let Some(stream) = self.table.live(key) else {
            return;
        };
        stream.receive.window.consume(bytes);
        let sustained = stream.receive.rate.is_sustained();
        let update = stream
            .receive
            .window
            .next_update(now, rtt, active, sustained);
        if let Some(more) = update {
            if stream.window_due == 0 {
                self.windows.push_back(key.index);
            }
            stream.window_due += more;
        }
    }

    /// The owner lets go: what isn't ended is cancelled and aborted.
    pub(super) fn release(&mut self, key: StreamKey, parting: Parting) {
        let Some(stream) = self.table.live(key) else {
            return;
        };
        if stream.send.state == SendState::Open {
            self.abort(key, AbortCode::Reset);
        } else if !stream.receive.is_done() {
            self.cancel(key);
        }
        if let Some(stream) = self.table.live(key) {
            stream.receive.discard();
        }
        self.table.release(key);
        self.free_if_done(key.index, parting);
    }

    // === what the owner is told ===

    #[inline]
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    #[inline]
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells the owner, once, that there is something to take.
    #[inline]
    pub(super) fn tell_readable(&mut self, index: usize) {
        let Some(stream) = self.table.at_mut(index) else {
            return;
        };
        if !stream.receive.announced && !stream.released {
            stream.receive.announced = true;
            let key = stream.key(index);
            self.events.push_back(Event::Readable(key));
        }
    }

    /// Tells the owner, once, that a stream has room again.
    #[inline]
    pub(super) fn tell_room(&mut self, index: usize) {
        let Some(stream) = self.table.at_mut(index) else {
            return;
        };
        if stream.send.wants_room
            && !stream.released
            && stream.send.credit > 0
            && stream.send.queued <= LOW_QUEUED
        {
            stream.send.wants_room = false;
            let key = stream.key(index);
            self.events.push_back(Event::SendReady(key));
        }
    }

    /// Time at which streams that wait for memory are asked again.
    #[inline]
    pub(super) fn starved_until(&self) -> Option<Instant> {
        self.starved.until()
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.starved_until().is_some_and(|at| at <= now) {
            self.wake_starved();
        }
    }

    /// Memory may be free again.
    pub(super) fn wake_starved(&mut self) {
        for key in self.starved.take() {
            if let Some(stream) = self.table.live(key) {
                stream.send.starved = false;
                self.tell_room(key.index);
            }
        }
    }

    // === what the peer's frames do to them ===

    /// The stream that a frame concerns.
    #[inline]
    pub(super) fn find(&self, id: StreamId, kind: FrameKind) -> Result<Found, Violation> {
        if let Some(index) = self.ids.index(id) {
            return Ok(Found::Known(index));
        }
        let (was_opened, is_closed) = match self.carrier {
            // The network chooses which lane is ahead of which, but each begins with its OPEN.
            Carrier::Lanes => (self.ids.was_opened(id), true),
            Carrier::Ordered => {
                let is_closed = self.closed.contains(id) || self.ids.is_refused_by_go_away(id);
                (is_closed || self.ids.is_in_use(id), is_closed)
            }
        };
        match (was_opened, is_closed) {
            (false, _) => Err(Violation::NeverOpened { id, kind }),
            (true, true) => Ok(Found::Closed),
            (true, false) => Ok(Found::Forgotten),
        }
    }

    /// Answers an OPEN with ABORT.
    pub(super) fn refuse(&mut self, id: StreamId, code: AbortCode) {
        if self.carrier == Carrier::Ordered {
            self.closed.expect(id);
        }
        self.refusals.push_back((id, code));
        self.events.push_back(Event::Refused);
    }

    /// Payload has been queued for the owner.
    #[inline]
    pub(super) fn received(&mut self, index: usize, bytes: usize) {
        self.received += bytes as u64;
        self.tell_readable(index);
    }

    /// Nothing more will be sent on this stream, not even an end.
    #[inline]
    pub(super) fn stop_sending(&mut self, index: usize) {
        let Some(stream) = self.table.at_mut(index) else {
            return;
        };
        if stream.send.open.is_some() {
            self.ids.cede();
            self.credit.vanished(stream.assumed);
        }
        stream.send.discard();
        stream.send.state = SendState::Done;
        stream.send.over = true;
    }

    /// The peer has received every frame numbered below `received`, and said what it had to say until then.
    #[inline]
    pub(super) fn acknowledged(&mut self, received: u64) {
        self.closed.acknowledge(received);
        self.wake_starved();
    }

    /// Forgets a stream of which nothing is left to do here.
    pub(super) fn free_if_done(&mut self, index: usize, parting: Parting) {
        let Some(stream) = self.table.at(index) else {
            return;
        };
        // A CANCEL that waits for an OPEN which never leaves vanishes with it.
        let cancel_due = stream.cancel_due && stream.id.is_some();
        let done = stream.send.is_done() && stream.receive.is_done();
        if !(stream.released && done) || cancel_due {
            return;
        }
        let stream = self.table.remove(index);
        let Some(id) = stream.id else { return };
        self.ids.remove(id);
        self.closed.insert(parting, id);
    }

    // === what they have to say ===

    #[inline]
    fn activate(&mut self, index: usize) {
        let Some(stream) = self.table.at(index) else {
            return;
        };
        let tier = stream.tier();
        self.scheduler.activate(index, tier, &mut self.table);
    }

    /// Bytes that a stream may send per round.
    pub(super) fn set_quantum(&mut self, bytes: usize) {
        self.scheduler.set_quantum(bytes);
    }

    /// True if ABORTs of refused streams wait to be sent.
    #[inline]
    pub(super) fn has_refusals(&self) -> bool {
        !self.refusals.is_empty()
    }

    /// True if `next_urgent` may give something.
    #[inline]
    pub(super) fn has_urgent(&self) -> bool {
        self.has_refusals() || !self.cancels.is_empty() || !self.windows.is_empty()
    }

    /// The next frame that waits for no turn: ABORT of a refused stream, CANCEL, WINDOW.
    pub(super) fn next_urgent(&mut self, parting: Parting) -> Option<UrgentFrame> {
        if let Some((id, code)) = self.refusals.pop_front() {
            self.closed.insert(parting.after_one_more(), id);
            return Some(UrgentFrame {
                lane: id,
                frame: encode(FrameKind::Abort, id, &[&[code as u8]]),
                stream: None,
            });
        }
        while let Some(index) = self.cancels.pop_front() {
            let Some(stream) = self.table.at_mut(index) else {
                continue;
            };
            let Some(id) = stream.id else { continue };
            if !std::mem::take(&mut stream.cancel_due) {
                continue;
            }
            if stream.receive.end.is_some() {
                self.free_if_done(index, parting);
                continue;
            }
            stream.cancelled = true;
            stream.drop_late_abort();
            return Some(UrgentFrame {
                lane: StreamId::SESSION,
                frame: encode(FrameKind::Cancel, id, &[]),
                stream: Some(index),
            });
        }
        while let Some(index) = self.windows.pop_front() {
            let Some(stream) = self.table.at_mut(index) else {
                continue;
            };
            let more = std::mem::take(&mut stream.window_due);
            let Some(id) = stream.id else { continue };
            if more > 0 && !stream.receive.is_done() {
                return Some(UrgentFrame {
                    lane: StreamId::SESSION,
                    frame: encode(FrameKind::Window, id, &[&more.to_be_bytes()]),
                    stream: None,
                });
            }
        }
        None
    }

    /// The stream whose turn it is.
    #[inline]
    pub(super) fn next_turn(&mut self, now: Instant, room: SendRoom) -> Option<usize> {
        match room {
            SendRoom::ForAll => self.scheduler.next(now, &mut self.table),
            SendRoom::ForNewcomers => self.scheduler.next_newcomer(&mut self.table),
            SendRoom::None => None,
        }
    }

    /// Reason why `next_turn` named the stream that it did.
    #[inline]
    pub(super) fn choice(&self) -> Choice {
        self.scheduler.choice()
    }

    /// The next frame of the stream whose turn it is, with its lane; it is logged.
    #[inline]
    pub(super) fn emit(
        &mut self,
        now: Instant,
        index: usize,
        log: &mut SendLog,
    ) -> Option<(StreamId, Bytes)> {
        let stream = self.table.at_mut(index)?;
        let (lane, frame, cost) = if let Some(open) = stream.send.open.take() {
            let id = self.ids.assign(index);
            self.credit.sent(log.next(), stream.assumed);
            stream.id = Some(id);
            if stream.cancel_due {
                self.cancels.push_back(index);
            }
            (id, encode(FrameKind::Open, id, &[&open]), 0)
        } else {
            let id = stream.id?;
            if let Some(buffer) = stream.send.pop() {
                let (cost, len) = (buffer.cost(), buffer.len());
                stream.send.rate.record(now, len);
                self.sent += len as u64;
                (id, buffer.into_frame(id), cost)
            } else if let SendState::Ending(end) = stream.send.state {
                stream.send.state = SendState::Done;
                stream.send.over = true;
                let frame = match end {
                    StreamEnd::Finished => encode(FrameKind::Fin, id, &[]),
                    StreamEnd::Aborted(code) => encode(FrameKind::Abort, id, &[&[code as u8]]),
                };
                (id, frame, 0)
            } else {
                debug_assert!(false, "the scheduler chose a stream without a frame");
                return None;
            }
        };
        let tier = stream.tier();
        self.scheduler
            .sent(index, frame.len(), tier, &mut self.table);
        log.push(frame.clone(), cost);
        self.tell_room(index);
        self.free_if_done(index, Parting::new(self.carrier, log.next()));
        Some((lane, frame))
    }

    /// Nothing of streams is left to send.
    pub(super) fn is_flushed(&self) -> bool {
        self.table.is_empty() && self.refusals.is_empty() && self.closed.lanes() == 0
    }

    /// Streams that are over, for their owner, and of whose end the peer hasn't heard.
    #[inline]
    pub(super) fn lingering(&self) -> usize {
        let refused = match self.carrier {
            Carrier::Ordered => self.closed.unheard(),
            Carrier::Lanes => self.refusals.len() + self.closed.lanes(),
        };
        self.table.len() - self.table.active() + refused
    }
}
