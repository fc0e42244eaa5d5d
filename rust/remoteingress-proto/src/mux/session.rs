//! The session: streams, windows, scheduling and replay over a connection that may come and go.
//!
//! Sans-IO: it has no socket and no clock. The contract, "drain after every mutation": call any
//! `handle_*` or command, then [`Session::poll_event`] and [`Session::poll_transmit`] until each
//! gives None, then arm one timer for [`Session::poll_timeout`].
//!
//! | kind | methods |
//! | --- | --- |
//! | input | `handle_input` or `handle_lane` and `handle_datagram`, `handle_timeout`, `attach`, `detach` |
//! | output | `poll_transmit` or `poll_lane`, `poll_event`, `poll_timeout` |
//! | streams | `open`, `room_for`, `send`, `finish`, `abort`, `cancel`, `take`, `consumed`, `release` |
//! | session | `send_control`, `send_datagram`, `send_notice`, `go_away`, getters |
//!
//! The [`Carrier`] decides which of the alternatives is used, and nothing that an owner of streams sees. None of the
//! parts knows the session:
//!
//! | part | knows |
//! | --- | --- |
//! | `link` | whether there is a connection, and whether the peer is alive |
//! | `greeting` | whether the hub knows this session |
//! | `receiving` | unfinished frames, and what the peer has done wrong |
//! | `sending` | frames that the peer may not have, and the order in which frames leave |
//! | `streams` | the streams, their ids, and the facts that the owner hasn't been told |
//! | `loss` | which of them the peer doesn't know |

mod credit;
mod greeting;
mod link;
mod loss;
mod receiving;
mod sending;
mod starved;
mod stream_ids;
mod stream_table;
mod streams;

#[cfg(test)]
mod tests;

use self::greeting::Greeting;
use self::link::Link;
use self::loss::{begin_again, peer_goes_away};
use self::receiving::{Receiving, check_lane};
use self::sending::{Sending, as_frame};
use self::streams::Streams;
use crate::lanes::LaneOutput;
use crate::mux::budget::Budget;
use crate::mux::carrier::Carrier;
use crate::mux::config::{EARLY_CREDIT, SessionConfig};
use crate::mux::datagrams::DatagramDrops;
use crate::mux::error::{OpenError, SessionError, Violation};
use crate::mux::event::{Event, GoAwayCode, Queued, Totals};
use crate::mux::stream::{AbortCode, Stream, StreamEnd, StreamKey, StreamView};
use crate::wire::frame::{
    DataBuffer, Frame, FrameKind, HEADER_LEN, MAX_PAYLOAD_LEN, StreamId, take_u32, take_u64,
};
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// One session of many streams, as one end sees it. Its connection is the owner's affair: bytes go in, frames come out.
#[derive(Debug)]
pub struct Session {
    link: Link,
    greeting: Greeting,
    receiving: Receiving,
    sending: Sending,
    streams: Streams,
}

impl Session {
    /// A session whose first connection has just been authenticated.
    pub fn new(config: &SessionConfig, budget: &Budget, now: Instant) -> Self {
        Self {
            link: Link::new(config, now),
            greeting: Greeting::new(config.is_welcome, config.expects_begin),
            receiving: Receiving::new(config.max_peer_streams, now),
            sending: Sending::new(budget, now),
            streams: Streams::new(config, budget, now),
        }
    }

    // === the connection comes and goes (D3) ===

    /// The connection is gone. Streams notice a pause, nothing else.
    pub fn detach(&mut self, now: Instant) {
        if self.link.detach(now) {
            self.sending.detach();
            self.receiving.detach();
            self.greeting.detach();
            self.streams.credit.detach();
        }
    }

    /// A new connection, on which the peer said that it has received `peer_received` numbered
    /// frames. On error nothing has changed and the session can't be resumed.
    pub fn attach(&mut self, now: Instant, peer_received: u64) -> Result<(), Violation> {
        self.detach(now);
        self.acknowledged(peer_received)?;
        self.welcomed();
        self.link.attach(now);
        self.streams.wake_starved();
        Ok(())
    }

    /// Time that the session waits for a new connection, from the next loss on; at most a day.
    pub fn set_resume_timeout(&mut self, timeout: Duration) {
        self.link.set_resume_timeout(timeout);
    }

    /// True if this session could resume where the peer is: after `peer_received` numbered frames.
    pub fn can_resume(&self, peer_received: u64) -> bool {
        self.sending.can_resume(peer_received)
    }

    /// Numbered frames received so far: the offset for Hello and Welcome. Take it after `detach`.
    pub fn received(&self) -> u64 {
        self.receiving.numbered()
    }

    /// True if it has a connection now.
    pub fn is_attached(&self) -> bool {
        self.link.is_attached()
    }

    /// The carrier of its connection, or of the last one.
    pub fn carrier(&self) -> Carrier {
        self.streams.carrier
    }

    // === ahead of the Welcome (D4) ===

    /// True if this session may go on before the hub says Welcome: nothing that the hub may have missed is kept, or
    /// only what a hub has refused to look at (D4), and no stream assumes more than any hub allows.
    pub fn may_resume_early(&self) -> bool {
        self.carrier() == Carrier::Ordered
            && (self.sending.is_caught_up() || !self.is_welcome())
            && !self.streams.table.has_unopened_beyond(EARLY_CREDIT)
    }

    /// A new connection whose peer hasn't said Welcome yet. Frames sent before such a connection died go out again.
    pub fn attach_early(&mut self, now: Instant, carrier: Carrier) {
        self.detach(now);
        if carrier == Carrier::Ordered {
            self.streams.closed.forget_lanes();
            if self.carrier() == Carrier::Lanes {
                self.sending.leave_lanes();
            }
        }
        self.streams.carrier = carrier;
        self.greeting.ask_again(self.streams.ids.next());
        self.link.attach(now);
        self.streams.wake_starved();
    }

    /// A connection of `attach_early` is gone without an answer: what its hub may have carried out stays in this session.
    pub fn leave_early(&mut self) {
        self.greeting.leave();
    }

    /// The hub has said Welcome to a new session of this end's, and announced `peer_credit` bytes for new streams.
    pub fn welcome(&mut self, peer_credit: u32) {
        self.welcomed();
        self.streams.credit.set_peer(peer_credit);
    }

    /// The hub has said Welcome to a connection of `attach_early`, and that it has received this many numbered frames
    /// of the session. On error it knows another session than this end does.
    pub fn welcome_back(&mut self, received: u64) -> Result<(), Violation> {
        if received != self.sending.acknowledged() {
            return Err(Violation::BadOffset(received));
        }
        self.welcomed();
        Ok(())
    }

    /// The hub knows this session, and what it has announced in it.
    fn welcomed(&mut self) {
        self.greeting.welcome();
        self.streams.credit.welcome();
    }

    /// True if the hub has said Welcome.
    pub fn is_welcome(&self) -> bool {
        self.greeting.is_welcome()
    }

    /// The hub has said Welcome, but to a new session: of a lost one only the streams go on that were opened since
    /// `attach_early` or whose OPEN hasn't left, and all that they have sent goes out again. Gives the first id of theirs.
    /// Streams that assume more than the `peer_credit` bytes which the hub announces now would break the protocol there.
    pub fn begin_again(&mut self, peer_credit: u32) -> StreamId {
        let first = self.greeting.begin_again();
        self.receiving.begin_again();
        begin_again(first, peer_credit, &mut self.sending, &mut self.streams);
        StreamId(first).min(self.next_id())
    }

    // === input ===

    /// Anything at all has come from the peer.
    pub fn heard(&mut self, now: Instant) {
        if self.link.heard(now) {
            self.streams.tell(Event::Heard);
        }
    }

    /// True if nothing was heard for 8 s, on lanes.
    pub fn is_silent(&self) -> bool {
        self.link.is_silent()
    }

    /// Bytes from the current connection. On error close it: the peer broke the protocol.
    pub fn handle_input(&mut self, now: Instant, mut input: Bytes) -> Result<(), SessionError> {
        if !self.is_attached() {
            return Ok(());
        }
        self.heard(now);
        while let Some(frame) = self.receiving.next_frame(&mut input)? {
            self.handle_frame(now, frame)?;
        }
        self.settle_input()
    }

    /// Bytes from the lane of a stream, or of the session ([`StreamId::SESSION`]). On error close the
    /// connection: the peer broke the protocol.
    pub fn handle_lane(
        &mut self,
        now: Instant,
        lane: StreamId,
        mut input: Bytes,
    ) -> Result<(), SessionError> {
        self.heard(now);
        let mut decoder = self.receiving.take_lane(lane);
        while let Some(frame) = decoder.next(&mut input)? {
            check_lane(lane, frame.kind, frame.stream)?;
            self.handle_frame(now, frame)?;
        }
        self.receiving.keep_lane(lane, decoder, &self.streams)?;
        self.settle_input()
    }

    /// The peer has ended a lane: it sends nothing more there. Its stream must have ended before. Until then read
    /// it, whatever became of the stream: each frame counts for the peer's acknowledgements.
    pub fn handle_lane_end(&mut self, lane: StreamId) -> Result<(), SessionError> {
        let parting = self.sending.parting(self.streams.carrier);
        self.receiving
            .lane_ended(lane, &mut self.streams, parting)?;
        Ok(())
    }

    /// A datagram that came beside the lanes. One that no frame could carry is dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: Bytes) {
        self.heard(now);
        self.link.used(now);
        if (1..=MAX_PAYLOAD_LEN).contains(&datagram.len()) {
            self.streams.tell(Event::Datagram(datagram));
        }
    }

    /// Time has passed. Read what the connection has before, or a stalled process takes its own silence for the peer's.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        let has_gone_silent = self.link.handle_timeout(now, self.streams.carrier)?;
        self.streams.handle_timeout(now);
        if has_gone_silent {
            self.streams.tell(Event::Silent);
        }
        self.streams.credit.announce(&self.streams.budget);
        Ok(())
    }

    fn settle_input(&mut self) -> Result<(), SessionError> {
        self.streams.credit.announce(&self.streams.budget);
        self.sending.check_bounds(&self.streams)?;
        Ok(())
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), SessionError> {
        let (kind, id, mut payload) = (frame.kind, frame.stream, frame.payload);
        if !self.greeting.admits(kind) {
            return Ok(());
        }
        let (receiving, streams) = (&mut self.receiving, &mut self.streams);
        if kind.is_numbered() {
            receiving.count_numbered();
            self.link
                .received_numbered(now, HEADER_LEN + payload.len(), streams.carrier);
        }
        let (sending, carrier) = (&self.sending, streams.carrier);
        let parting = || sending.parting(carrier);
        match kind {
            FrameKind::Open => receiving.opened(now, id, payload, streams, parting())?,
            FrameKind::Data => receiving.data(now, id, payload, streams)?,
            FrameKind::Fin => receiving.ended(now, id, StreamEnd::Finished, streams, parting())?,
            FrameKind::Abort => {
                let code = AbortCode::from_wire(payload.get_u8());
                receiving.ended(now, id, StreamEnd::Aborted(code), streams, parting())?;
            }
            FrameKind::Cancel => receiving.cancelled(now, id, streams, parting())?,
            FrameKind::Window => receiving.granted(now, id, take_u32(&mut payload), streams)?,
            FrameKind::Control => streams.tell(Event::Control(payload)),
            FrameKind::GoAway => peer_goes_away(payload, streams, parting()),
            FrameKind::Credit => streams.credit.received(id, take_u32(&mut payload))?,
            FrameKind::Ping | FrameKind::Pong => {
                let (is_ping, nonce) = (kind == FrameKind::Ping, take_u64(&mut payload));
                if !self.link.received_signal(now, is_ping, nonce) {
                    receiving.glitch(now)?;
                }
            }
            FrameKind::Ack => {
                let received = take_u64(&mut payload);
                self.acknowledged(received)?;
                self.streams.acknowledged(received);
            }
            FrameKind::Datagram => {
                self.link.used(now);
                streams.tell(Event::Datagram(payload));
            }
            FrameKind::Begin => receiving.glitch(now)?,
        }
        Ok(())
    }

    fn acknowledged(&mut self, received: u64) -> Result<(), Violation> {
        self.sending.acknowledge(received)?;
        self.streams.credit.acknowledged(received);
        Ok(())
    }

    // === output ===

    /// The next fact. Facts about a stream stop when it is released.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.streams.poll_event()
    }

    /// Time at which `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.link
            .next_timeout(self.carrier(), self.streams.starved_until())
    }

    /// The next frame to send on the current connection. Once given it counts as sent; replay follows a lost connection.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        self.poll_lane(now, true).and_then(as_frame)
    }

    /// The next thing to do on the lanes; `with_datagrams` if the connection takes some now.
    #[inline]
    pub fn poll_lane(&mut self, now: Instant, with_datagrams: bool) -> Option<LaneOutput> {
        self.sending.next(
            now,
            with_datagrams,
            self.receiving.numbered(),
            &mut self.link,
            &mut self.greeting,
            &mut self.streams,
        )
    }

    // === the session as a whole ===

    /// Asks the peer for a sign of life with the next transmit.
    pub fn ping_now(&mut self) {
        self.link.ping_now();
    }

    /// True if a session that can't be resumed sleeps: ask it before a stream depends on it.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.carrier() == Carrier::Lanes && self.link.is_stale(now)
    }

    /// True if the peer owes an acknowledgement of what was sent, or the answer to a PING.
    pub fn awaits_answer(&self) -> bool {
        self.is_attached() && (!self.sending.is_caught_up() || self.link.awaits_pong())
    }

    /// The last measured round trip.
    pub fn rtt(&self) -> Option<Duration> {
        self.link.rtt()
    }

    /// On an ordered connection: a segment's round trip takes this long now. Told every few milliseconds while there is
    /// something to send: little more is on its way than the path carries, so that what waits does so in our own order.
    pub fn set_path_rtt(&mut self, now: Instant, rtt: Duration) {
        let quantum = self.sending.observe(now, rtt);
        self.streams.set_quantum(quantum);
    }

    /// On lanes: how many bytes may be on their way to the peer, at most 32 MiB. Little more than what the path
    /// holds keeps what waits in our own order.
    pub fn set_send_limit(&mut self, bytes: usize) {
        self.sending.set_limit(bytes);
    }

    /// On lanes: whether no stream sends anything for now; control does.
    pub fn hold_streams(&mut self, are_held: bool) {
        self.sending.hold(are_held);
    }

    /// The largest datagram that `send_datagram` takes now, in bytes.
    pub fn max_datagram(&self) -> usize {
        self.sending.max_datagram()
    }

    /// On lanes: the largest datagram that the path carries, in bytes.
    pub fn set_max_datagram(&mut self, bytes: usize) {
        self.sending.set_max_datagram(bytes);
    }

    /// On lanes: a datagram that `poll_lane` gave was too large for the path.
    pub fn count_oversized_datagram(&mut self) {
        self.sending.count_oversized_datagram();
    }

    /// True if datagrams wait to leave.
    pub fn has_datagrams(&self) -> bool {
        self.is_welcome() && self.sending.has_datagrams()
    }

    /// Datagrams given to `send_datagram` that never left.
    pub fn datagram_drops(&self) -> DatagramDrops {
        self.sending.datagram_drops()
    }

    /// Queues a datagram of 1 to `max_datagram` bytes; it leaves within 500 ms or not at all.
    pub fn send_datagram(&mut self, now: Instant, datagram: Bytes) {
        let is_attached = self.link.used(now);
        self.sending.push_datagram(now, datagram, is_attached);
    }

    /// As [`Self::send_datagram`] for what tells the peer about a flow: a lost one isn't counted, the next payload asks again.
    pub fn send_notice(&mut self, now: Instant, datagram: Bytes) {
        let is_attached = self.link.used(now);
        self.sending.push_notice(now, datagram, is_attached);
    }

    /// Queues a control message of 1 to 1,024 bytes.
    pub fn send_control(&mut self, payload: &[u8]) {
        debug_assert!((1..=1_024).contains(&payload.len()));
        self.sending.push_control(payload);
    }

    /// Opens no more. What the peer opens before it hears of it is still accepted, unless `code` is
    /// [`GoAwayCode::EnhanceYourCalm`] or [`GoAwayCode::Replaced`].
    pub fn go_away(&mut self, code: GoAwayCode, retry_after: Duration) {
        let at_once = matches!(code, GoAwayCode::EnhanceYourCalm | GoAwayCode::Replaced);
        let Some(last) = self.streams.ids.go_away(at_once) else {
            return;
        };
        let delay = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let parts: [&[u8]; 3] = [&[code as u8], &delay.to_be_bytes(), &last.to_be_bytes()];
        self.sending.push_go_away(&parts);
    }

    /// The peer or this end accepts no new streams, or ids run out: use another session.
    pub fn is_closing(&self) -> bool {
        self.streams.ids.is_closing()
    }

    /// Nothing is left to send or to be acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.sending.is_flushed() && self.streams.is_flushed()
    }

    /// Sums over the session's life.
    pub fn totals(&self) -> Totals {
        self.streams.totals()
    }

    /// Bytes that wait to be sent. Looks at every stream: for whoever asks now and then.
    pub fn queued(&self) -> Queued {
        self.sending.queued(&self.streams)
    }

    /// The id of the next stream of this end whose OPEN leaves.
    pub fn next_id(&self) -> StreamId {
        StreamId(self.streams.ids.next())
    }

    /// Streams that their owner hasn't released.
    pub fn active_streams(&self) -> usize {
        self.streams.table.active()
    }

    // === streams ===

    /// Opens a stream. Its OPEN leaves when the scheduler says so; payload may follow at once. `header`: up to 256 bytes.
    pub fn open(&mut self, now: Instant, header: &[u8]) -> Result<StreamKey, OpenError> {
        self.streams.open(now, header)
    }

    /// From now on the stream sends in the tier `sustained`, whatever it has sent so far.
    pub fn sustain(&mut self, key: StreamKey) {
        self.streams.sustain(key);
    }

    /// A buffer to read into before `send`, with [`MAX_PAYLOAD_LEN`] bytes of payload.
    pub fn take_buffer(&self) -> DataBuffer {
        self.streams.budget.take_buffer()
    }

    /// Takes back a buffer that `send` didn't get, with as much payload as it had.
    pub fn give_back(&self, buffer: DataBuffer) {
        self.streams.budget.give_back(buffer);
    }

    /// Bytes that `send` takes now, in at most `frames` frames; after 0 follows [`Event::SendReady`] once it is more.
    pub fn room_for(&mut self, now: Instant, key: StreamKey, frames: usize) -> usize {
        self.streams.room(now, key, frames)
    }

    /// Queues payload, at most as much as `room_for` said. The buffer comes back if it is more, or the stream has ended.
    pub fn send(&mut self, key: StreamKey, buffer: DataBuffer) -> Result<(), DataBuffer> {
        self.streams.send(key, buffer)
    }

    /// True if payload is still taken, if there is room.
    pub fn is_sending(&mut self, key: StreamKey) -> bool {
        self.streams.is_sending(key)
    }

    /// No more payload: FIN follows what is queued.
    pub fn finish(&mut self, key: StreamKey) {
        self.streams.finish(key);
    }

    /// The owner's socket failed: ABORT follows what is queued, nothing more is wanted. If OPEN hasn't left, both vanish.
    pub fn abort(&mut self, key: StreamKey, code: AbortCode) {
        self.forget_unfinished(key);
        self.streams.abort(key, code);
    }

    /// The owner wants no more payload: CANCEL goes ahead of everything. Sending goes on.
    pub fn cancel(&mut self, key: StreamKey) {
        self.forget_unfinished(key);
        self.streams.cancel(key);
    }

    /// Takes all payload that has come, and the end of the peer's direction if that follows it. Tell what was used with
    /// `consumed`.
    pub fn take(&mut self, key: StreamKey) -> (VecDeque<Bytes>, Option<StreamEnd>) {
        self.streams.take(key)
    }

    /// The owner's socket took this many bytes: the peer gets credit for more.
    pub fn consumed(&mut self, now: Instant, key: StreamKey, bytes: usize) {
        let rtt = self.link.rtt();
        self.streams.consumed(now, key, bytes, rtt);
    }

    /// The stream as it is now, while it is known.
    pub fn view(&self, key: StreamKey) -> Option<StreamView> {
        self.streams.table.of_key(key).map(Stream::view)
    }

    /// The owner lets go: its work is done. Queued bytes still go out; a direction that hasn't ended is cancelled or aborted.
    pub fn release(&mut self, key: StreamKey) {
        self.forget_unfinished(key);
        let parting = self.sending.parting(self.streams.carrier);
        self.streams.release(key, parting);
    }

    /// Payload that has begun to come for a live stream isn't wanted.
    fn forget_unfinished(&mut self, key: StreamKey) {
        let stream = self.streams.table.live(key);
        if let Some(id) = stream.and_then(|stream| stream.id) {
            self.receiving.forget_payload(id);
        }
    }

    /// Gives back bytes that `take` gave, for the reader that comes next. No event follows for them.
    pub fn put_back(&mut self, key: StreamKey, rest: VecDeque<Bytes>) {
        self.streams.put_back(key, rest);
    }
}

/// For tests and benchmarks.
#[cfg(feature = "testing")]
impl Session {
    /// As [`Self::room_for`] with one frame.
    pub fn room(&mut self, now: Instant, key: StreamKey) -> usize {
        self.room_for(now, key, 1)
    }

    /// Every stream that its owner hasn't released.
    pub fn live_streams(&self) -> Vec<StreamKey> {
        self.streams.table.live_keys()
    }

    /// Glitches that the peer made so far (threats A3.8); legal traffic makes none.
    pub fn glitches(&self) -> u64 {
        self.receiving.glitches()
    }

    /// As if all stream ids but `left` had been given out: soon another session is needed.
    pub fn skip_stream_ids(&mut self, left: u32) {
        self.streams.ids.skip(left);
    }
}
