//! What goes out, in which order: liveness, replay, control, then streams as the scheduler says.

use super::{
    Carrier, Event, GoAwayCode, Link, MAX_CONTROL_BYTES, Session, SessionError, StreamKey,
    Violation,
};
use crate::lanes::{LaneOutput, Urgency};
use crate::mux::datagrams::DATAGRAM_OVERHEAD;
use crate::mux::stream::{AbortCode, SendState, StreamEnd};
use crate::wire::frame::{FrameKind, StreamId, addressee, encode};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Datagrams may get so far ahead of streams that wait beside them: 64 KiB, the largest datagram in fragments.
const DATAGRAM_BURST: usize = 64 * 1_024;

impl Session {
    /// The next frame to send on the current connection. Once given it counts as sent; if the
    /// connection dies with it, replay brings it again.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        match self.next_output(now, true)? {
            LaneOutput::Frame { frame, .. } => Some(frame),
            LaneOutput::Datagram(datagram) => {
                Some(session_frame(FrameKind::Datagram, &[&datagram]))
            }
            LaneOutput::Finish(_) => None,
        }
    }

    /// What to do next on the lanes; `with_datagrams` if the connection takes some now.
    pub fn poll_lane(&mut self, now: Instant, with_datagrams: bool) -> Option<LaneOutput> {
        self.next_output(now, with_datagrams)
    }

    fn next_output(&mut self, now: Instant, with_datagrams: bool) -> Option<LaneOutput> {
        let on_session = |frame| LaneOutput::Frame {
            lane: StreamId::SESSION,
            frame,
            urgency: Urgency::Control,
        };
        let Link::Attached(keepalive) = &mut self.link else {
            return None;
        };
        if std::mem::take(&mut self.begin_due) {
            return Some(on_session(session_frame(FrameKind::Begin, &[])));
        }
        if keepalive.is_due(now) {
            if let Some(nonce) = keepalive.take_pong() {
                return Some(on_session(session_frame(
                    FrameKind::Pong,
                    &[&nonce.to_be_bytes()],
                )));
            }
            // Not before replay and refusals: to the peer an ACK also says that what this end
            // has to say about streams that those frames end has come.
            let may_ack = !self.log.is_replaying() && self.refusals.is_empty();
            if may_ack && keepalive.take_ack(now) {
                return Some(on_session(session_frame(
                    FrameKind::Ack,
                    &[&self.received.to_be_bytes()],
                )));
            }
            if let Some(nonce) = keepalive.take_ping(now, self.carrier) {
                return Some(on_session(session_frame(
                    FrameKind::Ping,
                    &[&nonce.to_be_bytes()],
                )));
            }
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
        if let Some((lane, frame, ended)) = self.next_control() {
            self.log.push(frame.clone(), 0);
            if let Some(index) = ended {
                self.free_if_done(index);
            }
            return Some(LaneOutput::Frame {
                lane,
                frame,
                urgency: Urgency::Control,
            });
        }
        // Before the Welcome these might have to go out again, on another connection.
        if self.is_welcome
            && let Some(lane) = self.finished_lanes.pop_front()
        {
            return Some(LaneOutput::Finish(lane));
        }
        let index = if self.log.has_room() {
            self.scheduler.next(now, &mut self.streams)
        } else if self.log.has_room_for_newcomer() {
            self.scheduler.next_newcomer(&mut self.streams)
        } else {
            None
        };
        // What a peer's datagrams take from its streams, and the other way round, is at most half.
        let is_datagrams_turn = index.is_none() || self.datagram_debt < DATAGRAM_BURST;
        if with_datagrams
            && is_datagrams_turn
            && self.is_welcome
            && let Some(datagram) = self.datagrams.pop(now)
        {
            if index.is_some() {
                self.datagram_debt += datagram.len() + DATAGRAM_OVERHEAD;
            }
            return Some(LaneOutput::Datagram(datagram));
        }
        let urgency = Urgency::from(self.scheduler.choice());
        let (lane, frame) = self.emit(now, index?)?;
        self.datagram_debt = self.datagram_debt.saturating_sub(frame.len());
        Some(LaneOutput::Frame {
            lane,
            frame,
            urgency,
        })
    }

    /// On lanes: how many bytes may be on their way to the peer, at most 32 MiB. Little more than what the path
    /// holds keeps what waits in our own order.
    pub fn set_send_limit(&mut self, bytes: usize) {
        self.log.set_limit(bytes);
    }

    /// On lanes: whether no stream sends anything for now; control does.
    pub fn hold_streams(&mut self, are_held: bool) {
        self.log.hold(are_held);
    }

    /// Queues a datagram of 1 to `max_datagram` bytes; it leaves within 500 ms or not at all.
    pub fn send_datagram(&mut self, now: Instant, datagram: Bytes) {
        debug_assert!((1..=self.max_datagram).contains(&datagram.len()));
        if self.is_attached() {
            self.datagrams.push(now, datagram, false);
        } else {
            self.datagrams.count_detached();
        }
    }

    /// As [`Self::send_datagram`] for what tells the peer about a flow: the next payload brings it about again,
    /// so that it isn't counted where it is lost.
    pub fn send_notice(&mut self, now: Instant, datagram: Bytes) {
        debug_assert!((1..=self.max_datagram).contains(&datagram.len()));
        if self.is_attached() {
            self.datagrams.push(now, datagram, true);
        }
    }

    /// The next frame of the control tier with its lane, and the stream that may end with it.
    fn next_control(&mut self) -> Option<(StreamId, Bytes, Option<usize>)> {
        let session = StreamId::SESSION;
        if std::mem::take(&mut self.credit_due) {
            let credit = self.announced_credit.to_be_bytes();
            return Some((session, session_frame(FrameKind::Credit, &[&credit]), None));
        }
        if let Some(frame) = self.control.pop_front() {
            self.control_bytes -= frame.len();
            return Some((session, frame, None));
        }
        if let Some((id, code)) = self.refusals.pop_front() {
            match self.carrier {
                Carrier::Ordered => self.closed.insert(self.log.next() + 1, id),
                Carrier::Lanes => self.finished_lanes.push_back(id),
            }
            return Some((id, encode(FrameKind::Abort, id, &[&[code as u8]]), None));
        }
        while let Some(index) = self.cancels.pop_front() {
            let Some(stream) = self.streams.0.get_mut(index) else {
                continue;
            };
            let Some(id) = stream.id else { continue };
            if !std::mem::take(&mut stream.cancel_due) {
                continue;
            }
            if stream.receive.end.is_some() {
                self.free_if_done(index);
                continue;
            }
            stream.cancelled = true;
            stream.drop_late_abort();
            return Some((session, encode(FrameKind::Cancel, id, &[]), Some(index)));
        }
        while let Some(index) = self.windows.pop_front() {
            let Some(stream) = self.streams.0.get_mut(index) else {
                continue;
            };
            let more = std::mem::take(&mut stream.window_due);
            let Some(id) = stream.id else { continue };
            if more > 0 && !stream.receive.is_done() {
                let frame = encode(FrameKind::Window, id, &[&more.to_be_bytes()]);
                return Some((session, frame, None));
            }
        }
        None
    }

    /// The next frame of the stream that the scheduler chose.
    fn emit(&mut self, now: Instant, index: usize) -> Option<(StreamId, Bytes)> {
        let stream = self.streams.0.get_mut(index)?;
        let (id, frame, cost) = if let Some(open) = stream.send.open.take() {
            let id = StreamId(self.next_id);
            self.next_id += 2;
            self.unopened -= 1;
            self.unconfirmed.sent(self.log.next(), stream.assumed);
            stream.id = Some(id);
            self.ids.insert(id, index);
            if stream.cancel_due {
                self.cancels.push_back(index);
            }
            (id, encode(FrameKind::Open, id, &[&open]), 0)
        } else {
            let id = stream.id?;
            if let Some(buffer) = stream.send.pop() {
                let (cost, len) = (buffer.cost(), buffer.len());
                stream.send.rate.record(now, len);
                self.totals.sent += len as u64;
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
            .sent(index, frame.len(), tier, &mut self.streams);
        self.log.push(frame.clone(), cost);
        self.notify_room(index);
        self.free_if_done(index);
        Some((id, frame))
    }

    /// Queues a control message of 1 to 1,024 bytes.
    pub fn send_control(&mut self, payload: &[u8]) {
        debug_assert!((1..=1_024).contains(&payload.len()));
        self.push_control(session_frame(FrameKind::Control, &[payload]));
    }

    /// Opens and accepts no more: streams that the peer opened before it hears of it are still
    /// accepted, unless `code` is [`GoAwayCode::EnhanceYourCalm`] or [`GoAwayCode::Replaced`].
    pub fn go_away(&mut self, code: GoAwayCode, retry_after: Duration) {
        if self.going_away {
            return;
        }
        self.going_away = true;
        if matches!(code, GoAwayCode::EnhanceYourCalm | GoAwayCode::Replaced) {
            self.last_served_id = self.highest_peer_id;
        }
        let last = self.last_served_id;
        let delay = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let parts: [&[u8]; 3] = [&[code as u8], &delay.to_be_bytes(), &last.to_be_bytes()];
        self.push_control(session_frame(FrameKind::GoAway, &parts));
    }

    pub(super) fn push_control(&mut self, frame: Bytes) {
        self.control_bytes += frame.len();
        self.control.push_back(frame);
    }

    /// Tells the peer what new streams may assume, when that has changed.
    pub(super) fn announce_credit(&mut self) {
        let credit = self.budget.initial_credit();
        if credit != self.announced_credit {
            self.announced_credit = credit;
            self.most_announced_credit = self.most_announced_credit.max(credit);
            self.credit_due = true;
        }
    }

    /// What waits for a peer that doesn't read or acknowledge is bounded.
    pub(super) fn check_bounds(&self) -> Result<(), SessionError> {
        let refused = match self.carrier {
            Carrier::Ordered => self.closed.len(),
            Carrier::Lanes => self.refusals.len() + self.finished_lanes.len(),
        };
        let too_much = self.control_bytes > MAX_CONTROL_BYTES
            || self.streams.0.len() - self.active_streams + refused > super::MAX_CLOSED
            || self.log.is_overrun();
        if too_much {
            Err(Violation::Excessive.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn announce_readable(&mut self, index: usize) {
        let Some(stream) = self.streams.0.get_mut(index) else {
            return;
        };
        if !stream.receive.announced && !stream.released {
            stream.receive.announced = true;
            let key = StreamKey {
                index,
                generation: stream.generation,
            };
            self.events.push_back(Event::Readable(key));
        }
    }

    pub(super) fn refuse(&mut self, id: StreamId, code: AbortCode) {
        if self.carrier == Carrier::Ordered {
            self.closed.expect(id);
        }
        self.refusals.push_back((id, code));
        self.events.push_back(Event::Refused);
    }
}

fn session_frame(kind: FrameKind, parts: &[&[u8]]) -> Bytes {
    encode(kind, StreamId::SESSION, parts)
}
