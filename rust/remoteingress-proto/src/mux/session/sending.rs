//! The way out, in this order: liveness, replay, control, then streams as the scheduler says.

use super::greeting::Greeting;
use super::link::{Link, Signal};
use super::streams::{SendRoom, Streams, UrgentFrame};
use crate::lanes::{LaneOutput, Urgency};
use crate::mux::budget::Budget;
use crate::mux::carrier::Carrier;
use crate::mux::closed::Parting;
use crate::mux::datagrams::{DATAGRAM_OVERHEAD, DatagramDrops, DatagramQueue};
use crate::mux::error::Violation;
use crate::mux::event::Queued;
use crate::mux::send_limit::SendLimit;
use crate::mux::send_log::SendLog;
use crate::wire::frame::{FrameKind, MAX_PAYLOAD_LEN, StreamId, addressee, encode};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Control frames that wait to be sent are bounded by this; a peer that provokes more is closed (D9).
const MAX_CONTROL_BYTES: usize = 1_024 * 1_024;
/// Refused or closed streams that the peer hasn't heard of; a peer that provokes more is closed.
const MAX_CLOSED: usize = 1 << 17;
/// In each round a stream may send as much as the path carries in this time, within the scheduler's bounds: more than a
/// frame only on paths where 16 streams' turns are over in 16 ms.
const ROUND_SHARE: Duration = Duration::from_millis(1);
/// Datagrams may get this far ahead of streams that wait beside them: 64 KiB, the largest datagram in fragments.
const DATAGRAM_BURST: usize = 64 * 1_024;

/// Frames that were sent and may be sent again, and those that wait beside the streams.
#[derive(Debug)]
pub(super) struct Sending {
    log: SendLog,
    /// On an ordered connection.
    limit: SendLimit,
    /// Control messages and GOAWAY.
    control: VecDeque<Bytes>,
    control_bytes: usize,
    /// The GOAWAY that was queued, once it was.
    go_away: Option<Bytes>,
    datagrams: DatagramQueue,
    max_datagram: usize,
    /// Bytes of datagrams beyond what streams have sent meanwhile.
    datagram_debt: usize,
}

impl Sending {
    pub(super) fn new(budget: &Budget, now: Instant) -> Self {
        Self {
            log: SendLog::new(budget),
            limit: SendLimit::new(now),
            control: VecDeque::new(),
            control_bytes: 0,
            go_away: None,
            datagrams: DatagramQueue::default(),
            max_datagram: MAX_PAYLOAD_LEN,
            datagram_debt: 0,
        }
    }

    // === the log ===

    /// The sign by which the peer learns that a stream is over whose last frame has left.
    #[inline]
    pub(super) fn parting(&self, carrier: Carrier) -> Parting {
        Parting::new(carrier, self.log.next())
    }

    /// Numbered frames that the peer is known to have.
    pub(super) fn acknowledged(&self) -> u64 {
        self.log.acknowledged()
    }

    /// The peer has all that was sent.
    pub(super) fn is_caught_up(&self) -> bool {
        self.log.next() == self.log.acknowledged()
    }

    /// True if replay can begin where the peer says it is.
    pub(super) fn can_resume(&self, peer_received: u64) -> bool {
        self.log.contains(peer_received)
    }

    /// Bytes that wait to be sent, by what they are.
    pub(super) fn queued(&self, streams: &Streams) -> Queued {
        let [data, sustained] = streams.table.queued();
        Queued {
            control: self.control_bytes,
            datagrams: self.datagrams.bytes(),
            data,
            sustained,
        }
    }

    /// The peer has received every frame numbered below `received`.
    pub(super) fn acknowledge(&mut self, received: u64) -> Result<(), Violation> {
        self.log
            .acknowledge(received)
            .map_err(|_| Violation::BadOffset(received))
    }

    /// The connection is gone: what it may have lost is to be sent again, but no datagram.
    pub(super) fn detach(&mut self) {
        self.log.rewind();
        self.datagrams.detach();
    }

    /// Of all that may go out again only the frames go on that `keep` lets pass, without the rest of a control message
    /// that has begun in the lost session. The peer's other session hasn't heard that this end goes away, unless that is
    /// among them.
    pub(super) fn begin_again(&mut self, keep: impl Fn(StreamId) -> bool) {
        let go_away = self.go_away.clone();
        let is_go_away = |frame: &[u8]| go_away.as_deref() == Some(frame);
        let mut is_on_its_way = self.control.iter().any(|frame| is_go_away(frame));
        let mut cut_message = self.log.cut_message();
        self.log.begin_again(|frame| {
            is_on_its_way |= is_go_away(frame);
            keep(addressee(frame).0) && !cut_message.is_rest(frame)
        });
        self.control.retain(|frame| {
            let is_rest = cut_message.is_rest(frame);
            self.control_bytes -= if is_rest { frame.len() } else { 0 };
            !is_rest
        });
        if let Some(frame) = go_away.filter(|_| !is_on_its_way) {
            self.queue_control(frame);
        }
    }

    // === how much may be on its way ===

    /// A segment's round trip on an ordered connection takes `rtt` now; gives what a stream may send per round.
    pub(super) fn observe(&mut self, now: Instant, rtt: Duration) -> usize {
        let acknowledged = self.log.acknowledged_bytes();
        let limit = self.limit.observe(now, acknowledged, rtt);
        self.log.set_limit(limit);
        self.limit.carried_in(ROUND_SHARE)
    }

    /// The next connection has no lanes: what they were limited to is over.
    pub(super) fn leave_lanes(&mut self) {
        self.log.unlimit();
        self.max_datagram = MAX_PAYLOAD_LEN;
    }

    /// On lanes, in bytes.
    pub(super) fn set_limit(&mut self, bytes: usize) {
        self.log.set_limit(bytes);
    }

    /// On lanes: no stream sends anything for now.
    pub(super) fn hold(&mut self, are_held: bool) {
        self.log.hold(are_held);
    }

    #[inline]
    fn room(&self) -> SendRoom {
        if self.log.has_room() {
            SendRoom::ForAll
        } else if self.log.has_room_for_newcomer() {
            SendRoom::ForNewcomers
        } else {
            SendRoom::None
        }
    }

    /// An error when too much waits for a peer that doesn't read or acknowledge.
    #[inline]
    pub(super) fn check_bounds(&self, streams: &Streams) -> Result<(), Violation> {
        let too_much = self.control_bytes > MAX_CONTROL_BYTES
            || streams.lingering() > MAX_CLOSED
            || self.log.is_overrun();
        if too_much {
            Err(Violation::Excessive)
        } else {
            Ok(())
        }
    }

    /// Nothing is left to send or to be acknowledged, beside the streams.
    pub(super) fn is_flushed(&self) -> bool {
        self.log.bytes() == 0 && self.control.is_empty()
    }

    // === what waits ===

    /// Queues a part of a control message, or a whole one.
    pub(super) fn push_control(&mut self, payload: &[u8]) {
        self.queue_control(session_frame(FrameKind::Control, &[payload]));
    }

    /// Queues GOAWAY.
    pub(super) fn push_go_away(&mut self, parts: &[&[u8]]) {
        let frame = session_frame(FrameKind::GoAway, parts);
        self.go_away = Some(frame.clone());
        self.queue_control(frame);
    }

    fn queue_control(&mut self, frame: Bytes) {
        self.control_bytes += frame.len();
        self.control.push_back(frame);
    }

    /// In bytes.
    pub(super) fn max_datagram(&self) -> usize {
        self.max_datagram
    }

    /// The largest datagram that the path carries, in bytes.
    pub(super) fn set_max_datagram(&mut self, bytes: usize) {
        self.max_datagram = bytes.min(MAX_PAYLOAD_LEN);
    }

    /// Queues a datagram, if there is a connection.
    pub(super) fn push_datagram(&mut self, now: Instant, datagram: Bytes, is_attached: bool) {
        debug_assert!((1..=self.max_datagram).contains(&datagram.len()));
        if is_attached {
            self.datagrams.push(now, datagram, false);
        } else {
            self.datagrams.count_detached();
        }
    }

    /// As `push_datagram` for one whose loss isn't counted.
    pub(super) fn push_notice(&mut self, now: Instant, datagram: Bytes, is_attached: bool) {
        debug_assert!((1..=self.max_datagram).contains(&datagram.len()));
        if is_attached {
            self.datagrams.push(now, datagram, true);
        }
    }

    pub(super) fn count_oversized_datagram(&mut self) {
        self.datagrams.count_oversized();
    }

    pub(super) fn has_datagrams(&self) -> bool {
        !self.datagrams.is_empty()
    }

    pub(super) fn datagram_drops(&self) -> DatagramDrops {
        self.datagrams.drops()
    }

    // === what leaves ===

    /// The next thing to send on the current connection. Once given it counts as sent. `received` is the number of the
    /// peer's frames that an ACK confirms; with `with_datagrams` the connection takes some now.
    #[inline]
    pub(super) fn next(
        &mut self,
        now: Instant,
        with_datagrams: bool,
        received: u64,
        link: &mut Link,
        greeting: &mut Greeting,
        streams: &mut Streams,
    ) -> Option<LaneOutput> {
        if !link.is_attached() {
            return None;
        }
        if greeting.take_begin() {
            return Some(on_session(session_frame(FrameKind::Begin, &[])));
        }
        let is_busy = streams.table.active() > 0 || !self.is_caught_up();
        link.set_busy(now, is_busy);
        // ACK not before replay and refusals: to the peer it also says that all has come that this end
        // has to say about streams which those frames end.
        let may_ack = || !self.log.is_replaying() && !streams.has_refusals();
        if let Some(signal) = link.next_signal(now, streams.carrier, may_ack) {
            return Some(on_session(signal_frame(signal, received)));
        }
        if let Some(frame) = self.log.replay() {
            let (id, is_own_lane) = addressee(&frame);
            let lane = if is_own_lane { id } else { StreamId::SESSION };
            return Some(LaneOutput::Frame {
                lane,
                frame,
                urgency: Urgency::Turn,
            });
        }
        if let Some(urgent) = self.next_urgent(streams) {
            let UrgentFrame {
                lane,
                frame,
                stream,
            } = urgent;
            self.log.push(frame.clone(), 0);
            if let Some(index) = stream {
                streams.free_if_done(index, self.parting(streams.carrier));
            }
            return Some(LaneOutput::Frame {
                lane,
                frame,
                urgency: Urgency::Control,
            });
        }
        // Before the Welcome these might have to go out again, on another connection.
        let is_welcome = greeting.is_welcome();
        if is_welcome && let Some(lane) = streams.closed.next_lane() {
            return Some(LaneOutput::Finish(lane));
        }
        self.next_of_streams(now, with_datagrams && is_welcome, streams)
    }

    /// The next frame of the control tier.
    #[inline]
    fn next_urgent(&mut self, streams: &mut Streams) -> Option<UrgentFrame> {
        let of_session = |frame| UrgentFrame {
            lane: StreamId::SESSION,
            frame,
            stream: None,
        };
        if let Some(credit) = streams.credit.take_announcement() {
            let frame = session_frame(FrameKind::Credit, &[&credit.to_be_bytes()]);
            return Some(of_session(frame));
        }
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= frame.len();
            return Some(of_session(frame));
        }
        if !streams.has_urgent() {
            return None;
        }
        streams.next_urgent(self.parting(streams.carrier))
    }

    /// A frame of the stream whose turn it is, or a datagram. Where both wait, neither takes more than half for long.
    #[inline]
    fn next_of_streams(
        &mut self,
        now: Instant,
        with_datagrams: bool,
        streams: &mut Streams,
    ) -> Option<LaneOutput> {
        let index = streams.next_turn(now, self.room());
        let is_datagrams_turn = index.is_none() || self.datagram_debt < DATAGRAM_BURST;
        if with_datagrams
            && is_datagrams_turn
            && let Some(datagram) = self.datagrams.pop(now)
        {
            if index.is_some() {
                self.datagram_debt += datagram.len() + DATAGRAM_OVERHEAD;
            }
            return Some(LaneOutput::Datagram(datagram));
        }
        let index = index?;
        let urgency = Urgency::from(streams.choice());
        let (lane, frame) = streams.emit(now, index, &mut self.log)?;
        self.datagram_debt = self.datagram_debt.saturating_sub(frame.len());
        Some(LaneOutput::Frame {
            lane,
            frame,
            urgency,
        })
    }
}

/// An output for lanes as the one connection has it, which has no lanes to end.
pub(super) fn as_frame(output: LaneOutput) -> Option<Bytes> {
    match output {
        LaneOutput::Frame { frame, .. } => Some(frame),
        LaneOutput::Datagram(datagram) => Some(session_frame(FrameKind::Datagram, &[&datagram])),
        LaneOutput::Finish(_) => None,
    }
}

/// A frame of the session itself.
#[inline]
fn session_frame(kind: FrameKind, parts: &[&[u8]]) -> Bytes {
    encode(kind, StreamId::SESSION, parts)
}

#[inline]
fn signal_frame(signal: Signal, received: u64) -> Bytes {
    let (kind, number) = match signal {
        Signal::Pong(nonce) => (FrameKind::Pong, nonce),
        Signal::Ack => (FrameKind::Ack, received),
        Signal::Ping(nonce) => (FrameKind::Ping, nonce),
    };
    session_frame(kind, &[&number.to_be_bytes()])
}

#[inline]
fn on_session(frame: Bytes) -> LaneOutput {
    LaneOutput::Frame {
        lane: StreamId::SESSION,
        frame,
        urgency: Urgency::Control,
    }
}
