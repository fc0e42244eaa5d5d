//! What came in: each frame checked against what the peer may do, then applied.

use super::{
    Carrier, Event, GoAwayCode, Link, MAX_CREDIT, Role, Session, SessionError, StreamKey, Violation,
};
use crate::lanes::order::MAX_GAPS;
use crate::mux::keepalive::Unasked;
use crate::mux::stream::{AbortCode, Opener, ReceiveHalf, SendHalf, SendState, StreamEnd};
use crate::mux::window::ReceiveWindow;
use crate::wire::frame::{
    Frame, FrameDecoder, FrameKind, HEADER_LEN, MAX_PAYLOAD_LEN, StreamId, take_u32, take_u64,
};
use bytes::{Buf, Bytes};
use std::time::{Duration, Instant};

/// Lanes without a live stream on which a frame is unfinished: an OPEN, or payload that nobody wants and that isn't
/// kept. Each costs at most 400 bytes; as many as streams of an edge may be given up at once.
const MAX_UNFINISHED: usize = 1 << 14;

enum Found {
    Open(usize),
    /// Closed here, and the peer may not know yet.
    Closed,
    /// Closed long ago: the peer should know better.
    Forgotten,
}

impl Session {
    /// Tells the owner, once, that nothing is heard any more.
    pub(super) fn check_silence(&mut self, now: Instant) {
        if let Link::Attached(keepalive) = &self.link
            && keepalive.is_dead(now)
            && !std::mem::replace(&mut self.silent, true)
        {
            self.events.push_back(Event::Silent);
        }
    }

    /// Whether nothing was heard for 8 s, on lanes.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Anything at all has come from the peer.
    pub fn heard(&mut self, now: Instant) {
        if let Link::Attached(keepalive) = &mut self.link {
            keepalive.heard(now);
            if std::mem::take(&mut self.silent) {
                self.events.push_back(Event::Heard);
            }
        }
    }

    /// Bytes from the current connection. On error close it: the peer broke the protocol.
    pub fn handle_input(&mut self, now: Instant, mut input: Bytes) -> Result<(), SessionError> {
        if !self.is_attached() {
            return Ok(());
        }
        self.heard(now);
        while let Some(frame) = self.decoder.next(&mut input)? {
            self.handle_frame(now, frame)?;
        }
        self.announce_credit();
        self.check_bounds()
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
        let mut decoder = self.decoders.remove(&lane).unwrap_or_default();
        while let Some(frame) = decoder.next(&mut input)? {
            check_lane(lane, frame.kind, frame.stream)?;
            self.handle_frame(now, frame)?;
        }
        if !decoder.is_empty() {
            self.check_unfinished(lane, &mut decoder)?;
            self.decoders.insert(lane, decoder);
        }
        self.announce_credit();
        self.check_bounds()
    }

    /// What an unfinished frame keeps until the rest comes is bounded: payload by the credit that was given for it.
    fn check_unfinished(
        &self,
        lane: StreamId,
        decoder: &mut FrameDecoder,
    ) -> Result<(), Violation> {
        if self.decoders.len() >= self.streams.0.len() + MAX_UNFINISHED {
            return Err(Violation::Excessive);
        }
        let Some(head) = decoder.head() else {
            return Ok(());
        };
        check_lane(lane, head.kind, head.stream)?;
        if head.kind != FrameKind::Data {
            return Ok(());
        }
        let index = self.ids.get(&lane).copied();
        let Some(stream) = index.and_then(|index| self.streams.0.get(index)) else {
            if !self.was_opened(lane) {
                return Err(Violation::NeverOpened {
                    id: lane,
                    kind: head.kind,
                });
            }
            decoder.forget_payload();
            return Ok(());
        };
        if !stream.receive.window.has_credit(head.length) {
            return Err(Violation::CreditExceeded(lane));
        }
        if stream.receive.is_done() {
            decoder.forget_payload();
        }
        Ok(())
    }

    /// The peer has ended a lane: it sends nothing more there. Its stream must have ended before. Until then read
    /// it, whatever became of the stream: each frame counts for the peer's acknowledgements.
    pub fn handle_lane_end(&mut self, lane: StreamId) -> Result<(), SessionError> {
        let is_cut = self.decoders.remove(&lane).is_some();
        if is_cut || lane == StreamId::SESSION || !self.was_opened(lane) {
            return Err(Violation::BadLane(lane).into());
        }
        let index = self.ids.get(&lane).copied();
        let stream = index.and_then(|index| Some((index, self.streams.0.get(index)?)));
        if let Some((index, stream)) = stream.filter(|(_, stream)| !stream.receive.is_done()) {
            // An empty lane is the peer's answer to an OPEN behind its GOAWAY, which it may overtake.
            let is_empty = stream.opener == Opener::Local && stream.receive.window.is_untouched();
            if !is_empty {
                return Err(Violation::BadLane(lane).into());
            }
            self.lose_stream(index, AbortCode::Refused);
        }
        Ok(())
    }

    /// A datagram that came beside the lanes. One that no frame could carry is dropped.
    pub fn handle_datagram(&mut self, now: Instant, datagram: Bytes) {
        self.heard(now);
        if (1..=MAX_PAYLOAD_LEN).contains(&datagram.len()) {
            self.events.push_back(Event::Datagram(datagram));
        }
    }

    fn handle_frame(&mut self, now: Instant, frame: Frame) -> Result<(), SessionError> {
        let Frame {
            kind,
            stream: id,
            mut payload,
        } = frame;
        if self.expects_begin {
            self.expects_begin = kind != FrameKind::Begin;
            return Ok(());
        }
        if kind.is_numbered() {
            self.received += 1;
            if let Link::Attached(keepalive) = &mut self.link {
                keepalive.received_numbered(now, HEADER_LEN + payload.len(), self.carrier);
            }
        }
        match kind {
            FrameKind::Open => self.handle_open(now, id, payload)?,
            FrameKind::Data => self.handle_data(now, id, payload)?,
            FrameKind::Fin => self.handle_end(now, id, kind, StreamEnd::Finished)?,
            FrameKind::Abort => {
                let code = AbortCode::from_wire(payload.get_u8());
                self.handle_end(now, id, kind, StreamEnd::Aborted(code))?;
            }
            FrameKind::Cancel => self.handle_cancel(now, id)?,
            FrameKind::Window => self.handle_window(now, id, take_u32(&mut payload))?,
            FrameKind::Control => self.events.push_back(Event::Control(payload)),
            FrameKind::GoAway => self.handle_go_away(&mut payload),
            FrameKind::Credit => {
                let credit = take_u32(&mut payload);
                if credit > MAX_CREDIT {
                    return Err(Violation::BadCredit(id).into());
                }
                self.peer_credit = credit;
            }
            FrameKind::Ping => {
                let nonce = take_u64(&mut payload);
                let Link::Attached(keepalive) = &mut self.link else {
                    return Ok(());
                };
                if !keepalive.received_ping(now, nonce) {
                    self.glitch(now)?;
                }
            }
            FrameKind::Pong => {
                let Link::Attached(keepalive) = &mut self.link else {
                    return Ok(());
                };
                match keepalive.received_pong(now, take_u64(&mut payload)) {
                    Ok(rtt) => self.rtt = rtt.or(self.rtt),
                    Err(Unasked) => self.glitch(now)?,
                }
            }
            FrameKind::Ack => {
                let received = take_u64(&mut payload);
                self.acknowledged(received)?;
                self.closed.acknowledge(received);
                self.wake_starved();
            }
            FrameKind::Datagram => self.events.push_back(Event::Datagram(payload)),
            FrameKind::Begin => self.glitch(now)?,
        }
        Ok(())
    }

    fn handle_open(
        &mut self,
        now: Instant,
        id: StreamId,
        mut payload: Bytes,
    ) -> Result<(), SessionError> {
        let peers = u32::from(self.role == Role::Hub);
        let is_new = match self.carrier {
            Carrier::Ordered => id.0 > self.highest_peer_id,
            Carrier::Lanes => self.lanes.open(id, 2 - peers),
        };
        if id.0 % 2 != peers || !is_new {
            return Err(Violation::BadStreamId(id).into());
        }
        self.highest_peer_id = self.highest_peer_id.max(id.0);
        let is_cancelled = self.early_cancels.remove(&id.0);
        let credit = take_u32(&mut payload);
        let assumed = take_u32(&mut payload);
        if credit > MAX_CREDIT {
            return Err(Violation::BadCredit(id).into());
        }
        if assumed > self.most_announced_credit {
            return Err(Violation::CreditExceeded(id).into());
        }
        // The peer knows, or is about to learn, that nothing of it is looked at.
        if self.is_refused_by_go_away(id) {
            if self.carrier == Carrier::Lanes {
                self.finished_lanes.push_back(id);
            }
            return Ok(());
        }
        // On lanes it may be late: the GOAWAY named a later one, and yet nothing new is accepted.
        if self.last_served_id != u32::MAX {
            self.refuse(id, AbortCode::Refused);
            return Ok(());
        }
        if self.peer_streams >= self.max_peer_streams {
            self.refuse(id, AbortCode::Overloaded);
            return Ok(());
        }
        let Some(window) = ReceiveWindow::new(&self.budget, assumed, now) else {
            self.refuse(id, AbortCode::Overloaded);
            return Ok(());
        };
        let send = SendHalf::new(&self.budget, credit, None, now);
        let key = self.insert(Some(id), Opener::Peer, send, ReceiveHalf::new(window, now));
        self.peer_streams += 1;
        self.ids.insert(id, key.index);
        self.events.push_back(Event::Opened {
            key,
            header: payload,
        });
        if is_cancelled {
            self.handle_cancel(now, id)?;
        }
        Ok(())
    }

    fn handle_data(
        &mut self,
        now: Instant,
        id: StreamId,
        payload: Bytes,
    ) -> Result<(), SessionError> {
        if payload.is_empty() {
            self.glitch(now)?;
        }
        let Some(index) = self.find(now, id, FrameKind::Data)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.0.get_mut(index) else {
            return Ok(());
        };
        let receive = &mut stream.receive;
        if receive.end.is_some() {
            return Err(Violation::AfterEnd(id).into());
        }
        let exceeded = |_| Violation::CreditExceeded(id);
        receive.window.receive(payload.len()).map_err(exceeded)?;
        if receive.discarding || payload.is_empty() {
            return Ok(());
        }
        receive.rate.record(now, payload.len());
        self.totals.received += payload.len() as u64;
        receive.queue.push_back(payload);
        self.announce_readable(index);
        Ok(())
    }

    /// FIN or ABORT. An ABORT may follow a FIN: then the other direction died too.
    fn handle_end(
        &mut self,
        now: Instant,
        id: StreamId,
        kind: FrameKind,
        end: StreamEnd,
    ) -> Result<(), SessionError> {
        let Some(index) = self.find(now, id, kind)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.0.get_mut(index) else {
            return Ok(());
        };
        let aborted = matches!(end, StreamEnd::Aborted(_));
        match stream.receive.end {
            Some(StreamEnd::Aborted(_)) => return Err(Violation::AfterEnd(id).into()),
            Some(StreamEnd::Finished) if !aborted => return Err(Violation::AfterEnd(id).into()),
            Some(StreamEnd::Finished) | None => {}
        }
        stream.receive.end = Some(end);
        stream.receive.window.close();
        stream.drop_late_abort();
        if aborted {
            self.stop_sending(index);
        }
        self.announce_readable(index);
        self.free_if_done(index);
        Ok(())
    }

    fn handle_cancel(&mut self, now: Instant, id: StreamId) -> Result<(), SessionError> {
        if self.is_still_to_come(id) {
            let early = &mut self.early_cancels;
            early.insert(id.0);
            if early.len() > MAX_GAPS {
                return Err(Violation::Excessive.into());
            }
            return Ok(());
        }
        let Some(index) = self.find(now, id, FrameKind::Cancel)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.0.get_mut(index) else {
            return Ok(());
        };
        if let SendState::Ending(StreamEnd::Aborted(_)) = stream.send.state {
            // This still has to tell the peer that its own payload isn't wanted.
            stream.send.discard();
            stream.send.over = true;
            stream.drop_late_abort();
        } else if !stream.send.is_done() {
            let (generation, released) = (stream.generation, stream.released);
            self.stop_sending(index);
            if !released {
                self.events
                    .push_back(Event::SendStopped(StreamKey { index, generation }));
            }
        }
        self.free_if_done(index);
        Ok(())
    }

    /// Nothing more will be sent on this stream, not even an end.
    fn stop_sending(&mut self, index: usize) {
        let Some(stream) = self.streams.0.get_mut(index) else {
            return;
        };
        if stream.send.open.is_some() {
            self.unopened -= 1;
            self.unconfirmed.vanished(stream.assumed);
        }
        stream.send.discard();
        stream.send.state = SendState::Done;
        stream.send.over = true;
    }

    fn handle_window(&mut self, now: Instant, id: StreamId, more: u32) -> Result<(), SessionError> {
        if more == 0 {
            return Err(Violation::BadCredit(id).into());
        }
        let Some(index) = self.find(now, id, FrameKind::Window)? else {
            return Ok(());
        };
        let Some(stream) = self.streams.0.get_mut(index) else {
            return Ok(());
        };
        let credit = stream.send.credit + u64::from(more);
        if credit > u64::from(MAX_CREDIT) {
            return Err(Violation::BadCredit(id).into());
        }
        stream.send.credit = credit;
        self.notify_room(index);
        Ok(())
    }

    fn handle_go_away(&mut self, payload: &mut Bytes) {
        let code = GoAwayCode::from_wire(payload.get_u8());
        let retry_after = Duration::from_millis(take_u32(payload).into());
        let last = take_u32(payload);
        if self.peer_going_away {
            return;
        }
        self.peer_going_away = true;
        self.events.push_back(Event::GoAway { code, retry_after });
        // Nothing of these was looked at: opening them elsewhere is safe.
        let refused = self.streams.0.iter().filter(|(_, stream)| {
            stream.opener == Opener::Local && stream.id.is_none_or(|id| id.0 > last)
        });
        let refused: Vec<usize> = refused.map(|(index, _)| index).collect();
        for index in refused {
            self.lose_stream(index, AbortCode::Refused);
        }
    }

    /// The peer doesn't know this stream, or not any more.
    pub(super) fn lose_stream(&mut self, index: usize, code: AbortCode) {
        self.stop_sending(index);
        let Some(stream) = self.streams.0.get_mut(index) else {
            return;
        };
        stream.receive.end.get_or_insert(StreamEnd::Aborted(code));
        stream.receive.window.close();
        self.announce_readable(index);
        self.free_if_done(index);
    }

    /// The live stream that a frame concerns; None if the frame is of no consequence.
    fn find(
        &mut self,
        now: Instant,
        id: StreamId,
        kind: FrameKind,
    ) -> Result<Option<usize>, SessionError> {
        let found = match self.ids.get(&id) {
            Some(index) => Found::Open(*index),
            // Which lane is ahead of which is the network's choice, but each begins with its OPEN.
            None if self.carrier == Carrier::Lanes => {
                if !self.was_opened(id) {
                    return Err(Violation::NeverOpened { id, kind }.into());
                }
                Found::Closed
            }
            None if self.closed.contains(id) || self.is_refused_by_go_away(id) => Found::Closed,
            None => {
                let own = u32::from(self.role == Role::Edge);
                let highest = if id.0 % 2 == own {
                    self.next_id.saturating_sub(2)
                } else {
                    self.highest_peer_id
                };
                if id.0 > highest {
                    return Err(Violation::NeverOpened { id, kind }.into());
                }
                Found::Forgotten
            }
        };
        match found {
            Found::Open(index) => Ok(Some(index)),
            Found::Closed => Ok(None),
            Found::Forgotten => self.glitch(now).map(|()| None),
        }
    }

    fn is_peers(&self, id: StreamId) -> bool {
        id.0 % 2 == u32::from(self.role == Role::Hub)
    }

    /// On lanes: whether either end has opened it before.
    fn was_opened(&self, id: StreamId) -> bool {
        if self.is_peers(id) {
            self.lanes.has_opened(id)
        } else {
            id.0 < self.next_id
        }
    }

    /// On lanes a CANCEL may be faster than its stream's OPEN.
    fn is_still_to_come(&self, id: StreamId) -> bool {
        self.carrier == Carrier::Lanes && self.is_peers(id) && !self.lanes.has_opened(id)
    }

    /// The peer opened it after the last one that a GOAWAY promised to serve.
    fn is_refused_by_go_away(&self, id: StreamId) -> bool {
        let peers = u32::from(self.role == Role::Hub);
        id.0 % 2 == peers && id.0 > self.last_served_id && id.0 <= self.highest_peer_id
    }

    fn glitch(&mut self, now: Instant) -> Result<(), SessionError> {
        if self.glitches.record(now) {
            Ok(())
        } else {
            Err(Violation::Excessive.into())
        }
    }
}

/// Frames of a stream that come in order travel on its lane, all others on the session's; datagrams on none.
fn check_lane(lane: StreamId, kind: FrameKind, stream: StreamId) -> Result<(), Violation> {
    let own = if kind.travels_with_stream() {
        stream
    } else {
        StreamId::SESSION
    };
    if own != lane || kind == FrameKind::Datagram {
        return Err(Violation::BadLane(lane));
    }
    Ok(())
}
