//! The way in: pieces are put together to frames, and each frame of a stream is checked against the peer's rights.

use super::loss::lose;
use super::streams::{Found, Streams};
use crate::mux::carrier::Carrier;
use crate::mux::closed::Parting;
use crate::mux::config::MAX_CREDIT;
use crate::mux::error::{SessionError, Violation};
use crate::mux::event::Event;
use crate::mux::glitch::GlitchBucket;
use crate::mux::stream::{AbortCode, Opener, ReceiveHalf, SendHalf, SendState, Stream, StreamEnd};
use crate::mux::window::ReceiveWindow;
use crate::wire::frame::{Frame, FrameDecoder, FrameError, FrameKind, StreamId, take_u32};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Instant;

/// Lanes without a live stream on which a frame is unfinished: an OPEN, or payload that nobody wants and that isn't
/// kept. Each costs at most 400 bytes; as many as streams of an edge may be given up at once.
const MAX_UNFINISHED: usize = 1 << 14;

/// The peer's unfinished frames, how many came, and how well it behaves.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Of an ordered connection.
    decoder: FrameDecoder,
    /// On lanes, of unfinished frames; the session's own is [`StreamId::SESSION`].
    lanes: HashMap<StreamId, FrameDecoder>,
    /// Numbered frames received.
    numbered: u64,
    max_peer_streams: usize,
    glitches: GlitchBucket,
}

impl Receiving {
    pub(super) fn new(max_peer_streams: usize, now: Instant) -> Self {
        Self {
            decoder: FrameDecoder::default(),
            lanes: HashMap::new(),
            numbered: 0,
            max_peer_streams,
            glitches: GlitchBucket::new(now),
        }
    }

    // === from bytes to frames ===

    /// The next whole frame of an ordered connection.
    #[inline]
    pub(super) fn next_frame(&mut self, input: &mut Bytes) -> Result<Option<Frame>, FrameError> {
        self.decoder.next(input)
    }

    /// A partial frame dies with its connection.
    pub(super) fn detach(&mut self) {
        self.decoder.reset();
    }

    /// Bytes that came on a lane and are no whole frame yet.
    #[inline]
    pub(super) fn take_lane(&mut self, lane: StreamId) -> FrameDecoder {
        self.lanes.remove(&lane).unwrap_or_default()
    }

    /// Keeps an unfinished frame until the rest comes. The bytes kept are bounded: payload by the credit that was given
    /// for it.
    #[inline]
    pub(super) fn keep_lane(
        &mut self,
        lane: StreamId,
        mut decoder: FrameDecoder,
        streams: &Streams,
    ) -> Result<(), Violation> {
        if decoder.is_empty() {
            return Ok(());
        }
        if self.lanes.len() >= streams.table.len() + MAX_UNFINISHED {
            return Err(Violation::Excessive);
        }
        if let Some(head) = decoder.head() {
            check_lane(lane, head.kind, head.stream)?;
            if head.kind == FrameKind::Data && !is_wanted(lane, head.length, streams)? {
                decoder.forget_payload();
            }
        }
        self.lanes.insert(lane, decoder);
        Ok(())
    }

    /// Nobody wants payload of this stream any more.
    #[inline]
    pub(super) fn forget_payload(&mut self, lane: StreamId) {
        if let Some(decoder) = self.lanes.get_mut(&lane) {
            decoder.forget_payload();
        }
    }

    /// The peer has ended a lane; its stream must have ended before.
    #[inline]
    pub(super) fn lane_ended(
        &mut self,
        lane: StreamId,
        streams: &mut Streams,
        parting: Parting,
    ) -> Result<(), Violation> {
        let is_cut = self.lanes.remove(&lane).is_some();
        if is_cut || lane == StreamId::SESSION || !streams.ids.was_opened(lane) {
            return Err(Violation::BadLane(lane));
        }
        let index = streams.ids.index(lane);
        let stream = index.and_then(|index| Some((index, streams.table.at(index)?)));
        if let Some((index, stream)) = stream.filter(|(_, stream)| !stream.receive.is_done()) {
            // An empty lane is the peer's answer to an OPEN after its GOAWAY, which it may overtake.
            let is_empty = stream.opener == Opener::Local && stream.receive.window.is_untouched();
            if !is_empty {
                return Err(Violation::BadLane(lane));
            }
            lose(streams, index, AbortCode::Refused, parting);
        }
        Ok(())
    }

    /// Bytes that are kept of an unfinished frame.
    #[cfg(test)]
    pub(super) fn kept(&self, lane: StreamId) -> Option<usize> {
        self.lanes.get(&lane).map(FrameDecoder::kept)
    }

    // === what is counted ===

    /// A numbered frame has come.
    #[inline]
    pub(super) fn count_numbered(&mut self) {
        self.numbered += 1;
    }

    /// Numbered frames that have come.
    pub(super) fn numbered(&self) -> u64 {
        self.numbered
    }

    /// In another session the peer counts its frames anew.
    pub(super) fn begin_again(&mut self) {
        self.numbered = 0;
    }

    /// Counts something worthless; an error when there was too much of it.
    pub(super) fn glitch(&mut self, now: Instant) -> Result<(), Violation> {
        if self.glitches.record(now) {
            Ok(())
        } else {
            Err(Violation::Excessive)
        }
    }

    #[cfg(feature = "testing")]
    pub(super) fn glitches(&self) -> u64 {
        self.glitches.total()
    }

    /// The stream that a frame concerns; None if the frame is of no consequence.
    #[inline]
    fn find(
        &mut self,
        now: Instant,
        id: StreamId,
        kind: FrameKind,
        streams: &Streams,
    ) -> Result<Option<usize>, Violation> {
        match streams.find(id, kind)? {
            Found::Known(index) => Ok(Some(index)),
            Found::Closed => Ok(None),
            Found::Forgotten => self.glitch(now).map(|()| None),
        }
    }

    // === frames of streams ===

    /// OPEN.
    #[inline]
    pub(super) fn opened(
        &mut self,
        now: Instant,
        id: StreamId,
        mut payload: Bytes,
        streams: &mut Streams,
        parting: Parting,
    ) -> Result<(), SessionError> {
        streams.ids.opened(id, streams.carrier)?;
        let is_cancelled = streams.ids.take_early_cancel(id);
        let credit = take_u32(&mut payload);
        let assumed = take_u32(&mut payload);
        if credit > MAX_CREDIT {
            return Err(Violation::BadCredit(id).into());
        }
        if !streams.credit.has_announced(assumed) {
            return Err(Violation::CreditExceeded(id).into());
        }
        // The peer knows, or is about to learn, that nothing of it is looked at.
        if streams.ids.is_refused_by_go_away(id) {
            if streams.carrier == Carrier::Lanes {
                streams.closed.insert(Parting::LaneEnd, id);
            }
            return Ok(());
        }
        // On lanes it may be late: the GOAWAY named a later one, and yet nothing new is accepted.
        if !streams.ids.is_serving() {
            streams.refuse(id, AbortCode::Refused);
            return Ok(());
        }
        if streams.table.of_peer() >= self.max_peer_streams {
            streams.refuse(id, AbortCode::Overloaded);
            return Ok(());
        }
        let Some(window) = ReceiveWindow::new(&streams.budget, assumed, now) else {
            streams.refuse(id, AbortCode::Overloaded);
            return Ok(());
        };
        let send = SendHalf::new(&streams.budget, credit, None, now);
        let receive = ReceiveHalf::new(window, now);
        let stream = Stream::new(Some(id), Opener::Peer, 0, send, receive);
        let key = streams.table.insert(stream);
        streams.ids.insert(id, key.index);
        streams.tell(Event::Opened {
            key,
            header: payload,
        });
        if is_cancelled {
            self.cancelled(now, id, streams, parting)?;
        }
        Ok(())
    }

    /// DATA.
    #[inline]
    pub(super) fn data(
        &mut self,
        now: Instant,
        id: StreamId,
        payload: Bytes,
        streams: &mut Streams,
    ) -> Result<(), SessionError> {
        if payload.is_empty() {
            self.glitch(now)?;
        }
        let Some(index) = self.find(now, id, FrameKind::Data, streams)? else {
            return Ok(());
        };
        let Some(stream) = streams.table.at_mut(index) else {
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
        let bytes = payload.len();
        receive.rate.record(now, bytes);
        receive.queue.push_back(payload);
        streams.received(index, bytes);
        Ok(())
    }

    /// FIN or ABORT. An ABORT may follow a FIN: then the other direction died too.
    #[inline]
    pub(super) fn ended(
        &mut self,
        now: Instant,
        id: StreamId,
        end: StreamEnd,
        streams: &mut Streams,
        parting: Parting,
    ) -> Result<(), SessionError> {
        let (kind, aborted) = match end {
            StreamEnd::Finished => (FrameKind::Fin, false),
            StreamEnd::Aborted(_) => (FrameKind::Abort, true),
        };
        let Some(index) = self.find(now, id, kind, streams)? else {
            return Ok(());
        };
        let Some(stream) = streams.table.at_mut(index) else {
            return Ok(());
        };
        match stream.receive.end {
            Some(StreamEnd::Aborted(_)) => return Err(Violation::AfterEnd(id).into()),
            Some(StreamEnd::Finished) if !aborted => return Err(Violation::AfterEnd(id).into()),
            Some(StreamEnd::Finished) | None => {}
        }
        stream.receive.end = Some(end);
        stream.receive.window.close();
        stream.drop_late_abort();
        if aborted {
            streams.stop_sending(index);
        }
        streams.tell_readable(index);
        streams.free_if_done(index, parting);
        Ok(())
    }

    /// CANCEL.
    #[inline]
    pub(super) fn cancelled(
        &mut self,
        now: Instant,
        id: StreamId,
        streams: &mut Streams,
        parting: Parting,
    ) -> Result<(), SessionError> {
        if streams.ids.cancelled(id, streams.carrier)? {
            return Ok(());
        }
        let Some(index) = self.find(now, id, FrameKind::Cancel, streams)? else {
            return Ok(());
        };
        let Some(stream) = streams.table.at_mut(index) else {
            return Ok(());
        };
        if let SendState::Ending(StreamEnd::Aborted(_)) = stream.send.state {
            // This still has to tell the peer that its own payload isn't wanted.
            stream.send.discard();
            stream.send.over = true;
            stream.drop_late_abort();
        } else if !stream.send.is_done() {
            let (key, released) = (stream.key(index), stream.released);
            streams.stop_sending(index);
            if !released {
                streams.tell(Event::SendStopped(key));
            }
        }
        streams.free_if_done(index, parting);
        Ok(())
    }

    /// WINDOW.
    #[inline]
    pub(super) fn granted(
        &mut self,
        now: Instant,
        id: StreamId,
        more: u32,
        streams: &mut Streams,
    ) -> Result<(), SessionError> {
        if more == 0 {
            return Err(Violation::BadCredit(id).into());
        }
        let Some(index) = self.find(now, id, FrameKind::Window, streams)? else {
            return Ok(());
        };
        let Some(stream) = streams.table.at_mut(index) else {
            return Ok(());
        };
        let credit = stream.send.credit + u64::from(more);
        if credit > u64::from(MAX_CREDIT) {
            return Err(Violation::BadCredit(id).into());
        }
        stream.send.credit = credit;
        streams.tell_room(index);
        Ok(())
    }
}

/// Frames of a stream that come in order travel on its lane, all others on the session's; datagrams on none.
pub(super) fn check_lane(
    lane: StreamId,
    kind: FrameKind,
    stream: StreamId,
) -> Result<(), Violation> {
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

/// True if somebody wants payload of this length that begins to come on a lane.
fn is_wanted(lane: StreamId, length: usize, streams: &Streams) -> Result<bool, Violation> {
    let index = streams.ids.index(lane);
    let Some(stream) = index.and_then(|index| streams.table.at(index)) else {
        return if streams.ids.was_opened(lane) {
            Ok(false)
        } else {
            Err(Violation::NeverOpened {
                id: lane,
                kind: FrameKind::Data,
            })
        };
    };
    if !stream.receive.window.has_credit(length) {
        return Err(Violation::CreditExceeded(lane));
    }
    Ok(!stream.receive.is_done())
}
